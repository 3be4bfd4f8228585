import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode } from '@flagcast/protocol';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Channel, User } from '../access/access.js';
import type { ConnectionLimits } from '../access/limits.js';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import { Connection, type Peer } from '../connection/connection.js';
import { channelKey } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';
import { plainDialect } from '../wire/plain.js';
import { answerPlain } from '../wire/plain-input.js';
import { channelFromQuery, type Door, refused, RefusedError, unavailable, type Visitor } from './door.js';
import { type Refusal, refuseUpgrade } from './refusal.js';

export interface GatewayOptions {
  door: Door;
  limits: ConnectionLimits;
  broadcaster: Broadcaster;
  lifecycle: Lifecycle;
  /** The path of the endpoint. Default `/api/ws`. */
  path?: string;
  /** How long a handshake may take before it is answered with 503, in milliseconds. Default 10,000. */
  handshakeTimeoutMs?: number;
  /**
   * Past this many bytes that a peer has not taken it is paused; more than a socket buffers before it tells
   * when it has drained (64 KiB). Default 1 MiB.
   */
  highWaterBytes?: number;
  /** A message of a peer that is longer than this many bytes ends its connection. Default 4,096. */
  maxMessageBytes?: number;
}

/** One open socket, with what the sweeps need to know of it. */
export interface OpenSocket {
  readonly id: number;
  readonly webSocket: WebSocket;
  readonly connection: Connection;
  readonly user: User;
  readonly channel: Channel;
  readonly expiresAtMs: number;
  /** False from a ping to the answer. */
  answered: boolean;
}

/** Turns upgrade requests on `/api/ws` into connections, and closes them when the server drains. */
export class Gateway {
  readonly #options: Required<GatewayOptions>;
  readonly #webSockets: WebSocketServer;
  readonly #open = new Set<OpenSocket>();
  #nextId = 1;
  #draining = false;
  #whenEmpty: (() => void) | null = null;

  constructor(options: GatewayOptions) {
    this.#options = {
      path: '/api/ws',
      handshakeTimeoutMs: 10_000,
      highWaterBytes: 1_048_576,
      maxMessageBytes: 4_096,
      ...options,
    };
    this.#webSockets = new WebSocketServer({
      noServer: true,
      // Batches are framed once and written past the library, which must not compress or queue.
      perMessageDeflate: false,
      maxPayload: this.#options.maxMessageBytes,
      // A token among the offered subprotocols is never echoed; the plain dialect has no name.
      handleProtocols: () => false,
      autoPong: false,
    });
    // The library finds fault with a handshake; the answer has the form of every other refusal.
    this.#webSockets.on('wsClientError', (error, socket, request) => {
      this.#refuse(
        request,
        socket,
        refused(400, 'bad_handshake', `This is not a WebSocket handshake: ${error.message}`).refusal,
      );
    });
  }

  get open(): ReadonlySet<OpenSocket> {
    return this.#open;
  }

  /** Answers upgrades on the endpoint's path; those on other paths are left to the server's owner. */
  attach(server: Server): void {
    server.on('upgrade', (request, socket, head) => {
      if (pathOf(request) === this.#options.path) void this.#upgrade(request, socket, head);
      else if (server.listenerCount('upgrade') === 1) {
        refuseUpgrade(
          socket,
          refused(404, 'not_found', `WebSockets are served on ${this.#options.path}`).refusal,
        );
      }
    });
  }

  /** Refuses newcomers, asks every peer to reconnect elsewhere, and waits until they have left. */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true;
    for (const { connection } of this.#open)
      connection.close(CloseCode.draining, 'the server is shutting down');
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      const giveUp = setTimeout(() => {
        for (const { webSocket } of this.#open) webSocket.terminate();
      }, timeoutMs);
      this.#whenEmpty = () => {
        clearTimeout(giveUp);
        resolve();
      };
    });
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // A peer that resets its connection during the handshake is no fault of ours.
    socket.on('error', () => socket.destroy());
    const deadline = setTimeout(
      () => this.#refuse(request, socket, unavailable),
      this.#options.handshakeTimeoutMs,
    );
    let release: (() => void) | null = null;
    try {
      this.#checkHandshake(request);
      const { door, limits } = this.#options;
      const visitor = await door.admit(request);
      const channel = await door.openChannel(visitor, channelFromQuery(queryOf(request)));
      const seat = limits.acquire(visitor.user.id, addressOf(request));
      if (typeof seat === 'string') throw refused(429, seat, tooManyMessages[seat], 5);
      release = seat;
      if (this.#draining) throw draining();
      // The peer has left meanwhile, or was told that it took too long.
      if (socket.destroyed || socket.writableEnded) {
        release();
        return;
      }
      this.#accept(request, socket, head, visitor, channel, release);
    } catch (error) {
      release?.();
      if (error instanceof RefusedError) {
        this.#refuse(request, socket, error.refusal);
      } else if (this.#draining) {
        // The database has been let go of already.
        this.#refuse(request, socket, draining().refusal);
      } else {
        this.#options.lifecycle.emit('access:failed', { error: error as Error });
        this.#refuse(request, socket, unavailable);
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  #refuse(request: IncomingMessage, socket: Duplex, refusal: Refusal): void {
    if (socket.destroyed || socket.writableEnded) return;
    refuseUpgrade(socket, refusal);
    this.#options.lifecycle.emit('connection:refused', {
      status: refusal.status,
      code: refusal.code,
      address: addressOf(request),
    });
  }

  #checkHandshake(request: IncomingMessage): void {
    if (this.#draining) throw draining();
    if (request.method !== 'GET') {
      throw refused(405, 'method_not_allowed', 'A WebSocket is opened with GET');
    }
    this.#options.door.checkOrigin(request);
    // What is missing is said before who asks is looked at: it costs nothing.
    channelFromQuery(queryOf(request));
  }

  #accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    visitor: Visitor,
    channel: Channel,
    release: () => void,
  ): void {
    let accepted = false;
    // The library answers a malformed handshake itself, and then never calls back.
    socket.once('close', () => {
      if (!accepted) release();
    });
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      accepted = true;
      this.#register(webSocket, socket, visitor, channel, release);
    });
  }

  #register(
    webSocket: WebSocket,
    socket: Duplex,
    visitor: Visitor,
    channel: Channel,
    release: () => void,
  ): void {
    const { broadcaster, lifecycle, highWaterBytes } = this.#options;
    const key = channelKey(channel.projectId, channel.environmentId);
    let closedByUs: { code: number; reason: string } | null = null;
    const peer: Peer = {
      send: (bytes) => {
        if (webSocket.readyState === webSocket.OPEN) socket.write(bytes);
      },
      close: (code, reason) => {
        closedByUs ??= { code, reason };
        webSocket.close(code, reason);
      },
      get bufferedAmount() {
        return socket.writableLength;
      },
    };
    const connection = new Connection({
      peer,
      dialect: plainDialect,
      broadcaster,
      channel: key,
      highWaterBytes,
    });
    const { user, expiresAtMs } = visitor;
    const open: OpenSocket = {
      id: this.#nextId,
      webSocket,
      connection,
      user,
      channel,
      expiresAtMs,
      answered: true,
    };
    this.#nextId += 1;
    this.#open.add(open);
    const described = { connectionId: open.id, userId: user.id, channel: key };
    socket.on('drain', () => connection.drained());
    webSocket.on('pong', () => {
      open.answered = true;
    });
    // Whoever asks and does not read the answers gets none: they would pile up here.
    const takesAnswers = (): boolean => peer.bufferedAmount <= highWaterBytes;
    webSocket.on('ping', (data) => {
      if (webSocket.readyState === webSocket.OPEN && takesAnswers()) webSocket.pong(data);
    });
    webSocket.on('message', (data, isBinary) => {
      const answer = isBinary ? null : answerPlain(data as Buffer);
      if (answer !== null && takesAnswers()) peer.send(answer);
    });
    // The library closes the connection after each of its errors, with the code that fits.
    webSocket.on('error', () => undefined);
    webSocket.once('close', (code, reason) => {
      connection.closed();
      release();
      this.#open.delete(open);
      // A peer that is cut off does not send our code back.
      const ended = closedByUs ?? { code, reason: reason.toString('utf8') };
      lifecycle.emit('connection:closed', { ...described, ...ended });
      if (this.#open.size === 0) this.#whenEmpty?.();
    });
    lifecycle.emit('connection:opened', { ...described, dialect: plainDialect.name });
  }
}

const tooManyMessages = {
  too_many_user:
    'This user has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_USER',
  too_many_address:
    'This address has too many connections open: close some, or raise FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS',
} as const;

function draining(): RefusedError {
  return refused(503, 'draining', 'The server is shutting down: connect again shortly', 1);
}

function addressOf(request: IncomingMessage): string {
  return request.socket.remoteAddress ?? 'unknown';
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

function queryOf(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? '';
  const start = url.indexOf('?');
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1));
}

import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { subprotocol } from '@flagcast/protocol';
import { type Server as SocketServer, WebSocketServer } from 'ws';
import type { Channel } from '../auth/table-authorization.js';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import type { ConnectionLimits } from '../connections/connection-limits.js';
import { subprotocolsOf } from '../auth/request-token.js';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { Connection } from '../connections/connection.js';
import { PlainSession } from '../connections/plain-session.js';
import type { Session, SessionWire } from '../connections/session.js';
import { V1Input } from '../connections/v1-input.js';
import type { Dialect } from '../events/dialect.js';
import type { Lifecycle } from '../lifecycle.js';
import { v1Wire } from '../connections/codecs/v1.js';
import { declineUpgrade, offersWebSocket } from './declined-upgrade.js';
import { HttpProblem, unavailable, busy, draining, tooMany, refuseUpgrade } from '../http-problem.js';
import { type RequestAuthorizer, type Principal } from '../auth/request-authorizer.js';
import { asksForChannel, channelFromQuery, cursorFromQuery } from '../auth/request-target.js';
import type { SocketWriter } from './socket-writer.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import { ServerWebSocket, WebSocketConnection } from './web-socket-connection.js';
import { HandshakeQueue } from './handshake-queue.js';
import type { UnauthenticatedConnections } from './unauthenticated-connections.js';

export interface GatewayOptions {
  authorizer: RequestAuthorizer;
  limits: ConnectionLimits;
  peers: ConnectionRegistry;
  broadcaster: Broadcaster;
  lifecycle: Lifecycle;
  /** How plain peers are told of events: one for all of them, so that a batch is encoded once. */
  plainDialect: Dialect;
  clientAddress: ClientAddress;
  unauthenticated: UnauthenticatedConnections;
  /** Makes the session of a flagcast.v1 peer. */
  openSession: (peer: Connection, wire: SessionWire, principal: Principal) => Session;
  /** The path of the endpoint. Default `/api/ws`. */
  path?: string;
  /** How long a handshake may take before it is answered with 503, in milliseconds. Default 10,000. */
  handshakeTimeoutMs?: number;
  /** How long a refused flagcast.v1 client may take to close its connection, in milliseconds. Default 2,000. */
  refusedCloseTimeoutMs?: number;
  /** Past this many bytes that a peer has not taken it is paused, as in the sessions. */
  highWaterBytes: number;
  socketWriter: SocketWriter;
}

/**
 * A browser that offers subprotocols gives up where none is chosen. One with its token among them offers
 * this name too, to be answered with it.
 */
const plainSubprotocol = 'flagcast.plain';
/** A message of a peer that is longer than this many bytes ends its connection with 1009. */
const maxPlainMessageBytes = 4_096;
const maxV1MessageBytes = 16_384;

/** Turns upgrade requests on `/api/ws` into connections. */
export class Gateway {
  readonly #options: Required<GatewayOptions>;
  readonly #plain: SocketServer<typeof ServerWebSocket>;
  readonly #v1: SocketServer<typeof ServerWebSocket>;
  readonly #turnstile: HandshakeQueue;
  /** One for all connections. */
  readonly #onFailure: (error: Error) => void;

  constructor(options: GatewayOptions) {
    this.#options = { path: '/api/ws', handshakeTimeoutMs: 10_000, refusedCloseTimeoutMs: 2_000, ...options };
    this.#onFailure = (error) => options.lifecycle.emit('access:failed', { error });
    this.#turnstile = new HandshakeQueue({ patienceMs: this.#options.handshakeTimeoutMs });
    // A token among the offered subprotocols is never echoed.
    this.#plain = this.#webSocketServer(maxPlainMessageBytes, (offered) =>
      offered.has(plainSubprotocol) ? plainSubprotocol : false,
    );
    this.#v1 = this.#webSocketServer(maxV1MessageBytes, () => subprotocol);
  }

  #webSocketServer(
    maxPayload: number,
    handleProtocols: (offered: Set<string>) => string | false,
  ): SocketServer<typeof ServerWebSocket> {
    const server = new WebSocketServer({
      noServer: true,
      WebSocket: ServerWebSocket,
      // Batches are framed once and written past the library, which must not compress or queue.
      perMessageDeflate: false,
      maxPayload,
      handleProtocols,
      autoPong: false,
      // Who is connected `ConnectionRegistry` knows.
      clientTracking: false,
    });
    // The library finds fault with a handshake; the answer has the form of every other refusal.
    server.on('wsClientError', (error, socket, request) => {
      this.#refuse(request, socket, badHandshake(error.message));
    });
    return server;
  }

  /** Answers upgrades on the endpoint's path; those on other paths are left to the server's owner. */
  attach(server: Server): void {
    server.on('upgrade', (request, socket, head) => {
      const isAlone = server.listenerCount('upgrade') === 1;
      if (isAlone && !offersWebSocket(request)) declineUpgrade(server, request, socket, head);
      else if (pathOf(request) === this.#options.path) this.#queue(request, socket, head);
      else if (isAlone) refuseUpgrade(socket, this.#refusalOfPath(request));
    });
  }

  #refusalOfPath(request: IncomingMessage): HttpProblem {
    try {
      this.#options.authorizer.checkTarget(request);
      return new HttpProblem(404, 'not_found', `WebSockets are served on ${this.#options.path}`);
    } catch (error) {
      return this.#refusalFor(error);
    }
  }

  #queue(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // A peer that resets its connection during the handshake is no fault of ours.
    socket.on('error', destroyThis);
    const { unauthenticated, clientAddress } = this.#options;
    const full = unauthenticated.add(socket, clientAddress(request));
    if (full !== null) {
      this.#refuse(request, socket, full);
      return;
    }
    this.#turnstile.pass(
      () => {
        if (!socket.destroyed) void this.#upgrade(request, socket, head);
      },
      () => this.#refuse(request, socket, busy()),
    );
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      this.#checkHandshake(request);
      if (subprotocolsOf(request).includes(subprotocol)) this.#acceptV1(request, socket, head);
      else await this.#acceptPlain(request, socket, head);
    } catch (error) {
      this.#refuse(request, socket, this.#refusalFor(error));
    }
  }

  #checkHandshake(request: IncomingMessage): void {
    if (this.#options.peers.draining) throw draining();
    if (request.method !== 'GET') {
      throw new HttpProblem(405, 'method_not_allowed', 'A WebSocket is opened with GET');
    }
    if (request.headers.host === undefined) throw badHandshake('Missing Host header');
    this.#options.authorizer.checkTarget(request);
    this.#options.authorizer.checkOrigin(request);
  }

  /** Everything is checked before the upgrade, so that a plain client gets its refusal as HTTP. */
  async #acceptPlain(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { authorizer, limits, peers, broadcaster, clientAddress, handshakeTimeoutMs } = this.#options;
    const deadline = setTimeout(() => this.#refuse(request, socket, unavailable()), handshakeTimeoutMs);
    try {
      // What is missing is said before who asks is looked at: it costs nothing.
      const wanted = channelFromQuery(queryOf(request));
      const principal = await authorizer.admit(request);
      const channel = await authorizer.openChannel(principal, wanted);
      // What is committed before the first read is no news: nobody may count on it.
      const isReading = await broadcaster.begun();
      if (peers.draining) throw draining();
      // The peer has left meanwhile, or was told that it took too long.
      if (socket.destroyed || socket.writableEnded) return;
      if (!isReading) throw unavailable();
      const seat = limits.acquire(principal.user.id, clientAddress(request));
      if (typeof seat === 'string') throw tooMany(seat);
      // Also when the library finds fault with the handshake, answers it and never calls back.
      socket.on('close', seat);
      this.#plain.handleUpgrade(request, socket, head, (webSocket) => {
        this.#joinPlain(webSocket, socket, principal, channel);
      });
    } finally {
      clearTimeout(deadline);
    }
  }

  // In a method of its own: what it leaves behind must not hold on to the request, with its headers and its token.
  #joinPlain(webSocket: ServerWebSocket, socket: Duplex, principal: Principal, channel: Channel): void {
    const { peers, broadcaster, plainDialect: dialect, highWaterBytes, socketWriter } = this.#options;
    new WebSocketConnection({
      webSocket,
      socket,
      peers,
      dialect: dialect.name,
      principal,
      highWaterBytes,
      socketWriter,
      connect: (peer) => {
        const connection = new PlainSession({ peer, dialect, broadcaster, channel });
        return { connection, input: connection };
      },
    });
  }

  /** A browser cannot see an HTTP refusal: the peer is let in, and told by a close code. */
  #acceptV1(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#v1.handleUpgrade(request, socket, head, (webSocket) => {
      // Until it is known who this is nothing is read.
      webSocket.pause();
      const deadline = setTimeout(() => {
        this.#turnAway(request, webSocket, unavailable());
      }, this.#options.handshakeTimeoutMs);
      void this.#welcome(request, webSocket, socket)
        .catch((error: unknown) => this.#turnAway(request, webSocket, this.#refusalFor(error)))
        .finally(() => {
          clearTimeout(deadline);
          webSocket.resume();
        });
    });
  }

  async #welcome(request: IncomingMessage, webSocket: ServerWebSocket, socket: Duplex): Promise<void> {
    const { authorizer, limits, peers, broadcaster, clientAddress } = this.#options;
    const query = queryOf(request);
    const wanted = asksForChannel(query) ? channelFromQuery(query) : null;
    const cursor = cursorFromQuery(query);
    const principal = await authorizer.admit(request);
    const isReading = await broadcaster.begun();
    if (peers.draining) throw draining();
    if (webSocket.readyState !== webSocket.OPEN) return;
    if (!isReading) throw unavailable();
    const seat = limits.acquire(principal.user.id, clientAddress(request));
    if (typeof seat === 'string') throw tooMany(seat);
    socket.on('close', seat);
    const session = this.#joinV1(webSocket, socket, principal);
    session.hello();
    if (wanted !== null) await session.subscribe(wanted, cursor);
  }

  // In a method of its own, for the same reason.
  #joinV1(webSocket: ServerWebSocket, socket: Duplex, principal: Principal): Session {
    const { authorizer, peers, openSession, highWaterBytes, socketWriter } = this.#options;
    const dialect = v1Wire.dialect.name;
    const { connection } = new WebSocketConnection({
      webSocket,
      socket,
      peers,
      dialect,
      principal,
      highWaterBytes,
      socketWriter,
      connect: (peer) => {
        const session = openSession(peer, v1Wire, principal);
        const input = new V1Input({
          session,
          authorizer,
          principal,
          renewable: peer,
          onFailure: this.#onFailure,
        });
        return { connection: session, input };
      },
    });
    return connection;
  }

  /** What went wrong, in the words of a refusal; a fault of ours is told to the log as well. */
  #refusalFor(error: unknown): HttpProblem {
    if (error instanceof HttpProblem) return error;
    // While draining, the database has been let go of already.
    if (this.#options.peers.draining) return draining();
    this.#options.lifecycle.emit('access:failed', { error: error as Error });
    return unavailable();
  }

  #refuse(request: IncomingMessage, socket: Duplex, refusal: HttpProblem): void {
    if (socket.destroyed || socket.writableEnded) return;
    refuseUpgrade(socket, refusal);
    this.#tellRefused(request, refusal);
  }

  #turnAway(request: IncomingMessage, webSocket: ServerWebSocket, refusal: HttpProblem): void {
    if (webSocket.readyState === webSocket.CLOSED) return;
    // Whether it answers the close, reads it, or goes on sending.
    const deadline = setTimeout(() => webSocket.terminate(), this.#options.refusedCloseTimeoutMs);
    request.socket.once('close', () => clearTimeout(deadline));
    if (webSocket.readyState !== webSocket.OPEN) return;
    webSocket.close(refusal.closeCode, refusal.code);
    // Its answer to that is read: a paused socket would stay open as long as what went wrong lasts.
    webSocket.resume();
    this.#tellRefused(request, refusal);
  }

  #tellRefused(request: IncomingMessage, { status, code }: HttpProblem): void {
    const { lifecycle, clientAddress } = this.#options;
    lifecycle.emit('connection:refused', { status, code, address: clientAddress(request) });
  }
}

function destroyThis(this: Duplex): void {
  this.destroy();
}

function badHandshake(problem: string): HttpProblem {
  return new HttpProblem(400, 'bad_handshake', `This is not a WebSocket handshake: ${problem}`);
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

function queryOf(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? '';
  const start = url.indexOf('?');
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1));
}

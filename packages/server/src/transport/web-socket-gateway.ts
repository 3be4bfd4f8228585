import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';
import { subprotocol } from '@flagcast/protocol';
import { type Server as SocketServer, WebSocketServer } from 'ws';
import type { Principal } from '../auth/request-authorizer.js';
import {
  asksForSubscription,
  channelFromQuery,
  cursorFromQuery,
  subscriptionFromQuery,
  withoutBasePath,
} from '../auth/request-target.js';
import { subprotocolsOf } from '../auth/request-token.js';
import type { Channel } from '../auth/authorization.js';
import { v1Wire } from '../connections/codecs/v1.js';
import { PlainSession } from '../connections/plain-session.js';
import { V1Session } from '../connections/v1-session.js';
import type { Dialect } from '../events/dialect.js';
import { busy, draining, HttpProblem, refuseUpgrade, unavailable } from '../http-problem.js';
import type { EventStreamsOptions } from './event-stream.js';
import { HandshakeQueue } from './handshake-queue.js';
import type { SocketWriter } from './socket-writer.js';
import { ServerWebSocket, WebSocketConnection } from './web-socket-connection.js';

/** The authorizer, the broadcaster and the lifecycle of its sources serve plain connections, too. */
export interface GatewayOptions extends EventStreamsOptions {
  /** One for all plain connections, so that a batch is encoded once. */
  plainDialect: Dialect;
  /** The path before that of the route; empty for none. */
  basePath: string;
  /** A handshake that takes longer is answered with 503, in milliseconds. */
  handshakeTimeoutMs: number;
  /** How long a refused flagcast.v1 client may take to close its connection, in milliseconds. */
  refusedCloseTimeoutMs: number;
  socketWriter: SocketWriter;
}

const path = '/api/ws';
/**
 * A browser that offers subprotocols fails if the server chooses none, so one that sends its token as a subprotocol offers
 * this one, too.
 */
const plainSubprotocol = 'flagcast.plain';
/** A longer message closes the connection with 1009. */
const maxPlainMessageBytes = 4_096;
const maxV1MessageBytes = 16_384;

/** A WebSocket handshake. */
interface Handshake {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** The bytes after the head. */
  readonly head: Buffer;
}

/** Turns upgrade requests on `/api/ws` into connections. */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #plainServer: SocketServer<typeof ServerWebSocket>;
  readonly #v1Server: SocketServer<typeof ServerWebSocket>;
  readonly #queue: HandshakeQueue;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#queue = new HandshakeQueue({ timeoutMs: options.handshakeTimeoutMs });
    // Never chooses a subprotocol that may be a token.
    this.#plainServer = this.#createServer(maxPlainMessageBytes, (offered) =>
      offered.has(plainSubprotocol) ? plainSubprotocol : false,
    );
    this.#v1Server = this.#createServer(maxV1MessageBytes, () => subprotocol);
  }

  #createServer(
    maxPayload: number,
    handleProtocols: (offered: Set<string>) => string | false,
  ): SocketServer<typeof ServerWebSocket> {
    const server = new WebSocketServer({
      noServer: true,
      WebSocket: ServerWebSocket,
      // Frames bypass the library, which must neither compress nor queue.
      perMessageDeflate: false,
      maxPayload,
      handleProtocols,
      autoPong: false,
      // The ConnectionRegistry tracks connections.
      clientTracking: false,
    });
    // The library's own refusals get the form of all others.
    server.on('wsClientError', (error, socket, request) => {
      this.#refuse(request, socket, badHandshake(error.message));
    });
    return server;
  }

  /**
   * Answers upgrades on `/api/ws`, and keeps them from the host's own listeners: libraries for WebSockets destroy the
   * socket of each path that they do not serve. Other paths are left to those listeners, if there are any.
   */
  attach(server: Server): void {
    const isAlone = (): boolean => server.listenerCount('upgrade') === 1;
    const emit = server.emit.bind(server) as (name: string | symbol, ...parameters: unknown[]) => boolean;
    server.emit = (name: string | symbol, ...parameters: unknown[]): boolean => {
      if (name !== 'upgrade') return emit(name, ...parameters);
      const [request, socket, head] = parameters as [IncomingMessage, Duplex, Buffer];
      const target = withoutBasePath(request.url ?? '', this.#options.basePath);
      const isOurs = target?.split('?', 1)[0] === path;
      if (!isOurs || (isAlone() && !offersWebSocket(request))) return emit(name, ...parameters);
      this.#enqueue({ request, socket, head });
      return true;
    };
    server.on('upgrade', (request, socket, head) => {
      if (!isAlone()) return;
      if (offersWebSocket(request)) refuseUpgrade(socket, this.#refusalOfPath(request));
      else declineUpgrade(server, request, socket, head);
    });
  }

  #refusalOfPath(request: IncomingMessage): HttpProblem {
    try {
      this.#options.sources.authorizer.checkTarget(request);
      return new HttpProblem('not_found', `WebSockets are served on ${this.#options.basePath}${path}`);
    } catch (error) {
      return this.#refusalFor(error);
    }
  }

  #enqueue(handshake: Handshake): void {
    const { request, socket } = handshake;
    // A client that resets its connection during the handshake is not an error of the server.
    socket.on('error', destroyThis);
    const { httpConnections, clientAddress } = this.#options;
    const refusal = httpConnections.add(socket, clientAddress(request));
    if (refusal !== null) {
      this.#refuse(request, socket, refusal);
      return;
    }
    this.#queue.add(
      () => {
        if (!socket.destroyed) void this.#upgrade(handshake);
      },
      () => this.#refuse(request, socket, busy()),
    );
  }

  async #upgrade(handshake: Handshake): Promise<void> {
    const { request, socket } = handshake;
    try {
      this.#checkHandshake(request);
      if (subprotocolsOf(request).includes(subprotocol)) this.#acceptV1(handshake);
      else await this.#acceptPlain(handshake);
    } catch (error) {
      this.#refuse(request, socket, this.#refusalFor(error));
    }
  }

  #checkHandshake(request: IncomingMessage): void {
    const { registry, sources } = this.#options;
    if (registry.isDraining) throw draining();
    if (request.method !== 'GET') {
      throw new HttpProblem('method_not_allowed', 'A WebSocket is opened with GET');
    }
    if (request.headers.host === undefined) throw badHandshake('Missing Host header');
    sources.authorizer.checkTarget(request);
    sources.authorizer.checkOrigin(request);
  }

  /** Checks everything before the upgrade, so that a plain client is refused by HTTP. */
  async #acceptPlain({ request, socket, head }: Handshake): Promise<void> {
    const { authorizer } = this.#options.sources;
    const timer = setTimeout(
      () => this.#refuse(request, socket, unavailable()),
      this.#options.handshakeTimeoutMs,
    );
    try {
      const wanted = channelFromQuery(queryOf(request));
      const principal = await authorizer.authenticate(request);
      const channel = await authorizer.openChannel(principal, wanted);
      const isOpen = (): boolean => !socket.destroyed && !socket.writableEnded;
      if (!(await this.#acquireConnection({ request, socket, principal, isOpen }))) return;
      this.#plainServer.handleUpgrade(request, socket, head, (webSocket) => {
        this.#openPlain(webSocket, { socket, principal, channel });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** A browser cannot see an HTTP refusal, so a flagcast.v1 client is refused after the upgrade, by a close code. */
  #acceptV1({ request, socket, head }: Handshake): void {
    this.#v1Server.handleUpgrade(request, socket, head, (webSocket) => {
      // Nothing is read before it has authenticated.
      webSocket.pause();
      const timer = setTimeout(
        () => this.#closeRefused(request, webSocket, unavailable()),
        this.#options.handshakeTimeoutMs,
      );
      void this.#authenticateV1(request, webSocket, socket)
        .catch((error: unknown) => this.#closeRefused(request, webSocket, this.#refusalFor(error)))
        .finally(() => {
          clearTimeout(timer);
          webSocket.resume();
        });
    });
  }

  async #authenticateV1(request: IncomingMessage, webSocket: ServerWebSocket, socket: Duplex): Promise<void> {
    const query = queryOf(request);
    const wanted = asksForSubscription(query) ? subscriptionFromQuery(query) : null;
    const cursor = cursorFromQuery(query);
    const principal = await this.#options.sources.authorizer.authenticate(request);
    const isOpen = (): boolean => webSocket.readyState === webSocket.OPEN;
    if (!(await this.#acquireConnection({ request, socket, principal, isOpen }))) return;
    const session = this.#openV1(webSocket, { socket, principal });
    session.sendHello();
    if (wanted !== null) await session.subscribe(wanted, cursor);
  }

  /** Counts the connection until its socket closes. False: the client has left, or was refused meanwhile. Throws a refusal. */
  async #acquireConnection(client: {
    readonly request: IncomingMessage;
    readonly socket: Duplex;
    readonly principal: Principal;
    readonly isOpen: () => boolean;
  }): Promise<boolean> {
    const { limits, httpConnections, registry, sources, clientAddress } = this.#options;
    // A new client expects every event from now on, so the reader must have begun.
    const isReading = await sources.broadcaster.progress.begun();
    if (registry.isDraining) throw draining();
    if (!client.isOpen()) return false;
    if (!isReading) throw unavailable();
    // Also if the library refuses the handshake and does not call back.
    client.socket.on('close', limits.acquire(client.principal.user.id, clientAddress(client.request)));
    httpConnections.release(client.socket);
    return true;
  }

  // Methods of their own, so that no closure of the connection keeps the request with its headers and token in memory.

  #openPlain(
    webSocket: ServerWebSocket,
    { socket, principal, channel }: { socket: Duplex; principal: Principal; channel: Channel },
  ): void {
    const { registry, plainDialect: dialect, socketWriter, sources } = this.#options;
    const { broadcaster } = sources;
    new WebSocketConnection({
      ...{ webSocket, socket, registry, principal, socketWriter },
      openSession: (connection) => new PlainSession({ connection, dialect, broadcaster, channel }),
    });
  }

  #openV1(
    webSocket: ServerWebSocket,
    { socket, principal }: { socket: Duplex; principal: Principal },
  ): V1Session {
    const { registry, socketWriter, sources } = this.#options;
    const { session } = new WebSocketConnection({
      ...{ webSocket, socket, registry, principal, socketWriter },
      openSession: (connection) => new V1Session(sources, connection, v1Wire),
    });
    return session;
  }

  /** Logs errors of the server. */
  #refusalFor(error: unknown): HttpProblem {
    if (error instanceof HttpProblem) return error;
    // While draining, the sessions of the database are closed already.
    if (this.#options.registry.isDraining) return draining();
    this.#options.sources.lifecycle.emit('access:failed', { error: error as Error });
    return unavailable();
  }

  #refuse(request: IncomingMessage, socket: Duplex, refusal: HttpProblem): void {
    if (socket.destroyed || socket.writableEnded) return;
    refuseUpgrade(socket, refusal);
    this.#reportRefused(request, refusal);
  }

  #closeRefused(request: IncomingMessage, webSocket: ServerWebSocket, refusal: HttpProblem): void {
    if (webSocket.readyState === webSocket.CLOSED) return;
    // Whatever the client does: ignores the close frame, does not read it, or keeps sending.
    const timer = setTimeout(() => webSocket.terminate(), this.#options.refusedCloseTimeoutMs);
    request.socket.once('close', () => clearTimeout(timer));
    if (webSocket.readyState !== webSocket.OPEN) return;
    webSocket.close(refusal.closeCode, refusal.code);
    // The close frame of the client must be read.
    webSocket.resume();
    this.#reportRefused(request, refusal);
  }

  #reportRefused(request: IncomingMessage, { status, code, message }: HttpProblem): void {
    const { sources, clientAddress } = this.#options;
    sources.lifecycle.emit('connection:refused', { status, code, message, address: clientAddress(request) });
  }
}

function destroyThis(this: Duplex): void {
  this.destroy();
}

function badHandshake(problem: string): HttpProblem {
  return new HttpProblem('bad_handshake', `This is not a WebSocket handshake: ${problem}`);
}

function queryOf(request: IncomingMessage): URLSearchParams {
  const url = request.url ?? '';
  const start = url.indexOf('?');
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1));
}

/** The headers of an offer of HTTP/2 over plain text. RFC 9113 withdrew it, but Java's client sends it with each request. */
const offerHeaders = new Set(['upgrade', 'http2-settings']);

/** Whether the upgrade is to a WebSocket, well-formed or not. */
function offersWebSocket({ headers }: IncomingMessage): boolean {
  return /websocket/i.test(headers.upgrade ?? '');
}

/**
 * Answers a request as if it had offered no upgrade, which a server may do (RFC 9110, 7.8). Node does so only without an
 * `upgrade` listener; with one, it passes the bare socket after the head. So the connection starts again with the head
 * without the offer.
 */
function declineUpgrade(
  server: Server,
  { method, url, httpVersion, rawHeaders }: IncomingMessage,
  socket: Duplex,
  rest: Buffer,
): void {
  const lines = [`${method ?? ''} ${url ?? ''} HTTP/${httpVersion}`];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2);
    if (!offerHeaders.has(name.toLowerCase())) lines.push(`${name}: ${value}`);
  }
  // Node decodes a head as latin1, and accepts no line break in a value.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), rest]));
  const restart = (): void => {
    if (!socket.destroyed)
      server.emit(server instanceof TlsServer ? 'secureConnection' : 'connection', socket);
  };
  // Responses to earlier requests of the connection have to be sent first: Node would never send one that waits for them.
  const { _httpMessage: earlier = null } = socket as { _httpMessage?: ServerResponse | null };
  if (earlier === null) restart();
  else earlier.once('finish', restart);
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { CloseCode, type CloseReason } from '@flagcast/protocol';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import { sseWire } from '../connections/codecs/v1.js';
import type { ConnectionLimits, HttpConnections } from '../connections/connection-limits.js';
import { Connection } from '../connections/connection.js';
import { SessionError, V1Session, type V1Sources } from '../connections/v1-session.js';
import type { OpenedSubscription, Principal } from '../auth/request-authorizer.js';
import { cursorFromQuery, subscriptionFromQuery } from '../auth/request-target.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import { draining, HttpProblem } from '../http-problem.js';
import { defaultHeaders } from './http-server.js';

export interface EventStreamsOptions {
  sources: V1Sources;
  limits: ConnectionLimits;
  httpConnections: HttpConnections;
  registry: ConnectionRegistry;
  clientAddress: ClientAddress;
}

/** Clients wait this long before they reconnect, in milliseconds. */
const retryMs = 1_000;

interface StreamOptions {
  readonly principal: Principal;
  /** Whether a client that cannot subscribe again has nothing more to expect then. */
  readonly endsWithLastChannel: boolean;
}

/** flagcast.v1 as server-sent events, for networks that break WebSockets. */
export class EventStreams {
  readonly #options: EventStreamsOptions;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
  }

  /**
   * Responds with the stream of the channel or feed that the query names. Rejects with a refusal, or what the database
   * throws, before anything is sent.
   */
  async open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { authorizer } = this.#options.sources;
    this.#check(request);
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    const wanted = subscriptionFromQuery(query);
    const cursor = cursorFromQuery(query);
    const lastEventId = request.headers['last-event-id'];
    const { principal, opened } = await this.#unlessDraining(async () => {
      const user = await authorizer.authenticate(request);
      return { principal: user, opened: await authorizer.openSubscription(user, wanted) };
    });
    const session = this.#begin(request, response, { principal, endsWithLastChannel: true });
    const hasLastEventId = typeof lastEventId === 'string' && lastEventId !== '';
    if (session !== null) await this.#subscribe(session, opened, hasLastEventId ? lastEventId : cursor);
  }

  /** Responds with one stream of several subscriptions. Each is answered in the stream, as over a WebSocket. Rejects as `open`. */
  async openAll(
    request: IncomingMessage,
    response: ServerResponse,
    subscriptions: readonly object[],
  ): Promise<void> {
    const { authorizer } = this.#options.sources;
    this.#check(request);
    const principal = await this.#unlessDraining(async () => await authorizer.authenticate(request));
    const session = this.#begin(request, response, { principal, endsWithLastChannel: false });
    for (const subscription of subscriptions) {
      session?.receive(Buffer.from(JSON.stringify({ ...subscription, type: 'subscribe' })), false);
    }
  }

  #check(request: IncomingMessage): void {
    const { registry, sources } = this.#options;
    if (registry.isDraining) throw draining();
    sources.authorizer.checkOrigin(request);
  }

  /** Rejects with `draining` if that has begun when it is done, or if it fails because of it. */
  async #unlessDraining<Result>(work: () => Promise<Result>): Promise<Result> {
    const { registry } = this.#options;
    try {
      const result = await work();
      if (registry.isDraining) throw draining();
      return result;
    } catch (error) {
      // While draining, the sessions of the database are closed already.
      if (registry.isDraining && !(error instanceof HttpProblem)) throw draining();
      throw error;
    }
  }

  /** Begins the response. Null if the client has left. */
  #begin(request: IncomingMessage, response: ServerResponse, options: StreamOptions): V1Session | null {
    const { principal } = options;
    const { limits, httpConnections, registry, clientAddress, sources } = this.#options;
    if (response.destroyed) return null;
    response.once('close', limits.acquire(principal.user.id, clientAddress(request)));
    httpConnections.release(request.socket);
    const { session } = new EventStreamConnection(response, { ...options, registry, sources });
    // No request follows the stream: its connection is no longer counted as an HTTP connection.
    response.shouldKeepAlive = false;
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      // Next's server and others compress, and so buffer, what may be transformed.
      'Cache-Control': 'no-store, no-transform',
      ...defaultHeaders,
      // Otherwise proxies that compress (Caddy's `encode`, nginx) would buffer events.
      'Content-Encoding': 'identity',
      'X-Accel-Buffering': 'no',
    });
    // Streams that are not read have a time-out of their own, which ends with a close code.
    request.socket.setTimeout(0);
    response.write(`retry: ${retryMs}\n`);
    session.sendHello();
    return session;
  }

  /** The response has begun, so an error closes the stream with a close code, like a WebSocket. */
  async #subscribe(session: V1Session, opened: OpenedSubscription, cursor: string | null): Promise<void> {
    try {
      await session.open(opened, cursor);
    } catch (error) {
      if (error instanceof HttpProblem) {
        session.close(error.closeCode, error.code);
        return;
      }
      if (!(error instanceof SessionError)) {
        this.#options.sources.lifecycle.emit('access:failed', { error: error as Error });
      }
      session.close(CloseCode.unavailable, 'unavailable');
    }
  }
}

class EventStreamConnection extends Connection {
  readonly session: V1Session;
  readonly #response: ServerResponse;
  readonly #endsWithLastChannel: boolean;

  /** Throws a refusal if the source of events is not known yet. */
  constructor(
    response: ServerResponse,
    options: StreamOptions & { registry: ConnectionRegistry; sources: V1Sources },
  ) {
    super(options.principal, options.registry);
    this.#response = response;
    this.#endsWithLastChannel = options.endsWithLastChannel;
    this.session = new V1Session(options.sources, this, sseWire);
    this.registry.add(this);
    response.on('drain', () => this.session.drained());
    response.once('close', () => this.ended(response.writableFinished ? 1000 : 1006, ''));
  }

  protected override get bufferedAmount(): number {
    return this.#response.writableLength;
  }

  protected override write(bytes: Buffer): boolean {
    return this.#response.writableEnded || this.#response.write(bytes);
  }

  protected override closeTransport(code: CloseCode, reason: CloseReason): void {
    if (!this.#response.writableEnded) this.#response.end(sseWire.control({ type: 'close', code, reason }));
  }

  override onLastChannelEnded(): void {
    if (!this.#endsWithLastChannel) return;
    this.session.end();
    this.expectEnd();
    if (!this.#response.writableEnded) this.#response.end();
  }

  terminate(): void {
    this.#response.destroy();
  }
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { CloseCode } from '@flagcast/protocol';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import { sseWire } from '../connections/codecs/v1.js';
import type { ConnectionLimits, HttpConnections } from '../connections/connection-limits.js';
import { Connection } from '../connections/connection.js';
import {
  authorizeSubscription,
  type OpenSubscription,
  SessionError,
  V1Session,
  type V1Sources,
} from '../connections/v1-session.js';
import type { Principal } from '../auth/request-authorizer.js';
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

interface StreamRequest {
  readonly principal: Principal;
  /** Subscribes to the channel or the feed, which the user may view. */
  readonly open: OpenSubscription;
  readonly cursor: string | null;
}

/** flagcast.v1 as server-sent events, for networks that break WebSockets: one channel or feed for each request. */
export class EventStreams {
  readonly #options: EventStreamsOptions;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
  }

  /** Responds with a stream. Rejects with a refusal, or what the database throws, before anything is sent. */
  async open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { limits, httpConnections, registry, clientAddress, sources } = this.#options;
    if (registry.isDraining) throw draining();
    const { principal, ...stream } = await this.#authorize(request);
    if (response.destroyed) return;
    response.once('close', limits.acquire(principal.user.id, clientAddress(request)));
    httpConnections.release(request.socket);
    const { session } = new EventStreamConnection(response, { principal, registry, sources });
    // No request follows the stream: its connection is no longer counted as an HTTP connection.
    response.shouldKeepAlive = false;
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      ...defaultHeaders,
      // Otherwise proxies that compress (Caddy's `encode`, nginx) would buffer events.
      'Content-Encoding': 'identity',
      'X-Accel-Buffering': 'no',
    });
    // Streams that are not read have a time-out of their own, which ends with a close code.
    request.socket.setTimeout(0);
    response.write(`retry: ${retryMs}\n`);
    session.sendHello();
    await this.#subscribe(session, stream);
  }

  async #authorize(request: IncomingMessage): Promise<StreamRequest> {
    const { registry, sources } = this.#options;
    const { authorizer } = sources;
    authorizer.checkOrigin(request);
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    const wanted = subscriptionFromQuery(query);
    const cursor = cursorFromQuery(query);
    try {
      const principal = await authorizer.authenticate(request);
      const open = await authorizeSubscription(authorizer, principal, wanted);
      if (registry.isDraining) throw draining();
      const lastEventId = request.headers['last-event-id'];
      const hasLastEventId = typeof lastEventId === 'string' && lastEventId !== '';
      return { principal, open, cursor: hasLastEventId ? lastEventId : cursor };
    } catch (error) {
      // While draining, the sessions of the database are closed already.
      if (registry.isDraining && !(error instanceof HttpProblem)) throw draining();
      throw error;
    }
  }

  /** The response has begun, so an error closes the stream with a close code, like a WebSocket. */
  async #subscribe(session: V1Session, { open, cursor }: Omit<StreamRequest, 'principal'>): Promise<void> {
    try {
      await open(session, cursor);
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

  /** Throws a refusal if the source of events is not known yet. */
  constructor(
    response: ServerResponse,
    options: { principal: Principal; registry: ConnectionRegistry; sources: V1Sources },
  ) {
    super(options.principal, options.registry);
    this.#response = response;
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

  protected override closeTransport(code: CloseCode, reason: string): void {
    if (!this.#response.writableEnded) this.#response.end(sseWire.control({ type: 'close', code, reason }));
  }

  override onLastChannelEnded(): void {
    this.session.end();
    this.expectEnd();
    if (!this.#response.writableEnded) this.#response.end();
  }

  terminate(): void {
    this.#response.destroy();
  }
}

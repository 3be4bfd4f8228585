import type { IncomingMessage, ServerResponse } from 'node:http';
import { CloseCode } from '@flagcast/protocol';
import type { Channel, ChannelRequest } from '../auth/table-authorization.js';
import type { ClientAddress } from '../auth/trusted-proxies.js';
import type { ConnectionLimits } from '../connections/connection-limits.js';
import { Connection } from '../connections/connection.js';
import { type Session, SessionError, type SessionWire } from '../connections/session.js';
import { HttpProblem, draining, tooMany } from '../http-problem.js';
import { type RequestAuthorizer, type Principal } from '../auth/request-authorizer.js';
import { channelFromQuery, cursorFromQuery } from '../auth/request-target.js';
import type { OpenConnection, ConnectionRegistry } from '../connections/connection-registry.js';
import type { Lifecycle } from '../lifecycle.js';
import { sseWire } from '../connections/codecs/v1.js';
import { defaultHeaders } from './default-headers.js';

export interface EventStreamsOptions {
  authorizer: RequestAuthorizer;
  limits: ConnectionLimits;
  peers: ConnectionRegistry;
  lifecycle: Lifecycle;
  clientAddress: ClientAddress;
  /** `opened`: the one channel that the session will ask for. */
  openSession: (peer: Connection, wire: SessionWire, principal: Principal, opened: Channel) => Session;
  /** Past this many bytes that a peer has not taken it is paused. */
  highWaterBytes: number;
}

/** How long a client is asked to wait before it connects again, in milliseconds. */
const retryMs = 1_000;

/** flagcast.v1 as server-sent events, for networks that break WebSockets: one channel a request. */
export class EventStreams {
  readonly #options: EventStreamsOptions;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
  }

  /** Answers with a stream. Rejects with a refusal, or what the database throws, before anything was sent. */
  async open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { limits, peers, clientAddress } = this.#options;
    if (peers.draining) throw draining();
    const { principal, wanted, channel, cursor } = await this.#admit(request);
    const seat = limits.acquire(principal.user.id, clientAddress(request));
    if (typeof seat === 'string') throw tooMany(seat);
    if (response.destroyed) {
      seat();
      return;
    }
    const peer = new EventStreamConnection(response, peers, this.#options.highWaterBytes);
    let session: Session;
    try {
      session = this.#options.openSession(peer, sseWire, principal, channel);
    } catch (error) {
      seat();
      throw error;
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      ...defaultHeaders,
      // A proxy that compresses (Caddy's `encode`) would hold the events back; so would nginx.
      'Content-Encoding': 'identity',
      'X-Accel-Buffering': 'no',
    });
    // A stream that is not read has a time-out of its own, after which it ends with a close code.
    request.socket.setTimeout(0);
    response.write(`retry: ${retryMs}\n`);
    const open: OpenConnection = {
      connectionId: 0,
      user: principal.user,
      dialect: sseWire.dialect.name,
      expiresAtMs: principal.expiresAtMs,
      answered: true,
      get pausedSinceMs() {
        return peer.pausedSinceMs;
      },
      connection: session,
      // The stream has no question that a client would answer; a dead line shows when it does not drain.
      ping: () => undefined,
      // Its heartbeats keep it open.
      keepOpen: () => undefined,
      terminate: () => response.destroy(),
    };
    peers.add(open);
    response.on('drain', () => session.drained());
    response.once('close', () => {
      session.ended();
      seat();
      const { code, reason } = peer.endedWith ?? {
        code: response.writableFinished ? 1000 : 1006,
        reason: '',
      };
      peers.remove(open, code, reason);
    });
    session.hello();
    await this.#subscribe(session, wanted, cursor);
  }

  async #admit(request: IncomingMessage): Promise<Admitted> {
    const { authorizer, peers } = this.#options;
    authorizer.checkOrigin(request);
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    const wanted = channelFromQuery(query);
    const cursor = cursorFromQuery(query);
    try {
      const principal = await authorizer.admit(request);
      const channel = await authorizer.openChannel(principal, wanted);
      if (peers.draining) throw draining();
      return { principal, wanted, channel, cursor: header(request, 'last-event-id') ?? cursor };
    } catch (error) {
      // While draining, the database has been let go of already.
      if (peers.draining && !(error instanceof HttpProblem)) throw draining();
      throw error;
    }
  }

  /** What goes wrong now can only be said in the stream, as a WebSocket would be closed. */
  async #subscribe(session: Session, wanted: ChannelRequest, cursor: string | null): Promise<void> {
    try {
      await session.subscribe(wanted, cursor);
    } catch (error) {
      if (error instanceof HttpProblem) {
        session.close(error.closeCode, error.code);
        return;
      }
      if (!(error instanceof SessionError)) {
        this.#options.lifecycle.emit('access:failed', { error: error as Error });
      }
      session.close(CloseCode.unavailable, 'unavailable');
    }
  }
}

interface Admitted {
  readonly principal: Principal;
  readonly wanted: ChannelRequest;
  readonly channel: Channel;
  readonly cursor: string | null;
}

/** A stream as a session sees it. */
class EventStreamConnection extends Connection {
  readonly #response: ServerResponse;
  readonly #peers: ConnectionRegistry;
  /** The first code that it was closed with. */
  endedWith: { readonly code: CloseCode; readonly reason: string } | null = null;

  constructor(response: ServerResponse, peers: ConnectionRegistry, highWaterBytes: number) {
    super(highWaterBytes);
    this.#response = response;
    this.#peers = peers;
  }

  protected override get bufferedAmount(): number {
    return this.#response.writableLength;
  }

  protected override write(bytes: Buffer): boolean {
    return this.#response.writableEnded || this.#response.write(bytes);
  }

  protected override onPaused(): void {
    this.#peers.reportPaused({ dialect: sseWire.dialect.name });
  }

  protected override onDrained(pausedMs: number): void {
    this.#peers.reportDrained({ dialect: sseWire.dialect.name }, pausedMs);
  }

  override close(code: CloseCode, reason: string): void {
    this.endedWith ??= { code, reason };
    if (!this.#response.writableEnded) this.#response.end(sseWire.control({ type: 'close', code, reason }));
  }

  /** A stream cannot subscribe anew: its client opens another one. */
  override emptied(): void {
    if (!this.#response.writableEnded) this.#response.end();
  }
}

function header(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

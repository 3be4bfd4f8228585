import type { IncomingMessage, ServerResponse } from 'node:http';
import { CloseCode } from '@flagcast/protocol';
import type { ConnectionLimits } from '../access/limits.js';
import type { Peer } from '../connection/peer.js';
import type { Session, SessionWire } from '../connection/session.js';
import { channelFromQuery, type Door, draining, tooMany, type Visitor } from '../door/door.js';
import type { Peers } from '../door/peers.js';
import { sseWire } from '../wire/v1.js';

export interface EventStreamsOptions {
  door: Door;
  limits: ConnectionLimits;
  peers: Peers;
  openSession: (peer: Peer, wire: SessionWire, visitor: Visitor) => Session;
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
    const { door, limits, peers, openSession } = this.#options;
    if (peers.draining) throw draining();
    door.checkOrigin(request);
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    const wanted = channelFromQuery(query);
    const visitor = await door.admit(request);
    const channel = await door.openChannel(visitor, wanted);
    const seat = limits.acquire(visitor.user.id, request.socket.remoteAddress ?? 'unknown');
    if (typeof seat === 'string') throw tooMany(seat);
    if (response.destroyed) {
      seat();
      return;
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store',
      // nginx would hold the events back.
      'X-Accel-Buffering': 'no',
    });
    response.write(`retry: ${retryMs}\n`);
    const peer = this.#peerOf(response);
    const session = openSession(peer, sseWire, visitor);
    const leave = peers.add({
      user: visitor.user,
      dialect: sseWire.dialect.name,
      expiresAtMs: visitor.expiresAtMs,
      answered: true,
      connection: session,
      // The stream has no question that a client would answer; a dead line shows when it does not drain.
      ping: () => undefined,
      terminate: () => response.destroy(),
    });
    response.on('drain', () => session.drained());
    response.once('close', () => {
      session.ended();
      seat();
      leave(peer.ended?.code ?? 1006, peer.ended?.reason ?? '');
    });
    session.hello();
    const cursor = header(request, 'last-event-id') ?? query.get('cursor');
    const named = { project_id: channel.projectId, environment: channel.environmentKey };
    try {
      await session.subscribe({ request: wanted, named }, cursor);
    } catch (error) {
      session.close(CloseCode.unavailable, 'unavailable');
      throw error;
    }
    // After a resync there is nothing to wait for.
    if (session.channels().length === 0) response.end();
  }

  #peerOf(response: ServerResponse): Peer & { ended: { code: CloseCode; reason: string } | null } {
    return {
      ended: null,
      send: (bytes) => {
        if (!response.writableEnded) response.write(bytes);
      },
      close(code, reason) {
        this.ended ??= { code, reason };
        if (!response.writableEnded) response.end(sseWire.control({ type: 'close', code, reason }));
      },
      get bufferedAmount() {
        return response.writableLength;
      },
    };
  }
}

function header(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : null;
}

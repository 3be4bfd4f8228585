import { CloseCode } from '@flagcast/protocol';
import { type Access, viewerKey } from '../access/access.js';
import { Heartbeat } from '../connection/heartbeat.js';
import type { Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import type { Peers } from './peers.js';

export const defaultHeartbeatIntervalMs = 15_000;

export interface SweepTiming {
  /** How often expiry and slowness are looked at, in milliseconds. Default 1,000. */
  sweepIntervalMs?: number;
  /** How often peers are pinged; one that has not answered by the next time is dropped. In milliseconds. Default 30,000. */
  pingIntervalMs?: number;
  /** How often the rights of all are checked again, in milliseconds. Default 25,000, so that 30 s are kept with the query's time. */
  recheckIntervalMs?: number;
  /** How often flagcast.v1 peers are told where they stand, in milliseconds. Default 15,000. */
  heartbeatIntervalMs?: number;
  /** How long a peer may stay paused, in milliseconds. Default 30,000. */
  slowTimeoutMs?: number;
}

export interface SweeperOptions extends SweepTiming {
  peers: Peers;
  /** Where whoever has been given everything so far stands; null before the first read. */
  position: () => Position | null;
  access: Access;
  lifecycle: Lifecycle;
}

/**
 * Looks after all open sockets together, with one timer for each question and not one a socket:
 * whose token has ended, who does not answer, who does not read, who may no longer look.
 */
export class Sweeper {
  readonly #options: Required<SweeperOptions>;
  readonly #timers: NodeJS.Timeout[] = [];
  #rechecking = false;

  constructor(options: SweeperOptions) {
    this.#options = {
      sweepIntervalMs: 1_000,
      pingIntervalMs: 30_000,
      recheckIntervalMs: 25_000,
      heartbeatIntervalMs: defaultHeartbeatIntervalMs,
      slowTimeoutMs: 30_000,
      ...options,
    };
  }

  start(): void {
    const { sweepIntervalMs, pingIntervalMs, recheckIntervalMs, heartbeatIntervalMs } = this.#options;
    this.#timers.push(
      setInterval(() => this.#closeExpiredAndSlow(), sweepIntervalMs),
      setInterval(() => this.#ping(), pingIntervalMs),
      setInterval(() => void this.#recheck(), recheckIntervalMs),
      setInterval(() => this.#beat(), heartbeatIntervalMs),
    );
    // The server's sockets keep the process alive, not these.
    for (const timer of this.#timers) timer.unref();
  }

  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #closeExpiredAndSlow(): void {
    const nowMs = Date.now();
    for (const peer of this.#options.peers.open) {
      const { connection } = peer;
      if (peer.expiresAtMs <= nowMs) connection.close(CloseCode.tokenExpired, 'the token has expired');
      const { pausedSinceMs } = connection;
      if (pausedSinceMs !== null && pausedSinceMs + this.#options.slowTimeoutMs <= nowMs) {
        connection.close(CloseCode.slow, 'did not read for too long');
        // It would not read the close frame either, and its buffer would stay.
        peer.terminate();
      }
    }
  }

  #ping(): void {
    for (const peer of this.#options.peers.open) {
      if (peer.answered) {
        peer.ping();
      } else {
        peer.connection.close(CloseCode.unresponsive, 'did not answer a ping');
        peer.terminate();
      }
    }
  }

  #beat(): void {
    const position = this.#options.position();
    if (position === null) return;
    const beat = new Heartbeat(position);
    for (const { connection } of this.#options.peers.open) connection.heartbeat(beat);
  }

  /** One query for all. While the database does not answer nobody is cut off: no events come either. */
  async #recheck(): Promise<void> {
    const { peers, access, lifecycle } = this.#options;
    if (this.#rechecking || peers.open.size === 0) return;
    this.#rechecking = true;
    const startedAtMs = performance.now();
    try {
      const checked = [...peers.open];
      const viewers = new Map(
        checked.flatMap(({ user, connection }) =>
          connection.channels().map(({ projectId }) => {
            const viewer = { userId: user.id, projectId };
            return [viewerKey(viewer), viewer] as const;
          }),
        ),
      );
      const allowed = await access.recheck([...viewers.values()]);
      let closed = 0;
      for (const { user, connection } of checked) {
        const before = connection.channels().length;
        connection.revoke(({ projectId }) => {
          const key = viewerKey({ userId: user.id, projectId });
          // A channel that came after the question was checked when it came.
          return allowed.has(key) || !viewers.has(key);
        });
        if (connection.channels().length < before) closed += 1;
      }
      const durationMs = performance.now() - startedAtMs;
      lifecycle.emit('access:rechecked', { connections: checked.length, closed, durationMs });
    } catch (error) {
      lifecycle.emit('access:failed', { error: error instanceof Error ? error : new Error(String(error)) });
    } finally {
      this.#rechecking = false;
    }
  }
}

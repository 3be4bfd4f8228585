import { CloseCode } from '@flagcast/protocol';
import { type Access, viewerKey } from '../access/access.js';
import type { Lifecycle } from '../lifecycle.js';
import type { OpenSocket } from './gateway.js';

export interface SweepTiming {
  /** How often expiry and slowness are looked at, in milliseconds. Default 1,000. */
  sweepIntervalMs?: number;
  /** How often peers are pinged; one that has not answered by the next time is dropped. In milliseconds. Default 30,000. */
  pingIntervalMs?: number;
  /** How often the rights of all are checked again, in milliseconds. Default 25,000, so that 30 s are kept with the query's time. */
  recheckIntervalMs?: number;
  /** How long a peer may stay paused, in milliseconds. Default 30,000. */
  slowTimeoutMs?: number;
}

export interface SweeperOptions extends SweepTiming {
  /** The sockets that are open, whenever it looks. */
  open: ReadonlySet<OpenSocket>;
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
      slowTimeoutMs: 30_000,
      ...options,
    };
  }

  start(): void {
    const { sweepIntervalMs, pingIntervalMs, recheckIntervalMs } = this.#options;
    this.#timers.push(
      setInterval(() => this.#closeExpiredAndSlow(), sweepIntervalMs),
      setInterval(() => this.#ping(), pingIntervalMs),
      setInterval(() => void this.#recheck(), recheckIntervalMs),
    );
    // The server's sockets keep the process alive, not these.
    for (const timer of this.#timers) timer.unref();
  }

  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #closeExpiredAndSlow(): void {
    const nowMs = Date.now();
    for (const { connection, webSocket, expiresAtMs } of this.#options.open) {
      if (expiresAtMs <= nowMs) connection.close(CloseCode.tokenExpired, 'the token has expired');
      const { pausedSinceMs } = connection;
      if (pausedSinceMs !== null && pausedSinceMs + this.#options.slowTimeoutMs <= nowMs) {
        connection.close(CloseCode.slow, 'did not read for too long');
        // It would not read the close frame either, and its buffer would stay.
        webSocket.terminate();
      }
    }
  }

  #ping(): void {
    for (const open of this.#options.open) {
      if (open.answered) {
        open.answered = false;
        if (open.webSocket.readyState === open.webSocket.OPEN) open.webSocket.ping();
      } else {
        open.connection.close(CloseCode.unresponsive, 'did not answer a ping');
        open.webSocket.terminate();
      }
    }
  }

  /** One query for all. While the database does not answer nobody is cut off: no events come either. */
  async #recheck(): Promise<void> {
    const { open, access, lifecycle } = this.#options;
    if (this.#rechecking || open.size === 0) return;
    this.#rechecking = true;
    const startedAtMs = performance.now();
    try {
      const checked = [...open];
      const viewers = new Map(
        checked.map(({ user, channel }) => {
          const viewer = { userId: user.id, projectId: channel.projectId };
          return [viewerKey(viewer), viewer];
        }),
      );
      const allowed = await access.recheck([...viewers.values()]);
      let closed = 0;
      for (const { connection, user, channel } of checked) {
        if (allowed.has(viewerKey({ userId: user.id, projectId: channel.projectId }))) continue;
        connection.close(CloseCode.forbidden, 'you may no longer see this project');
        closed += 1;
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

import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { Lifecycle } from '../lifecycle.js';

export interface ReadinessOptions {
  lifecycle: Lifecycle;
  pollIntervalMs: number;
  /** By how long a read may be overdue, in milliseconds. */
  graceMs: number;
  /** For how long a batch may be on its way to its connections, in milliseconds. */
  lagLimitMs: number;
  broadcaster: Pick<Broadcaster, 'lagMs'>;
}

/** Whether this server should get new clients: what `/readyz` tells. */
export class Readiness {
  readonly #options: ReadinessOptions;
  /** Of the last read that succeeded, on the clock of performance.now(); null before the first. */
  #lastReadAtMs: number | null = null;
  #draining = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
    const noteRead = (): void => {
      this.#lastReadAtMs = performance.now();
    };
    options.lifecycle.on('reader:started', noteRead);
    options.lifecycle.on('reader:read', noteRead);
    options.lifecycle.on('relay:heard', ({ readAgoMs }) => {
      this.#lastReadAtMs = performance.now() - readAgoMs;
    });
  }

  /** From now on it is not. */
  drain(): void {
    this.#draining = true;
  }

  /** Whether the database is being read, so that events come. */
  isReading(): boolean {
    const { pollIntervalMs, graceMs } = this.#options;
    return this.#lastReadAtMs !== null && performance.now() - this.#lastReadAtMs <= pollIntervalMs + graceMs;
  }

  /** Why it should get none, in one line; null when it should. */
  notReady(): string | null {
    const { lagLimitMs, broadcaster } = this.#options;
    if (this.#draining) return 'draining';
    if (this.#lastReadAtMs === null) return 'the database has not been read yet';
    if (!this.isReading()) return 'the database does not answer';
    const { lagMs } = broadcaster;
    if (lagMs <= lagLimitMs) return null;
    return `lagging: events that were read ${Math.round(lagMs / 1_000)} s ago have not been handed to all connections`;
  }
}

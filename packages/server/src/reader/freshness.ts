import type { FreshnessMessage, FreshnessReason } from '@flagcast/protocol';
import pg from 'pg';
import type { Lifecycle } from '../lifecycle.js';
import { EventSourceError } from './event-source.js';

export interface FreshnessOptions {
  lifecycle: Lifecycle;
  /** After this many milliseconds without a read the server is stale. */
  staleAfterMs: number;
  /** How long the delivery of a batch to all connections may take, in milliseconds. */
  lagLimitMs: number;
  broadcaster: { readonly lagMs: number };
  sessions: { readonly hasEndedPool: boolean };
}

/** How often to check whether a read is overdue, in milliseconds. */
const checkIntervalMs = 500;
/** The first failure is usually a lost connection, which the next attempt replaces. */
const failuresAllowed = 1;

/**
 * Whether the server is reading the database right now, for connections, `/readyz` and metrics. Before its first read
 * a server is neither fresh nor stale.
 */
export class Freshness {
  readonly #options: FreshnessOptions;
  /** A time of performance.now(); null before the first read. */
  #lastReadAtMs: number | null = null;
  /** Everything committed before this time has been read; in milliseconds since the epoch. */
  #asOfMs: number | null = null;
  #failure: FreshnessReason | null = null;
  /** A time of performance.now(). */
  #failedAtMs = -Infinity;
  /** Whether the last read returned everything that was committed before it. */
  #hasCaughtUp = false;
  #triggerProblem: string | null = null;
  #stale: { readonly reason: FreshnessReason; readonly sinceMs: number; readonly atMs: number } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isDraining = false;
  #hasEndedPool = false;

  constructor(options: FreshnessOptions) {
    this.#options = options;
    const { lifecycle } = options;
    lifecycle.on('reader:started', ({ startedAtMs }) => this.#read(startedAtMs, true));
    lifecycle.on('reader:read', ({ startedAtMs, isComplete }) => {
      this.#read(isComplete ? startedAtMs : this.#asOfMs, isComplete);
    });
    lifecycle.on('relay:heartbeat', ({ readAgoMs }) => {
      // A new leader may not have read since the database refused reads.
      if (readAgoMs === null || performance.now() - readAgoMs <= this.#failedAtMs) return;
      this.#read(Date.now() - readAgoMs, true, readAgoMs);
    });
    lifecycle.on('reader:failed', ({ error, attempt }) => {
      this.#failedAtMs = performance.now();
      if (attempt <= failuresAllowed) return;
      this.#failure = isRefusal(error) ? 'read_failed' : 'database_unreachable';
      this.#check();
    });
    lifecycle.on('reader:triggers', ({ problem }) => {
      this.#triggerProblem = problem;
      this.#check();
    });
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#check(), checkIntervalMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** From now on the server is not ready. */
  drain(): void {
    this.#isDraining = true;
  }

  /** Whether the database is being read. */
  get isFresh(): boolean {
    return this.#lastReadAtMs !== null && this.#stale === null;
  }

  /** Everything that was committed before this time has been read. RFC 3339; null before the first read. */
  get asOf(): string | null {
    return this.#asOfMs === null ? null : new Date(this.#asOfMs).toISOString();
  }

  /** How long the server has been stale, in milliseconds; 0 while it is fresh. */
  get staleForMs(): number {
    return this.#stale === null ? 0 : performance.now() - this.#stale.atMs;
  }

  /** The message for connections; null while the server is fresh. */
  get staleMessage(): FreshnessMessage | null {
    if (this.#stale === null) return null;
    const { reason, sinceMs } = this.#stale;
    return { type: 'freshness', state: 'stale', since: new Date(sinceMs).toISOString(), reason };
  }

  /** Why the server should receive no new clients, in one line; null if it is ready. */
  notReady(): string | null {
    const { lagLimitMs, broadcaster, sessions } = this.#options;
    if (this.#isDraining) return 'draining';
    if (sessions.hasEndedPool) return poolEnded;
    if (this.#stale !== null) {
      const since = new Date(this.#stale.sinceMs).toISOString();
      return `stale since ${since}: ${this.#problem(this.#stale.reason)}`;
    }
    if (this.#lastReadAtMs === null) return 'the database has not been read yet';
    const { lagMs } = broadcaster;
    if (lagMs <= lagLimitMs) return null;
    return `lagging: events that were read ${Math.round(lagMs / 1_000)} s ago have not been handed to all connections`;
  }

  #read(asOfMs: number | null, isComplete: boolean, agoMs = 0): void {
    this.#lastReadAtMs = performance.now() - agoMs;
    this.#asOfMs = asOfMs;
    this.#failure = null;
    this.#hasCaughtUp = isComplete;
    this.#check();
  }

  #check(): void {
    if (!this.#hasEndedPool && this.#options.sessions.hasEndedPool) {
      this.#hasEndedPool = true;
      const fix =
        'let the host end it after close() of Flagcast, and now create a new Flagcast with a new pool';
      this.#options.lifecycle.emit('pool:ended', { message: poolEnded, fix });
    }
    const reason = this.#reason();
    const before = this.#stale;
    if (reason === null) {
      this.#stale = null;
      if (before !== null) this.#options.lifecycle.emit('freshness:changed', { state: 'fresh' });
      return;
    }
    if (before?.reason === reason) return;
    const sinceMs = before?.sinceMs ?? this.#asOfMs ?? Date.now();
    this.#stale = { reason, sinceMs, atMs: before?.atMs ?? performance.now() };
    const problem = this.#problem(reason);
    this.#options.lifecycle.emit('freshness:changed', { state: 'stale', reason, sinceMs, problem });
  }

  /** Why the server is stale, in one line. */
  #problem(reason: FreshnessReason): string {
    return (reason === 'triggers_missing' ? this.#triggerProblem : null) ?? readyTexts[reason];
  }

  #reason(): FreshnessReason | null {
    if (this.#lastReadAtMs === null) return this.#failure;
    if (this.#failure !== null) return this.#failure;
    if (performance.now() - this.#lastReadAtMs > this.#options.staleAfterMs) return 'read_overdue';
    if (this.#triggerProblem !== null) return 'triggers_missing';
    // After an outage the server is stale until it has read everything.
    return this.#hasCaughtUp ? null : (this.#stale?.reason ?? null);
  }
}

const poolEnded = 'the host has ended the pool of database.pool: requests and permission checks fail';

const readyTexts: Readonly<Record<FreshnessReason, string>> = {
  database_unreachable: 'the database does not answer',
  read_failed: 'the database refuses the read',
  read_overdue: 'the database does not answer in time',
  triggers_missing: 'the triggers that write the event log are missing',
};

/**
 * Whether the database answered, and refused the read. Class 08: connection exception; 53: insufficient resources;
 * 57P: the server shuts down or starts.
 */
function isRefusal(error: Error): boolean {
  if (error instanceof EventSourceError) return true;
  return error instanceof pg.DatabaseError && !/^(08|53|57P)/.test(error.code ?? '');
}

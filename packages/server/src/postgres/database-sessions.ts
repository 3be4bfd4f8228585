import { setTimeout as delay } from 'node:timers/promises';
import { divideConnections, type SessionNeeds } from './session-budget.js';
import { SessionPool } from './session-pool.js';
import { SessionSlots } from './session-slots.js';

export interface DatabaseSessionsOptions extends SessionNeeds {
  /** `postgresql://…`; where it is missing an Error says so. */
  readonly databaseUrl: string;
  /** How many sessions there may be in all. */
  readonly connections: number;
  /** How long a statement may take, and how long to wait for a session, in milliseconds each. */
  readonly queryTimeoutMs: number;
}

/** All sessions of one server: each purpose has its own, so that none uses up those of another one. */
export class DatabaseSessions {
  /** For the reader, the listener, the relay and retention, which open and close their own. */
  readonly reader: SessionSlots;
  /** Users, channels and rights. */
  readonly authorization: SessionPool;
  /** What requests read. */
  readonly requests: SessionPool;
  /** What requests write: a writer that waits for a lock holds up no read. */
  readonly writes: SessionPool;
  readonly slots: readonly SessionSlots[];
  readonly #queryTimeoutMs: number;

  constructor({ databaseUrl, connections, queryTimeoutMs, ...needs }: DatabaseSessionsOptions) {
    // JavaScript may leave it out, and then the driver would look for a database on this machine.
    if (((databaseUrl as string | undefined) ?? '') === '') {
      throw new Error(
        'There is no databaseUrl: give postgresql://user:password@host:5432/database (if it comes from the environment, is the variable set?)',
      );
    }
    this.#queryTimeoutMs = queryTimeoutMs;
    const budget = divideConnections(connections, needs);
    const slotsFor = (purpose: keyof typeof budget): SessionSlots =>
      new SessionSlots({ purpose, limit: budget[purpose], waitTimeoutMs: queryTimeoutMs });
    const poolOf = (slots: SessionSlots): SessionPool =>
      new SessionPool(slots, { databaseUrl, applicationName: `flagcast ${slots.purpose}`, queryTimeoutMs });
    this.reader = slotsFor('reader');
    const [authorization, requests, writes] = [
      slotsFor('authorization'),
      slotsFor('requests'),
      slotsFor('writes'),
    ];
    this.authorization = poolOf(authorization);
    this.requests = poolOf(requests);
    this.writes = poolOf(writes);
    this.slots = [this.reader, authorization, requests, writes];
  }

  /**
   * Ends them when what is under way is done and the owners of the reader's sessions have stopped (`stopped`), or
   * when that takes longer than a statement may.
   */
  async end(stopped: Promise<unknown>): Promise<void> {
    const limit = new AbortController();
    await Promise.race([
      Promise.all([stopped, ...this.#pools.map(async (pool) => await pool.end())]),
      delay(this.#queryTimeoutMs, undefined, { signal: limit.signal }).catch(() => undefined),
    ]);
    limit.abort();
    for (const slots of this.slots) slots.destroy();
  }

  get #pools(): readonly SessionPool[] {
    return [this.authorization, this.requests, this.writes];
  }
}

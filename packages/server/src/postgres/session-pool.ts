import type pg from 'pg';
import type { Database } from './connection-settings.js';
import { HostPool } from './host-pool.js';
import { NoFreeSessionError } from './errors.js';
import { Session, type SessionOptions } from './session.js';
import type { Statement } from './statements.js';

/** Runs statements. */
export interface Queries {
  /** Rejects with what the database throws, or NoFreeSessionError. */
  query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

/** Runs statements in sessions that it lends. */
export interface SessionSource extends Queries {
  /** Lends a session to `work`, which leaves no transaction open. Rejects with what `work` throws, or NoFreeSessionError. */
  use<Result>(work: (session: pg.ClientBase) => Promise<Result>): Promise<Result>;
}

export interface SessionPoolOptions {
  /** What the sessions are for, in metrics, errors and pg_stat_activity. */
  readonly purpose: string;
  /** How many sessions there may be. */
  readonly limit: number;
  readonly database: Database;
  /** How long a statement may take, and how long to wait for a session, in milliseconds. */
  readonly queryTimeoutMs: number;
}

interface Waiter {
  readonly resolve: (session: Session | null) => void;
  readonly reject: (error: Error) => void;
}

/** A session that is not used for so long is closed, in milliseconds. */
const idleTimeoutMs = 10_000;

/**
 * The sessions for one purpose: some are lent, some are kept by an owner. Limits their number in PostgreSQL: a session
 * counts from before it is opened until PostgreSQL has ended it, also after it was discarded. With a pool of the host,
 * the pool lends the clients of the host, and the lent clients count.
 */
export class SessionPool implements SessionSource {
  readonly purpose: string;
  readonly limit: number;
  readonly #options: SessionPoolOptions;
  readonly #hostPool: HostPool | null;
  readonly #waiters = new Set<Waiter>();
  /** The sessions that PostgreSQL has not ended. */
  readonly #sessions = new Set<Session>();
  /** The sessions that are not lent, with the timers that close them, in the order of their last use. */
  readonly #idle = new Map<Session, NodeJS.Timeout>();
  /** The uses of the host's pool that have not ended. */
  readonly #uses = new Set<Promise<unknown>>();
  used = 0;
  /** How often no session was free in time. */
  timeouts = 0;
  #isClosed = false;

  constructor(options: SessionPoolOptions) {
    this.#options = options;
    const { purpose, limit, database, queryTimeoutMs } = options;
    this.purpose = purpose;
    this.limit = limit;
    this.#hostPool = database.pool === undefined ? null : new HostPool(database.pool, queryTimeoutMs);
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  async query<Row extends pg.QueryResultRow>(
    statement: Statement,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>> {
    return await this.use(async (session) => await session.query<Row>(statement, values));
  }

  async use<Result>(work: (session: pg.ClientBase) => Promise<Result>): Promise<Result> {
    return await this.#use(work);
  }

  /** The same for a request: it leaves the queue when `signal` is aborted. */
  until(signal: AbortSignal): SessionSource {
    return {
      use: async (work) => await this.#use(work, signal),
      query: async <Row extends pg.QueryResultRow>(statement: Statement, values?: unknown[]) =>
        await this.#use(async (session) => await session.query<Row>(statement, values), signal),
    };
  }

  /** Opens a session that the caller keeps, as soon as there may be one more. */
  async open(options: Omit<SessionOptions, 'database'> & { readonly database?: Database }): Promise<Session> {
    return (await this.#take(options.signal)) ?? (await this.#open(options));
  }

  /** Lends no more sessions. Resolves when the work in all sessions is complete and they have ended, without discarded ones. */
  async end(): Promise<void> {
    this.#close();
    const ended = [...this.#sessions]
      .filter((session) => !session.isGivenUp)
      .map(async (session) => await new Promise<void>((resolve) => session.once('end', resolve)));
    for (const session of this.#idle.keys()) this.#closeIdle(session);
    await Promise.allSettled([...ended, ...this.#uses]);
  }

  /** Lends no more sessions, discards the open ones, and does not wait for PostgreSQL to end them. */
  destroy(): void {
    this.#close();
    for (const session of this.#sessions) session.destroy();
    this.#hostPool?.abandon();
  }

  async #use<Result>(
    work: (session: pg.ClientBase) => Promise<Result>,
    signal?: AbortSignal,
  ): Promise<Result> {
    if (this.#hostPool !== null) return await this.#useHostPool(this.#hostPool, work, signal);
    const session = this.#takeIdle() ?? (await this.#take(signal)) ?? (await this.#openOwn());
    try {
      return await work(session);
    } finally {
      this.#giveBack(session);
    }
  }

  async #useHostPool<Result>(
    pool: HostPool,
    work: (client: pg.ClientBase) => Promise<Result>,
    signal?: AbortSignal,
  ): Promise<Result> {
    await this.#take(signal);
    const use = pool.use(work);
    this.#uses.add(use);
    try {
      return await use;
    } finally {
      this.#uses.delete(use);
      this.#free();
    }
  }

  /** Waits for a place, or for the session of another user. Null: the caller opens a session. */
  async #take(signal?: AbortSignal): Promise<Session | null> {
    const { limit, purpose, queryTimeoutMs } = this.#options;
    if (this.#isClosed) throw closed();
    if (this.used < limit) {
      this.used += 1;
      return null;
    }
    if (signal?.aborted === true) throw clientGone();
    return await new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const waiter: Waiter = {
        resolve: (session) => {
          leave();
          resolve(session);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        this.timeouts += 1;
        const message = `all ${limit} sessions of the database for ${purpose} were in use for ${queryTimeoutMs} ms`;
        waiter.reject(new NoFreeSessionError(message));
      }, queryTimeoutMs);
      const onAbort = (): void => waiter.reject(clientGone());
      signal?.addEventListener('abort', onAbort);
      this.#waiters.add(waiter);
    });
  }

  #takeIdle(): Session | null {
    const session = [...this.#idle.keys()].at(-1) ?? null;
    if (session !== null) this.#forgetIdle(session);
    return session;
  }

  async #openOwn(): Promise<Session> {
    const { purpose, queryTimeoutMs } = this.#options;
    return await this.#open({ applicationName: `flagcast ${purpose}`, queryTimeoutMs });
  }

  /** Opens a session for a place that was taken. */
  async #open(
    options: Omit<SessionOptions, 'database'> & { readonly database?: Database },
  ): Promise<Session> {
    let session: Session;
    try {
      session = new Session({ database: this.#options.database, ...options });
    } catch (error) {
      this.#free();
      throw error;
    }
    this.#sessions.add(session);
    session.once('end', () => {
      this.#sessions.delete(session);
      this.#forgetIdle(session);
      this.#free();
    });
    await session.open();
    return session;
  }

  #giveBack(session: Session): void {
    const [waiter] = this.#waiters;
    if (!session.isReusable || this.#isClosed) session.discard();
    else if (waiter !== undefined) waiter.resolve(session);
    else this.#idle.set(session, setTimeout(() => this.#closeIdle(session), idleTimeoutMs).unref());
  }

  #closeIdle(session: Session): void {
    this.#forgetIdle(session);
    session.discard();
  }

  #forgetIdle(session: Session): void {
    clearTimeout(this.#idle.get(session));
    this.#idle.delete(session);
  }

  #free(): void {
    const [waiter] = this.#waiters;
    if (waiter === undefined) this.used -= 1;
    else waiter.resolve(null);
  }

  #close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiters) waiter.reject(closed());
  }
}

function closed(): NoFreeSessionError {
  return new NoFreeSessionError('the server is closing its sessions of the database');
}

function clientGone(): NoFreeSessionError {
  return new NoFreeSessionError('the client of the request has disconnected');
}

import { connect, type Socket } from 'node:net';
import pg from 'pg';
import { connectionParameters, type Database } from './connection-settings.js';
import { isRefusedStatement, SessionLostError } from './errors.js';
import {
  LocalTimeouts,
  PendingStatements,
  refusesHiddenRows,
  settingsStatement,
  type Statement,
  timeoutSettings,
} from './statements.js';
import { toError } from '../describe.js';

export interface SessionOptions {
  readonly database: Database;
  /** The name in pg_stat_activity. */
  readonly applicationName: string;
  /** After this many milliseconds without an answer a query fails, and the session becomes unusable. */
  readonly queryTimeoutMs: number;
  /**
   * How values arrive. `text`: as PostgreSQL's own text, because 64-bit ids and microseconds do not survive a
   * JavaScript number or Date. Default `parsed`.
   */
  readonly values?: 'text' | 'parsed';
  /** Gives the session up when it is aborted. Default: none. */
  readonly signal?: AbortSignal;
}

/** Opens a session of the given database. */
export type OpenSession = (options: Omit<SessionOptions, 'database'>) => Promise<Session>;

/** How long a connection attempt may take, in milliseconds. */
const connectTimeoutMs = 5_000;
const cancelTimeoutMs = 5_000;
/** PostgreSQL ends the session of an unreachable machine after 5 + 3 x 2 s, or after 15 s with unsent data. */
const keepAliveSettings = {
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '15000',
};
const vanishedAfterMs = 15_000;
/** PostgreSQL ends a session that has not authenticated by then: its default authentication_timeout. */
const authenticationTimeoutMs = 60_000;
/** A transaction of the host in SERIALIZABLE fails if it writes what one of ours has read in it. */
const isolation = { default_transaction_isolation: 'read committed' };

/**
 * A session of PostgreSQL that ends its statements before the client's time-out, by lock_timeout and statement_timeout.
 * They are set once; behind a pooler in each transaction, because the next one may run in another session, and one of the
 * host in this session.
 */
export class Session extends pg.Client {
  /** The driver's types do not have them. */
  declare readonly processID: number | null;
  declare readonly secretKey: number | null;
  readonly #options: SessionOptions;
  readonly #pending = new PendingStatements();
  /** Null without a pooler: then the time-outs are set once. */
  #localTimeouts: LocalTimeouts | null = null;
  #isCommitting = false;
  /** Why it is unusable. */
  #failure: Error | null = null;
  isGivenUp = false;

  constructor(options: SessionOptions) {
    super({
      ...connectionParameters(options.database),
      application_name: options.applicationName,
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      ...(options.values === 'text' ? { types: { getTypeParser: () => (value: unknown) => value } } : {}),
    });
    this.#options = options;
    this.query = (async (statement: Statement, values?: unknown[]) =>
      await this.#query(statement, values)) as pg.Client['query'];
    this.end = async () => await this.#within(options.queryTimeoutMs, async () => await super.end());
    // Without a listener the loss of an idle session would end the process. Its owner notices 'end', or that the next
    // query rejects.
    this.on('error', (error) => (this.#failure ??= error));
    this.once('end', () => (this.#failure ??= new SessionLostError('the session of the database has ended')));
  }

  static async open(options: SessionOptions): Promise<Session> {
    const session = new Session(options);
    await session.open();
    return session;
  }

  /** Connects. `end` is emitted once, when PostgreSQL has ended the session, also if it could not be opened. */
  async open(): Promise<void> {
    const { signal } = this.#options;
    const onAbort = (): void => this.discard();
    signal?.addEventListener('abort', onAbort);
    this.once('end', () => signal?.removeEventListener('abort', onAbort));
    try {
      await this.#within(connectTimeoutMs, async () => await this.connect());
      await this.#applySettings();
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /** Whether a pooler is in between: the process id that it reports is not that of the session. */
  get isPooled(): boolean {
    return this.#localTimeouts !== null;
  }

  /** Whether another caller can use it: it is in no transaction, and every statement has been answered. */
  get isReusable(): boolean {
    return this.#failure === null && this.#pending.size === 0 && this.getTransactionStatus() === 'I';
  }

  /** From now on PostgreSQL refuses statements from which row-level security would hide rows, and hides none. */
  async refuseHiddenRows(): Promise<void> {
    if (this.#localTimeouts === null) await this.query(`SET ${refusesHiddenRows}`);
    else this.#localTimeouts.add(refusesHiddenRows);
  }

  /**
   * Gives the session up without waiting: its statements reject, PostgreSQL is asked to cancel them and to end the
   * session, and `end` is emitted when it has, or when its time-outs have certainly ended it. A COMMIT is not cancelled:
   * it would be visible without the copy on the standby that it waits for.
   */
  discard(reason = new SessionLostError('the database session was discarded')): void {
    if (this.isGivenUp) return;
    this.isGivenUp = true;
    this.#failure ??= reason;
    const isBusy = this.#pending.size > 0;
    this.#pending.rejectAll(reason);
    if (this.#socket.connecting) {
      this.#socket.destroy();
      return;
    }
    this.#socket.unref();
    // Send nothing before the answer: with unsent data TCP notices only after 15 minutes, instead of 15 s, that the other
    // machine is unreachable.
    if (isBusy && this.#isCommitting) this.connection.once('message', () => this.connection.end());
    else this.#leave(isBusy);
  }

  /** Gives the session up without waiting for PostgreSQL to end it. */
  destroy(): void {
    this.discard();
    this.#socket.destroy();
  }

  /** Ends the session, and closes the socket when the time-outs of PostgreSQL have certainly ended it. */
  #leave(isBusy: boolean): void {
    const isOpen = this.processID !== null;
    if (isBusy && isOpen) this.#cancel();
    this.connection.end();
    const limitMs = isOpen
      ? Math.max(this.#options.queryTimeoutMs, vanishedAfterMs)
      : authenticationTimeoutMs;
    const timer = setTimeout(() => this.#socket.destroy(), limitMs);
    timer.unref();
    this.once('end', () => clearTimeout(timer));
  }

  /** Sends a cancel request. It needs a connection of its own, which is not a session of PostgreSQL. */
  #cancel(): void {
    const request = Buffer.alloc(16);
    request.writeInt32BE(16, 0);
    request.writeInt32BE(80_877_102, 4);
    request.writeInt32BE(this.processID ?? 0, 8);
    request.writeInt32BE(this.secretKey ?? 0, 12);
    const target = this.host.startsWith('/')
      ? { path: `${this.host}/.s.PGSQL.${this.port}` }
      : { host: this.host, port: this.port };
    const socket = connect(target);
    socket.on('error', () => undefined);
    socket.setTimeout(cancelTimeoutMs, () => socket.destroy());
    socket.end(request);
    socket.unref();
  }

  async #query(statement: Statement, values?: unknown[]): Promise<pg.QueryResult> {
    if (this.#failure !== null) throw this.#failure;
    return await (this.#localTimeouts?.query(statement, values) ?? this.#send(statement, values));
  }

  readonly #send = async (statement: Statement, values?: unknown[]): Promise<pg.QueryResult> => {
    this.#isCommitting = statement === 'COMMIT';
    return await this.#within(this.#options.queryTimeoutMs, async () => await super.query(statement, values));
  };

  /** The result of `work`. After a time-out, or if the session is discarded, the session cannot be used any more. */
  async #within<Result>(limitMs: number, work: () => Promise<Result>): Promise<Result> {
    try {
      return await this.#pending.within(limitMs, work, (error) => this.discard(error));
    } catch (error) {
      if (this.processID === null || !isRefusedStatement(error)) {
        this.#failure ??= toError(error);
      }
      throw error;
    }
  }

  get #socket(): Socket {
    return this.connection.stream as Socket;
  }

  async #applySettings(): Promise<void> {
    const { queryTimeoutMs } = this.#options;
    const { rowCount } = await this.#send(
      settingsStatement(
        { ...keepAliveSettings, ...isolation, ...timeoutSettings(queryTimeoutMs) },
        { isLocal: false, condition: `pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ${this.processID}` },
      ),
    );
    if (rowCount === 0) this.#localTimeouts = new LocalTimeouts(this.#send, queryTimeoutMs);
  }
}

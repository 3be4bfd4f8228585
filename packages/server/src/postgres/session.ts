import { connect, type Socket } from 'node:net';
import pg from 'pg';
import { connectionSettings } from './connection-settings.js';

export interface SessionOptions {
  /** `postgresql://user:password@host:port/database`. */
  readonly databaseUrl: string;
  /** What the session is for, as pg_stat_activity shows it. */
  readonly applicationName: string;
  /** After this many milliseconds without an answer a query fails and the session cannot be used any more. */
  readonly queryTimeoutMs: number;
  /**
   * How values arrive. `text`: as PostgreSQL's own text, because 64-bit ids and microseconds do not survive a
   * JavaScript number or Date. Default `parsed`.
   */
  readonly values?: 'text' | 'parsed';
  /** Gives the session up when it is aborted. Default: none. */
  readonly signal?: AbortSignal;
}

/** The session cannot be used any more, and what it was doing has not been answered. */
export class SessionLostError extends Error {
  override readonly name = 'SessionLostError';
}

export type Statement = string | (pg.QueryConfig<unknown[]> & { readonly rowMode?: 'array' });

/** How long a connection attempt may take, in milliseconds. */
const connectTimeoutMs = 5_000;
const cancelTimeoutMs = 5_000;
/** PostgreSQL ends the session of a machine that has vanished: after 5 + 3 x 2 s, or with unsent data after 15 s. */
const keepAliveSettings = {
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '15000',
};
const vanishedAfterMs = 15_000;
/** PostgreSQL ends a session that has not signed in by then: its default authentication_timeout. */
const authenticationTimeoutMs = 60_000;
/** Those of the role or the database would end sessions that are idle or at work. Not every version has them. */
const foreignTimeouts = { idle_session_timeout: '0', transaction_timeout: '0' };

/**
 * A session of PostgreSQL whose statements end in the database, too, when their time is over: lock_timeout and
 * statement_timeout are shorter than the client's time-out. They are set once in the session, or behind a pooler in each
 * transaction, because there the next transaction may be in another session, and the host's in this one.
 */
export class Session extends pg.Client {
  /** The driver's types do not have them. */
  declare readonly processID: number | null;
  declare readonly secretKey: number | null;
  readonly #options: SessionOptions;
  /** The rejections of what waits for the database. */
  readonly #waiting = new Set<(error: Error) => void>();
  #isPooled = false;
  /** Behind a pooler each statement is a transaction of its own: how many are under way, and the end of the last one. */
  #ownTransactions = 0;
  #lastTransaction: Promise<unknown> = Promise.resolve();
  #isCommitting = false;
  /** Why it cannot be used any more. */
  #failure: Error | null = null;
  #isGivenUp = false;

  constructor(options: SessionOptions) {
    super({
      ...connectionSettings(options.databaseUrl),
      application_name: options.applicationName,
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      ...(options.values === 'text' ? { types: { getTypeParser: () => (value: unknown) => value } } : {}),
    });
    this.#options = options;
    this.query = (async (statement: Statement, values?: unknown[]) =>
      await this.#query(statement, values)) as pg.Client['query'];
    this.end = async () => await this.#within(options.queryTimeoutMs, async () => await super.end());
    // Without a listener the loss of an idle session would end the process. Its owner learns of it from 'end' or from
    // the next query.
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

  /** Whether a pooler is in between: the process id that it announces is not that of the session. */
  get isPooled(): boolean {
    return this.#isPooled;
  }

  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Whether another owner can use it: it is in no transaction, and every statement has been answered. */
  get isReusable(): boolean {
    return this.#failure === null && this.#waiting.size === 0 && this.getTransactionStatus() === 'I';
  }

  /**
   * Gives the session up without waiting: its statements reject, PostgreSQL is asked to cancel them and to end the
   * session, and `end` is emitted when it has, or when its time-outs have certainly ended it. A COMMIT is not cancelled:
   * it would be visible without the copy on the standby that it waits for.
   */
  discard(reason = new SessionLostError('the session of the database was given up')): void {
    if (this.#isGivenUp) return;
    this.#isGivenUp = true;
    this.#failure ??= reason;
    const isBusy = this.#waiting.size > 0;
    for (const reject of this.#waiting) reject(reason);
    if (this.#socket.connecting) {
      this.#socket.destroy();
      return;
    }
    this.#socket.unref();
    // Nothing is sent before there is an answer: with unsent data TCP would notice only after a quarter of an hour, instead
    // of 15 s, that the other machine has vanished.
    if (isBusy && this.#isCommitting) this.connection.once('message', () => this.connection.end());
    else this.#leave(isBusy);
  }

  /** Gives the session up, and does not wait for PostgreSQL to end it. */
  destroy(): void {
    this.discard();
    this.#socket.destroy();
  }

  /** Says goodbye and waits for PostgreSQL to hang up, until its time-outs have certainly ended the session. */
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

  /** PostgreSQL takes such a request on a connection of its own, which is no session and counts for none. */
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
    if (!this.#isPooled) return await this.#send(statement, values);
    if (this.#ownTransactions === 0) {
      if (this.getTransactionStatus() !== 'I') return await this.#send(statement, values);
      if (typeof statement === 'string' && statement.startsWith('BEGIN')) return await this.#begin(statement);
    }
    this.#ownTransactions += 1;
    const transaction = this.#lastTransaction
      .then(async () => await this.#inTransaction(statement, values))
      .finally(() => (this.#ownTransactions -= 1));
    this.#lastTransaction = transaction.catch(() => undefined);
    return await transaction;
  }

  async #inTransaction(statement: Statement, values?: unknown[]): Promise<pg.QueryResult> {
    await this.#begin('BEGIN');
    try {
      const result = await this.#send(statement, values);
      await this.#send('COMMIT');
      return result;
    } catch (error) {
      if (this.#failure === null) await this.#send('ROLLBACK');
      throw error;
    }
  }

  async #begin(statement: string): Promise<pg.QueryResult> {
    const settings = Object.entries(this.#timeouts).map(([name, value]) => `SET LOCAL ${name} = ${value}`);
    return await this.#send([statement, ...settings].join(';'));
  }

  async #send(statement: Statement, values?: unknown[]): Promise<pg.QueryResult> {
    this.#isCommitting = statement === 'COMMIT';
    return await this.#within(this.#options.queryTimeoutMs, async () => await super.query(statement, values));
  }

  /** What `work` brings, unless it takes longer or the session is given up meanwhile; then it cannot be used any more. */
  async #within<Result>(limitMs: number, work: () => Promise<Result>): Promise<Result> {
    return await new Promise<Result>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(fail);
      };
      const fail = (error: Error): void => {
        settle();
        this.#failure ??= error;
        reject(error);
      };
      const timer = setTimeout(
        () => this.discard(new SessionLostError(`the database did not answer within ${limitMs} ms`)),
        limitMs,
      );
      this.#waiting.add(fail);
      work().then(
        (result) => {
          settle();
          resolve(result);
        },
        (error: unknown) => {
          if (this.processID !== null && isRefusedStatement(error)) {
            settle();
            reject(error);
          } else fail(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  get #socket(): Socket {
    return this.connection.stream as Socket;
  }

  get #timeouts(): Readonly<Record<string, string>> {
    const { queryTimeoutMs } = this.#options;
    return {
      lock_timeout: String(Math.round(queryTimeoutMs * 0.8)),
      statement_timeout: String(Math.round(queryTimeoutMs * 0.9)),
      idle_in_transaction_session_timeout: String(2 * queryTimeoutMs),
    };
  }

  async #applySettings(): Promise<void> {
    const { rowCount } = await this.#send(
      `SELECT set_config(key, value, false) FROM json_each_text($1)
       WHERE pg_backend_pid() = $2 AND current_setting(key, true) IS NOT NULL`,
      [JSON.stringify({ ...keepAliveSettings, ...foreignTimeouts, ...this.#timeouts }), this.processID],
    );
    this.#isPooled = rowCount === 0;
  }
}

/** Whether PostgreSQL has refused a statement and the session goes on. */
function isRefusedStatement(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && !/^(08|25P0[34]|57P)/.test(error.code ?? '');
}

import pg from 'pg';
import { isRefusedStatement, NoFreeSessionError } from './errors.js';
import { LocalTimeouts, PendingStatements, type Statement } from './statements.js';
import { toError } from '../describe.js';

/** A client of the host's pool while it is lent. */
class LentClient {
  readonly #client: pg.PoolClient;
  readonly #queryTimeoutMs: number;
  readonly #pending = new PendingStatements();
  readonly #timeouts: LocalTimeouts;
  #failure: Error | null = null;

  constructor(client: pg.PoolClient, queryTimeoutMs: number) {
    this.#client = client;
    this.#queryTimeoutMs = queryTimeoutMs;
    this.#timeouts = new LocalTimeouts(this.#send, queryTimeoutMs);
    // Without a listener the loss of a lent client would end the process.
    client.on('error', this.fail);
  }

  /** The same client, with time-outs. */
  get client(): pg.ClientBase {
    return Object.create(this.#client, { query: { value: this.#timeouts.query } }) as pg.ClientBase;
  }

  /** Its statements reject, and it is removed from the pool. */
  readonly fail = (error: Error): void => {
    this.#failure ??= error;
    this.#pending.rejectAll(error);
  };

  async release(): Promise<void> {
    if (this.#pending.size > 0) this.fail(new Error('a statement was not awaited'));
    if (this.#timeouts.isInTransaction) await this.#timeouts.query('ROLLBACK').catch(() => undefined);
    this.#client.off('error', this.fail);
    this.#client.release(this.#failure ?? undefined);
  }

  readonly #send = async (statement: Statement, values?: unknown[]): Promise<pg.QueryResult> => {
    if (this.#failure !== null) throw this.#failure;
    const query = async (): Promise<pg.QueryResult> => await this.#client.query(configOf(statement, values));
    try {
      return await this.#pending.within(this.#queryTimeoutMs, query, this.fail);
    } catch (thrown) {
      const error = asDatabaseError(thrown);
      if (!isRefusedStatement(error)) this.fail(error);
      throw error;
    }
  };
}

/**
 * Lends clients of a pool of the host. They return to it without settings of ours, because the time-outs are set for
 * each transaction. A client that lost its connection, or whose statement timed out, is removed from the pool.
 */
export class HostPool {
  readonly #pool: pg.Pool;
  readonly #queryTimeoutMs: number;
  readonly #lent = new Set<LentClient>();

  constructor(pool: pg.Pool, queryTimeoutMs: number) {
    this.#pool = pool;
    this.#queryTimeoutMs = queryTimeoutMs;
  }

  /** Rejects with what `work` throws, or NoFreeSessionError. Rolls back a transaction that `work` leaves open. */
  async use<Result>(work: (client: pg.ClientBase) => Promise<Result>): Promise<Result> {
    const lent = new LentClient(await this.#connect(), this.#queryTimeoutMs);
    this.#lent.add(lent);
    try {
      return await work(lent.client);
    } finally {
      this.#lent.delete(lent);
      await lent.release();
    }
  }

  /** Removes the lent clients from the pool. */
  abandon(): void {
    for (const lent of this.#lent) lent.fail(new Error('the server has closed'));
  }

  async #connect(): Promise<pg.PoolClient> {
    const connecting = this.#pool.connect();
    const pending = new PendingStatements();
    const limitMs = this.#queryTimeoutMs;
    try {
      const client = await pending.within(
        limitMs,
        async () => await connecting,
        () => pending.rejectAll(new NoFreeSessionError(`the pool had no free client for ${limitMs} ms`)),
      );
      if (isInTransaction(client)) {
        throw new Error(
          'a client of the pool was released in a transaction: end transactions before release()',
        );
      }
      return client;
    } catch (error) {
      connecting.then(
        (client) => client.release(isInTransaction(client)),
        () => undefined,
      );
      throw error;
    }
  }
}

/** Our COMMIT would commit what the host left open. Earlier versions of pg do not know it. */
function isInTransaction(client: Partial<pg.PoolClient>): boolean {
  return ['T', 'E'].includes(client.getTransactionStatus?.() ?? 'I');
}

/** Without a name, which the host may use for another statement, and with values parsed as pg does by default. */
function configOf(statement: Statement, values?: unknown[]): pg.QueryConfig<unknown[]> {
  const config = typeof statement === 'string' ? { text: statement } : statement;
  const types = { getTypeParser: pg.types.getTypeParser };
  return { ...config, ...(values === undefined ? {} : { values }), name: undefined, types };
}

/** The host's pool may belong to another copy of pg, with an error class of its own. */
function asDatabaseError(thrown: unknown): Error {
  const error = toError(thrown);
  if (error instanceof pg.DatabaseError || !('severity' in error)) return error;
  return Object.assign(new pg.DatabaseError(error.message, 0, 'error'), error);
}

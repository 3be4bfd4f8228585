import type pg from 'pg';
import { CommitOutcomeUnknownError, isRefusedStatement, isRollback, SessionLostError } from './errors.js';

export type Statement = string | (pg.QueryConfig<unknown[]> & { readonly rowMode?: 'array' });

/** With this setting PostgreSQL refuses a statement from which row-level security would hide rows. */
export const refusesHiddenRows = 'row_security = off';

/** With these PostgreSQL ends a statement before the client's time-out, in milliseconds. */
export function timeoutSettings(queryTimeoutMs: number): Readonly<Record<string, string>> {
  return {
    lock_timeout: String(Math.round(queryTimeoutMs * 0.8)),
    statement_timeout: String(Math.round(queryTimeoutMs * 0.9)),
    idle_in_transaction_session_timeout: String(2 * queryTimeoutMs),
  };
}

/**
 * Defaults of the role or database that would end our sessions (not every version has these time-outs), or give our
 * parameters and their digits another meaning.
 */
const foreignDefaults = {
  ...{ idle_session_timeout: '0', transaction_timeout: '0' },
  ...{ array_nulls: 'on', extra_float_digits: '1' },
};

/**
 * SQL that makes these settings, instead of those defaults, and searches pg_catalog first: schemas before it could have
 * functions, operators and tables with the names of those in our statements. `condition`: only if it is true.
 */
export function settingsStatement(
  settings: Readonly<Record<string, string>>,
  { isLocal, condition = 'true' }: { readonly isLocal: boolean; readonly condition?: string },
): string {
  return `SELECT pg_catalog.set_config(key, value, ${isLocal}) FROM (
    SELECT key, value FROM pg_catalog.json_each_text('${JSON.stringify({ ...foreignDefaults, ...settings })}')
    UNION ALL SELECT 'search_path',
      pg_catalog.btrim(pg_catalog.concat('pg_catalog, ', pg_catalog.current_setting('search_path')), ', ')
  ) s WHERE ${condition} AND pg_catalog.current_setting(key, true) IS NOT NULL`;
}

/** The statements of a session that have not been answered. */
export class PendingStatements {
  readonly #rejections = new Set<(error: Error) => void>();

  get size(): number {
    return this.#rejections.size;
  }

  rejectAll(error: Error): void {
    for (const reject of this.#rejections) reject(error);
    this.#rejections.clear();
  }

  /** The result of `work`. Without one after `limitMs` calls `onTimeout`, which rejects them all. */
  async within<Result>(
    limitMs: number,
    work: () => Promise<Result>,
    onTimeout: (error: SessionLostError) => void,
  ): Promise<Result> {
    return await new Promise<Result>((resolve, reject) => {
      const timer = setTimeout(
        () => onTimeout(new SessionLostError(`the database did not answer within ${limitMs} ms`)),
        limitMs,
      );
      this.#rejections.add(reject);
      const settle = (): void => {
        clearTimeout(timer);
        this.#rejections.delete(reject);
      };
      work().finally(settle).then(resolve, reject);
    });
  }
}

type Send = (statement: Statement, values?: unknown[]) => Promise<pg.QueryResult>;

/**
 * Sets the time-outs and other settings for each transaction, and runs each single statement in a transaction. For sessions that other
 * clients use next: those behind a pooler in transaction mode, and those of the host's pool.
 */
export class LocalTimeouts {
  readonly #send: Send;
  readonly #settings: string[];
  #isInTransaction = false;
  /** How many single statements have not ended, and the end of the last one. */
  #singles = 0;
  #lastSingle: Promise<unknown> = Promise.resolve();

  constructor(send: Send, queryTimeoutMs: number) {
    this.#send = send;
    this.#settings = [settingsStatement(timeoutSettings(queryTimeoutMs), { isLocal: true })];
  }

  /** Sets this, too, in each transaction that begins later. */
  add(setting: string): void {
    this.#settings.push(`SET LOCAL ${setting}`);
  }

  get isInTransaction(): boolean {
    return this.#isInTransaction;
  }

  readonly query: Send = async (statement, values) => {
    if (this.#singles === 0) {
      if (this.#isInTransaction) return await this.#sendInTransaction(statement, values);
      if (typeof statement === 'string' && statement.startsWith('BEGIN')) return await this.#begin(statement);
    }
    this.#singles += 1;
    const single = this.#lastSingle
      .then(async () => await this.#runSingle(statement, values))
      .finally(() => (this.#singles -= 1));
    this.#lastSingle = single.catch(() => undefined);
    return await single;
  };

  async #begin(statement: string): Promise<pg.QueryResult> {
    // Not later: PostgreSQL may refuse a setting, and the transaction has begun.
    this.#isInTransaction = true;
    return await this.#send([statement, ...this.#settings].join(';'));
  }

  async #sendInTransaction(statement: Statement, values?: unknown[]): Promise<pg.QueryResult> {
    // A COMMIT that PostgreSQL refuses ends the transaction, too.
    if (statement === 'COMMIT' || statement === 'ROLLBACK') this.#isInTransaction = false;
    return await this.#send(statement, values);
  }

  async #runSingle(statement: Statement, values?: unknown[]): Promise<pg.QueryResult> {
    try {
      await this.#begin('BEGIN ISOLATION LEVEL READ COMMITTED');
      const result = await this.#send(statement, values);
      await this.#sendInTransaction('COMMIT');
      return result;
    } catch (error) {
      if (this.#isInTransaction && isRefusedStatement(error)) await this.#sendInTransaction('ROLLBACK');
      throw error;
    }
  }
}

/** Whether the session is at a replica, where nothing can be written and LISTEN does not work. */
export async function isReplica(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query<{ replica: string }>('SELECT pg_is_in_recovery()::text AS replica');
  return rows[0]?.replica === 'true';
}

/**
 * Runs `work` in one transaction of `client`, which must not be in one: commits when it resolves, rolls back when it
 * rejects. Always READ COMMITTED, because a transaction that waits for a lock must see what the holder committed. Rejects
 * with what `work` throws, or CommitOutcomeUnknownError.
 */
export async function inTransaction<Result>(
  client: pg.ClientBase,
  work: () => Promise<Result>,
): Promise<Result> {
  await client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE');
  let result: Result;
  try {
    result = await work();
  } catch (error) {
    // A lost session rolls back by itself; report the error that broke it.
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
  try {
    await client.query('COMMIT');
  } catch (error) {
    if (isRollback(error)) throw error;
    throw new CommitOutcomeUnknownError('the database has not answered a COMMIT', { cause: error });
  }
  return result;
}

import pg from 'pg';

/** The COMMIT of a transaction was not answered: it may have been committed, or may still be. */
export class CommitOutcomeUnknownError extends Error {
  override readonly name = 'CommitOutcomeUnknownError';
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

/** Whether PostgreSQL itself refused the COMMIT. After a lost connection, a shutdown or a pooler's error the outcome is unknown. */
function isRollback(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !/^(08|57P|58|XX)/.test(error.code ?? '');
}

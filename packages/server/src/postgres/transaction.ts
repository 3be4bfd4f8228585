import pg from 'pg';

/** A transaction whose COMMIT was not answered: it may have been committed, or may be yet. */
export class CommitOutcomeUnknownError extends Error {
  override readonly name = 'CommitOutcomeUnknownError';
}

/**
 * Runs `work` in one transaction of `client`, which must not be in one yet: committed when it
 * resolves, rolled back when it rejects. READ COMMITTED whatever the session's default is, because
 * a transaction that waits for a lock must see what the holder committed. Throws what `work` threw, or
 * CommitOutcomeUnknownError.
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
    // A session that is lost has rolled back by itself; the error that broke it is the one to report.
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

/** Whether PostgreSQL itself has refused the COMMIT: a lost connection, a shutdown or a pooler's error leaves it open. */
function isRollback(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !/^(08|57P|58|XX)/.test(error.code ?? '');
}

import type pg from 'pg';

/**
 * Runs `work` in one transaction of `client`, which must not be in one yet: committed when it
 * resolves, rolled back when it rejects. READ COMMITTED whatever the session's default is, because
 * whoever waits for a lock must see what its holder committed. Throws what `work` threw.
 */
export async function inTransaction<Result>(
  client: pg.ClientBase,
  work: () => Promise<Result>,
): Promise<Result> {
  await client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    // A connection that is lost has rolled back by itself; what broke it is the error to tell.
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

import pg from 'pg';
import { inTransaction } from '../database/transaction.js';
import { scrub } from '../describe.js';
import { ChangeRefusedError } from './change-refused.js';

/**
 * Shorter than the pool's own time limit, so that the server gives up first and the transaction has
 * ended when whoever asked is told. Should this process hang, PostgreSQL lets go of its locks.
 */
const limits = `SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '4s';
  SET LOCAL idle_in_transaction_session_timeout = '10s'`;

/**
 * Runs `work` in one transaction of a connection of `pool`. Throws what `work` throws; where
 * PostgreSQL or a trigger of the host refuses the change, a ChangeRefusedError that says so.
 */
export async function inWriteTransaction<Result>(
  pool: pg.Pool,
  work: (client: pg.ClientBase) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  let usable = false;
  try {
    const result = await inTransaction(client, async () => {
      await client.query(limits);
      return await work(client);
    });
    usable = true;
    return result;
  } catch (error) {
    usable = error instanceof ChangeRefusedError;
    throw refusalOf(error) ?? error;
  } finally {
    // After any other error it is not known what the connection is still busy with.
    client.release(!usable);
  }
}

function refusalOf(error: unknown): ChangeRefusedError | null {
  if (!(error instanceof pg.DatabaseError)) return null;
  const { code = '', message, routine } = error;
  if (['55P03', '57014', '40P01', '40001'].includes(code)) {
    return new ChangeRefusedError(503, 'busy', 'Somebody else is changing this right now: try again shortly');
  }
  // A replica refuses to begin a transaction that may write, as it refuses a setting; the text is translated.
  if (code === '25006' || (code === '0A000' && routine === 'call_bool_check_hook')) {
    return new ChangeRefusedError(
      503,
      'database_read_only',
      'The database takes no writes right now: try again when its primary is back',
    );
  }
  if (code === '42501') {
    return new ChangeRefusedError(
      403,
      'database_forbids',
      `The server's database role may not do this (${scrub(message)}): have the right granted, or the writes switched off`,
    );
  }
  if (code === '42P01' && message.includes('guarded_environments')) {
    return new ChangeRefusedError(
      503,
      'not_prepared',
      'This database was prepared by an older Flagcast: have "flagcast install" run on it again',
    );
  }
  // A value that does not fit, a constraint, or a trigger of the host that raised an error.
  if (/^(22|23|P0001)/.test(code)) {
    return new ChangeRefusedError(
      409,
      'database_refused',
      `The database refused the change, and nothing was changed: ${scrub(message)}`,
    );
  }
  return null;
}

import pg from 'pg';
import {
  scrub,
  HttpProblem,
  CommitOutcomeUnknownError,
  inTransaction,
  type SessionSource,
} from 'flagcast/support';

/**
 * Runs `work` in one transaction. Throws what `work` throws; if PostgreSQL or a trigger of the host refuses the change,
 * or the commit is not confirmed, a HttpProblem.
 */
export async function inWriteTransaction<Result>(
  sessions: SessionSource,
  work: (client: pg.ClientBase) => Promise<Result>,
): Promise<Result> {
  try {
    return await sessions.use(
      async (session) => await inTransaction(session, async () => await work(session)),
    );
  } catch (error) {
    throw refusalOf(error) ?? error;
  }
}

function refusalOf(error: unknown): HttpProblem | null {
  if (error instanceof CommitOutcomeUnknownError) {
    return new HttpProblem(
      'outcome_unknown',
      'The database has not confirmed the change in time: it may have been made, or may still be made. Do not repeat it yet: load the feature, its open requests and its history again in a minute, and repeat it only if it is not there',
    );
  }
  if (!(error instanceof pg.DatabaseError)) return null;
  const { code = '', message, routine } = error;
  if (['55P03', '57014', '40P01', '40001'].includes(code)) {
    return new HttpProblem('busy', 'Another transaction is changing this right now: try again shortly');
  }
  // A replica refuses to begin a read-write transaction with the error of a setting, whose text is translated.
  if (code === '25006' || (code === '0A000' && routine === 'call_bool_check_hook')) {
    return new HttpProblem(
      'database_read_only',
      'The database takes no writes right now: try again when its primary is back',
    );
  }
  if (code === '42501') {
    return new HttpProblem(
      'database_forbids',
      `The server's database role may not do this (${scrub(message)}): grant it what flagcast install --role ROLE --writes grants, or set FLAGCAST_WRITES=off`,
    );
  }
  if (code === '42P01' && message.includes('guarded_environments')) {
    return new HttpProblem(
      'not_prepared',
      'This database was prepared by an older Flagcast: have "flagcast install" run on it again',
    );
  }
  // A value that does not fit, a constraint, or a trigger of the host that raised an error.
  if (/^(22|23|P0001)/.test(code)) {
    return new HttpProblem(
      'database_refused',
      `The database refused the change, and nothing was changed: ${scrub(message)}`,
    );
  }
  return null;
}

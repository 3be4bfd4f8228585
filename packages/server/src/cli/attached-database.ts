import pg from 'pg';
import { checkAuthorizeQuery } from '../auth/authorize-query.js';
import { describeError } from '../describe.js';
import { isWorthLogging, type Logger } from '../operations/log.js';
import { EventSourceError, findEventSource } from '../reader/event-source.js';
import { CommandError } from './command.js';
import { loadDemo } from './packages.js';
import { describeDatabase, whenReachable } from './connect.js';

/**
 * Waits for a database that does not answer, until `signal` is aborted, and makes sure that it has
 * what the server needs: an event log or view and, for `traffic`, the demo's projects; and that it can
 * run the query of `authorizeSql`.
 *
 * @throws CommandError that says what is missing and how to mend it.
 */
export async function awaitPrepared(
  databaseUrl: string,
  options: {
    view: string | null;
    authorizeSql: string | null;
    traffic: boolean;
    signal: AbortSignal;
    logger: Logger;
  },
): Promise<void> {
  const { view, authorizeSql, traffic, signal, logger } = options;
  await whenReachable({
    databaseUrl,
    signal,
    onWaiting: ({ error, attempt, retryInMs }) => {
      if (!isWorthLogging(attempt)) return;
      const database = describeDatabase(databaseUrl);
      logger('database_waiting', { database, attempt, retryInMs, error });
    },
    work: async (client) => {
      await refuseUnprepared(client, databaseUrl, view);
      if (authorizeSql !== null) await refuseAuthorizeQuery(client, authorizeSql);
      if (traffic) await refuseWithoutDemo(client, databaseUrl);
    },
  });
}

async function refuseUnprepared(client: pg.Client, databaseUrl: string, view: string | null): Promise<void> {
  try {
    await findEventSource(client, view);
  } catch (error) {
    if (!(error instanceof EventSourceError)) throw error;
    throw new CommandError(`The database ${describeDatabase(databaseUrl)}: ${error.message}`);
  }
}

async function refuseAuthorizeQuery(client: pg.Client, authorizeSql: string): Promise<void> {
  try {
    await checkAuthorizeQuery(client, authorizeSql);
  } catch (error) {
    // What may pass by itself is waited for. 08P01 is no lost connection: the query has a $2.
    if (!(error instanceof pg.DatabaseError) || /^(08(?!P01)|53|57P)/.test(error.code ?? '')) throw error;
    throw new CommandError(
      `FLAGCAST_AUTHORIZE_SQL does not work on this database (${describeError(error)}); give one SELECT over the users $1 (text[]) with the columns user_id, project_id, environment_id and environment_key, as docs/other-schemas.md describes`,
    );
  }
}

async function refuseWithoutDemo(client: pg.Client, databaseUrl: string): Promise<void> {
  const { demoProjects } = await loadDemo();
  const ids = demoProjects.map(({ id }) => id);
  const { rowCount } = await client.query('SELECT FROM public.projects WHERE id::text = ANY ($1)', [ids]);
  if (rowCount === ids.length) return;
  throw new CommandError(
    `--traffic is for the demo, and the database ${describeDatabase(databaseUrl)} does not hold the demo's projects; leave --traffic away`,
  );
}

import type pg from 'pg';
import type { Logger } from 'pino';
import { demoProjects } from '../demo/people.js';
import { describeError } from '../describe.js';
import { isWorthLogging } from '../log.js';
import { CommandError } from './command.js';
import { describeDatabase, whenReachable } from './connect.js';

/**
 * Waits for a database that does not answer, until `signal` is aborted, and makes sure that it has
 * what the server needs: the view and, for `traffic`, the demo's projects.
 *
 * @throws CommandError that says what is missing and how to mend it.
 */
export async function awaitPrepared(
  databaseUrl: string,
  { traffic, signal, logger }: { traffic: boolean; signal: AbortSignal; logger: Logger },
): Promise<void> {
  await whenReachable({
    databaseUrl,
    signal,
    onWaiting: ({ error, attempt, retryInMs }) => {
      if (!isWorthLogging(attempt)) return;
      const database = describeDatabase(databaseUrl);
      logger.warn({ event: 'database_waiting', database, attempt, retryInMs, error: describeError(error) });
    },
    work: async (client) => {
      await refuseUnprepared(client, databaseUrl);
      if (traffic) await refuseWithoutDemo(client, databaseUrl);
    },
  });
}

async function refuseUnprepared(client: pg.Client, databaseUrl: string): Promise<void> {
  try {
    await client.query('SELECT FROM flagcast.v_realtime_events LIMIT 0');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    const database = describeDatabase(databaseUrl);
    // The code of a missing schema, too.
    if (code === '42P01') {
      throw new CommandError(
        `The database ${database} has no view flagcast.v_realtime_events yet; run flagcast install --database-url <its URL> first (with --tables if it is empty)`,
      );
    }
    if (code === '42501') {
      throw new CommandError(
        `The database ${database} does not let this role read flagcast.v_realtime_events (${describeError(error)}); grant it USAGE on schema flagcast and SELECT on the view`,
      );
    }
    throw error;
  }
}

async function refuseWithoutDemo(client: pg.Client, databaseUrl: string): Promise<void> {
  const ids = demoProjects.map(({ id }) => id);
  const { rowCount } = await client.query('SELECT FROM public.projects WHERE id::text = ANY ($1)', [ids]);
  if (rowCount === ids.length) return;
  throw new CommandError(
    `--traffic is for the demo, and the database ${describeDatabase(databaseUrl)} does not hold the demo's projects; leave --traffic away`,
  );
}

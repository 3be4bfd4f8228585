import pg from 'pg';
import { checkAuthorizeQuery } from '../auth/callback-authorization.js';
import type { Logger } from '../operations/log.js';
import { EventSourceError, findSource } from '../reader/event-source.js';
import { loadDemo } from './packages.js';
import { connectionFix, NoFreeSessionError, SessionLostError } from '../postgres/errors.js';
import { Session } from '../postgres/session.js';
import { SessionPool } from '../postgres/session-pool.js';
import { describeError } from '../describe.js';
import { isWorthLogging, retry } from '../retry.js';
import { CommandError } from './command.js';

/** For the checks at the start of a server, which a lock can delay, in milliseconds. */
const checkTimeoutMs = 10_000;
/** For the statements of a command, in milliseconds: it must not hold its locks forever. */
const commandTimeoutMs = 600_000;

/**
 * Runs `work` in a session of the database.
 *
 * @throws CommandError if the connection fails; what `work` throws.
 */
export async function withClient<Result>(
  databaseUrl: string,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  let session: Session;
  try {
    session = await Session.open({
      database: { url: databaseUrl },
      applicationName: 'flagcast command',
      queryTimeoutMs: commandTimeoutMs,
    });
  } catch (error) {
    throw noConnection(databaseUrl, error);
  }
  try {
    return await work(session);
  } finally {
    // An error of the work is the one to report.
    await session.end().catch(() => undefined);
  }
}

/** Where a database is, without its user and password: `host:5432/name`. */
export function describeDatabase(databaseUrl: string): string {
  const { hostname, port, pathname, searchParams } = new URL(databaseUrl);
  const host = hostname === '' ? (searchParams.get('host') ?? 'localhost') : hostname;
  return `${host}:${port === '' ? 5432 : port}${pathname === '/' ? '' : pathname}`;
}

function noConnection(databaseUrl: string, error: unknown): CommandError {
  return new CommandError(
    `No connection to the database ${describeDatabase(databaseUrl)} (${describeError(error)}); ${connectionFix(error)}`,
    { cause: error },
  );
}

/** Whether the error can be temporary. */
function isTransient(error: Error): boolean {
  if (error instanceof SessionLostError || error instanceof NoFreeSessionError) return true;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code === 'ENOENT') return 'syscall' in error && error.syscall === 'connect';
  return (
    /^(ECONN\w+|E(HOST|NET)(UNREACH|DOWN)|ETIMEDOUT|EPIPE|EAI_AGAIN|ENOTFOUND)$/.test(code) ||
    // Connection failures, out of resources, shut down by an administrator or starting up.
    /^(08|53|57P|57014|55P03)/.test(code) ||
    // The error of pg has no code.
    /Connection terminated/i.test(error.message)
  );
}

/**
 * Waits until the database answers or `signal` is aborted, also while it is down, starting, out of connections or locked.
 * Then checks for the requirements of the server: an event log or a view, the query of `authorizeSql`, and with
 * `traffic` the projects of the demo.
 *
 * @throws CommandError with the missing part and how to create it, or if a retry would not help (wrong password, no such
 * database, TLS).
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
  const database = describeDatabase(databaseUrl);
  // An abandoned attempt can still hold a session.
  const sessions = new SessionPool({
    purpose: 'the command',
    limit: 1,
    database: { url: databaseUrl },
    queryTimeoutMs: checkTimeoutMs,
  });
  const applicationName = 'flagcast serve';
  let isConnected = false;
  await retry(
    async () => {
      isConnected = false;
      const session = await sessions.open({ applicationName, queryTimeoutMs: checkTimeoutMs, signal });
      isConnected = true;
      try {
        await refuseUnprepared(session, database, view);
        if (authorizeSql !== null) await refuseAuthorizeQuery(session, authorizeSql);
        if (traffic) await refuseWithoutDemo(session, database);
      } finally {
        session.discard();
      }
    },
    {
      signal,
      onRetry: ({ error, attempt, retryInMs }) => {
        if (error instanceof CommandError) throw error;
        if (!isTransient(error)) throw isConnected ? error : noConnection(databaseUrl, error);
        if (isWorthLogging(attempt)) logger('database_waiting', { database, attempt, retryInMs, error });
      },
    },
  );
}

async function refuseUnprepared(client: pg.Client, database: string, view: string | null): Promise<void> {
  try {
    await findSource(client, view);
  } catch (error) {
    if (!(error instanceof EventSourceError)) throw error;
    throw new CommandError(`The database ${database}: ${error.message}`);
  }
}

async function refuseAuthorizeQuery(client: pg.Client, authorizeSql: string): Promise<void> {
  try {
    await checkAuthorizeQuery(client, authorizeSql);
  } catch (error) {
    // Retried if the error can pass. 08P01 is not a lost connection here: the query has a $2.
    if (!(error instanceof pg.DatabaseError) || /^(08(?!P01)|53|57P)/.test(error.code ?? '')) throw error;
    throw new CommandError(
      `FLAGCAST_AUTHORIZE_SQL does not work on this database (${describeError(error)}); give one SELECT over the users $1 (text[]) with the columns user_id, project_id, environment_id and environment_key, as docs/other-schemas.md describes`,
    );
  }
}

async function refuseWithoutDemo(client: pg.Client, database: string): Promise<void> {
  const { demoProjects } = await loadDemo();
  const ids = demoProjects.map(({ id }) => id);
  const { rowCount } = await client.query('SELECT FROM public.projects WHERE id::text = ANY ($1)', [ids]);
  if (rowCount === ids.length) return;
  throw new CommandError(
    `--traffic is for the demo, and the database ${database} does not have its projects; remove --traffic`,
  );
}

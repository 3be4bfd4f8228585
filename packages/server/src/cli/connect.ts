import type pg from 'pg';
import { NoFreeSessionError, SessionLostError } from '../postgres/errors.js';
import { Session } from '../postgres/session.js';
import { SessionPool } from '../postgres/session-pool.js';
import { describeError } from '../describe.js';
import { type FailedAttempt, retry } from '../retry.js';
import { CommandError } from './command.js';

/** A lock may hold up the look at what a database has. */
const PROBE_TIMEOUT_MS = 10_000;
/** What a command does may take longer than that of a server, but it does not hold its locks for ever. */
const COMMAND_TIMEOUT_MS = 600_000;

/**
 * Lends `work` a session of the database and closes it afterwards.
 *
 * @throws CommandError when there is no connection; what `work` throws.
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
      queryTimeoutMs: COMMAND_TIMEOUT_MS,
    });
  } catch (error) {
    throw noConnection(databaseUrl, error);
  }
  try {
    return await work(session);
  } finally {
    // The work is done, or its own error is the one to report.
    await session.end().catch(() => undefined);
  }
}

/**
 * Like `withClient`, but waits for a database that is down, starting up or out of connections, or
 * that holds `work` up, until `signal` is aborted: then resolves with null. `onWaiting` is called
 * after every failed attempt.
 *
 * @throws CommandError when waiting would not help: wrong password, no such database, TLS; what
 *   `work` throws.
 */
export async function whenReachable<Result>(options: {
  readonly databaseUrl: string;
  readonly signal: AbortSignal;
  readonly onWaiting: (failure: FailedAttempt) => void;
  readonly work: (client: pg.Client) => Promise<Result>;
}): Promise<Result | null> {
  const { databaseUrl, signal, onWaiting, work } = options;
  // An attempt that was given up may still be a session.
  const sessions = new SessionPool({
    purpose: 'the command',
    limit: 1,
    database: { url: databaseUrl },
    queryTimeoutMs: PROBE_TIMEOUT_MS,
  });
  let isConnected = false;
  return await retry(
    async () => {
      isConnected = false;
      const session = await sessions.open({
        applicationName: 'flagcast serve',
        queryTimeoutMs: PROBE_TIMEOUT_MS,
        signal,
      });
      isConnected = true;
      try {
        return await work(session);
      } finally {
        session.discard();
      }
    },
    {
      signal,
      onRetry: (failure) => {
        const { error } = failure;
        if (error instanceof CommandError) throw error;
        if (!passes(error)) throw isConnected ? error : noConnection(databaseUrl, error);
        onWaiting(failure);
      },
    },
  );
}

/** Where a database is, without its user and password: `host:5432/name`. */
export function describeDatabase(databaseUrl: string): string {
  const { hostname, port, pathname, searchParams } = new URL(databaseUrl);
  const host = hostname === '' ? (searchParams.get('host') ?? 'localhost') : hostname;
  return `${host}:${port === '' ? 5432 : port}${pathname === '/' ? '' : pathname}`;
}

function noConnection(databaseUrl: string, error: unknown): CommandError {
  return new CommandError(
    `No connection to the database ${describeDatabase(databaseUrl)} (${describeError(error)}); mend that, or correct --database-url or DATABASE_URL`,
    { cause: error },
  );
}

/** Whether a failed attempt says nothing about the next one. */
function passes(error: Error): boolean {
  if (error instanceof SessionLostError || error instanceof NoFreeSessionError) return true;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code === 'ENOENT') return 'syscall' in error && error.syscall === 'connect';
  return (
    /^(ECONN\w+|E(HOST|NET)(UNREACH|DOWN)|ETIMEDOUT|EPIPE|EAI_AGAIN|ENOTFOUND)$/.test(code) ||
    // Connection failures, out of resources, shut down by an administrator or starting up.
    /^(08|53|57P|57014|55P03)/.test(code) ||
    // The library's own error carries no code.
    /Connection terminated/i.test(error.message)
  );
}

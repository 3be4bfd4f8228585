import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { connectionSettings } from '../database/connection-settings.js';
import { backoffMs, discardSession } from '../database/session.js';
import { describeError } from '../describe.js';
import { CommandError } from './command.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** A lock may hold up the look at what a database has. */
const PROBE_TIMEOUT_MS = 10_000;

/**
 * Lends `work` a connection to the database and closes it afterwards.
 *
 * @throws CommandError when there is no connection; what `work` throws.
 */
export async function withClient<Result>(
  databaseUrl: string,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = newClient(databaseUrl);
  try {
    await client.connect();
  } catch (error) {
    discardSession(client);
    throw noConnection(databaseUrl, error);
  }
  try {
    return await work(client);
  } finally {
    // The work is done, or its own error is the one to tell.
    await client.end().catch(() => undefined);
  }
}

/**
 * Like `withClient`, but waits for a database that is down, starting up or out of connections, or
 * that holds `work` up, until `signal` is aborted: then resolves with null. `onWaiting` hears of
 * every failed attempt.
 *
 * @throws CommandError when waiting would not help: wrong password, no such database, TLS; what
 *   `work` throws.
 */
export async function whenReachable<Result>(options: {
  readonly databaseUrl: string;
  readonly signal: AbortSignal;
  readonly onWaiting: (failure: { error: unknown; attempt: number; retryInMs: number }) => void;
  readonly work: (client: pg.Client) => Promise<Result>;
}): Promise<Result | null> {
  const { databaseUrl, signal, onWaiting, work } = options;
  const isAborted = (): boolean => signal.aborted;
  for (let attempt = 1; !isAborted(); attempt += 1) {
    const client = newClient(databaseUrl, { query_timeout: PROBE_TIMEOUT_MS });
    const discard = (): void => discardSession(client);
    signal.addEventListener('abort', discard);
    let connected = false;
    try {
      await client.connect();
      connected = true;
      return await work(client);
    } catch (error) {
      if (isAborted()) return null;
      if (error instanceof CommandError) throw error;
      if (!passes(error)) throw connected ? error : noConnection(databaseUrl, error);
      const retryInMs = backoffMs(attempt);
      onWaiting({ error, attempt, retryInMs });
      // Rejects exactly when the signal is aborted, which the loop looks at.
      await delay(retryInMs, undefined, { signal }).catch(() => undefined);
    } finally {
      signal.removeEventListener('abort', discard);
      discard();
    }
  }
  return null;
}

/** Where a database is, without its user and password: `host:5432/name`. */
export function describeDatabase(databaseUrl: string): string {
  const { hostname, port, pathname, searchParams } = new URL(databaseUrl);
  const host = hostname === '' ? (searchParams.get('host') ?? 'localhost') : hostname;
  return `${host}:${port === '' ? 5432 : port}${pathname === '/' ? '' : pathname}`;
}

function newClient(databaseUrl: string, settings: pg.ClientConfig = {}): pg.Client {
  const client = new pg.Client({
    ...connectionSettings(databaseUrl),
    application_name: 'flagcast command',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...settings,
  });
  // Without a listener the loss of the connection would end the process; the next query tells of it.
  client.on('error', () => undefined);
  return client;
}

function noConnection(databaseUrl: string, error: unknown): CommandError {
  return new CommandError(
    `No connection to the database ${describeDatabase(databaseUrl)} (${describeError(error)}); mend that, or correct --database-url or DATABASE_URL`,
    { cause: error },
  );
}

/** Whether a failed attempt says nothing about the next one. */
function passes(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code === 'ENOENT') return 'syscall' in error && error.syscall === 'connect';
  return (
    /^(ECONN\w+|E(HOST|NET)(UNREACH|DOWN)|ETIMEDOUT|EPIPE|EAI_AGAIN|ENOTFOUND)$/.test(code) ||
    // Connection failures, out of resources, shut down by an administrator or starting up.
    /^(08|53|57P)/.test(code) ||
    // The library's own errors carry no code.
    /timeout|Connection terminated/i.test(error.message)
  );
}

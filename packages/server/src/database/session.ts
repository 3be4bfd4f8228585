import pg from 'pg';
import { connectionSettings } from './connection-settings.js';

/** A dedicated connection to PostgreSQL, for whoever needs to know that it is always the same one. */
export interface SessionOptions {
  /** `postgresql://user:password@host:port/database`. */
  databaseUrl: string;
  /** Shown in pg_stat_activity. */
  applicationName: string;
  /** After this many milliseconds without an answer a query fails and the connection is given up. */
  queryTimeoutMs: number;
}

/** How long a connection attempt may take, in milliseconds. */
const connectTimeoutMs = 5_000;

/**
 * Opens a connection whose values all arrive as PostgreSQL's own text: 64-bit ids and
 * microseconds do not survive a JavaScript number or Date.
 *
 * TCP keepalive starts early, so that a peer that vanished without a word is noticed.
 */
export async function openSession(options: SessionOptions): Promise<pg.Client> {
  const client = new pg.Client({
    ...connectionSettings(options.databaseUrl),
    application_name: options.applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: options.queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    types: { getTypeParser: () => (value: string | Buffer) => value },
  });
  // Without a listener the loss of an idle connection would end the process. Whoever uses the
  // session learns of it from 'end' or from the next query.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    discardSession(client);
    throw error;
  }
  return client;
}

/** Drops a connection without waiting for the other side, which may never answer. */
export function discardSession(client: pg.Client): void {
  // end() says goodbye where there is somebody to say it to; destroy() does not wait for an echo.
  void client.end().catch(() => undefined);
  client.connection.stream.destroy();
}

/**
 * How long to wait before attempt number `attempt` (from 1): exponential with full jitter,
 * so that many servers do not come back in step.
 */
export function backoffMs(attempt: number, baseMs = 100, capMs = 5_000): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16));
  return Math.round(baseMs / 2 + Math.random() * (ceiling - baseMs / 2));
}

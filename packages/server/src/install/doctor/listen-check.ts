import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { describeError } from '../../describe.js';
import { receivesNotifications } from '../../postgres/notification-check.js';
import { Session } from '../../postgres/session.js';
import { historyStatement } from '../../reader/log-statements.js';
import { advice, ok, warning, type Checks, type Facts, type Result } from './facts.js';

/** A notification that takes longer counts as lost, in milliseconds. */
const notificationTimeoutMs = 3_000;

/**
 * Checks that a NOTIFY of one session reaches another session that listens, through the connection strings of the
 * server. A pooler in transaction mode drops notifications without an error.
 */
async function checkListen({
  client,
  replica,
  databaseUrl,
  listenUrl,
  queryTimeoutMs,
}: Facts): Promise<Result> {
  if (replica && listenUrl === null) return ok('not tested: a replica has no notifications');
  const open = async (): Promise<Session> =>
    await Session.open({
      database: { url: listenUrl ?? databaseUrl },
      applicationName: 'flagcast doctor',
      queryTimeoutMs,
      values: 'text',
    });
  const name = listenUrl === null ? 'LISTEN' : 'LISTEN through FLAGCAST_LISTEN_URL';
  let listener: Session | null = null;
  try {
    listener = await open();
    const problem = listenUrl === null ? null : await compareDatabases(client, listener);
    if (problem !== null) return problem;
    const startedAtMs = performance.now();
    const isReceived = await receivesNotifications(listener, open, {
      channel: `flagcast_doctor_${randomBytes(8).toString('hex')}`,
      timeoutMs: Math.min(queryTimeoutMs, notificationTimeoutMs),
    });
    if (isReceived) return ok(`${name} works (${Math.round(performance.now() - startedAtMs)} ms)`);
    return noNotifications(
      `${name} receives nothing: a pooler in transaction mode drops notifications`,
      `set FLAGCAST_LISTEN_URL to a connection string that bypasses the pooler${listenUrl === null ? '; DATABASE_URL may use it' : ''}`,
    );
  } catch (error) {
    return noNotifications(
      `${name} could not be tested (${describeError(error)})`,
      `resolve the error${listenUrl === null ? '' : ', or correct FLAGCAST_LISTEN_URL'}`,
    );
  } finally {
    listener?.discard();
  }
}

function noNotifications(message: string, fix: string): Result {
  return warning(
    message,
    'the reader is not notified: events arrive with the next poll (1 s by default)',
    advice(fix),
  );
}

/** The problem if FLAGCAST_LISTEN_URL does not lead to the primary of the same database; else null. */
async function compareDatabases(client: pg.Client, listener: pg.Client): Promise<Result | null> {
  const [read, listened] = [await identify(client), await identify(listener)];
  if (read.database !== listened.database) {
    return noNotifications(
      'FLAGCAST_LISTEN_URL leads to another database than DATABASE_URL',
      'set it to the same database, directly on its primary',
    );
  }
  if (!listened.replica) return null;
  return noNotifications(
    'FLAGCAST_LISTEN_URL leads to a replica, which does not support LISTEN',
    'set it to the primary',
  );
}

/** Identifies the database: the same on a primary and its replicas. Only a primary shows its timeline. */
async function identify(client: pg.Client): Promise<{ database: string | undefined; replica: boolean }> {
  const { rows } = await client.query<[string, string | null]>({ text: historyStatement, rowMode: 'array' });
  return { database: rows[0]?.[0], replica: rows[0]?.[1] === null };
}

export const listenChecks: Checks = {
  listen: async (facts) => (facts.listen ? await checkListen(facts) : []),
};

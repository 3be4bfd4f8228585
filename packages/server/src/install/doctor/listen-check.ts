import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { isHeard } from '../../postgres/pooler.js';
import { Session } from '../../postgres/session.js';
import { describeError } from '../../describe.js';
import { historyStatement } from '../../reader/log-statements.js';
import type { Facts } from './facts.js';
import { advice, ok, type Finding } from './finding.js';

/** A notification that takes longer counts as lost, in milliseconds. */
const notificationTimeoutMs = 3_000;

const id = 'listen';
const consequence =
  'nothing wakes the reader: events come with the next poll (1 s by default) instead of at once';

/**
 * Checks that a NOTIFY of one session reaches another one that listens, through the connection strings that the
 * server uses. A pooler in transaction mode drops notifications without an error.
 */
export async function checkListen(
  client: pg.Client,
  { replica }: Facts,
  options: { readonly databaseUrl: string; readonly listenUrl: string | null; readonly timeoutMs: number },
): Promise<Finding> {
  const { databaseUrl, listenUrl, timeoutMs } = options;
  if (replica && listenUrl === null) return ok(id, 'not tested: a replica has no notifications');
  const open = async (): Promise<Session> =>
    await Session.open({
      database: { url: listenUrl ?? databaseUrl },
      applicationName: 'flagcast doctor',
      queryTimeoutMs: timeoutMs,
      values: 'text',
    });
  const name = listenUrl === null ? 'LISTEN' : 'LISTEN through FLAGCAST_LISTEN_URL';
  let listener: Session | null = null;
  try {
    listener = await open();
    if (listenUrl !== null) {
      const [ours, theirs] = [await identify(client), await identify(listener)];
      if (ours.database !== theirs.database) {
        return warning(
          'FLAGCAST_LISTEN_URL names another database than the one that is read',
          'set it to the same database, directly on its primary',
        );
      }
      if (theirs.replica) {
        return warning(
          'FLAGCAST_LISTEN_URL names a replica, which does not support LISTEN',
          'set it to the primary',
        );
      }
    }
    const startedAtMs = performance.now();
    const channel = `flagcast_doctor_${randomBytes(8).toString('hex')}`;
    const isReceived = await isHeard(listener, open, {
      channel,
      timeoutMs: Math.min(timeoutMs, notificationTimeoutMs),
    });
    if (!isReceived) {
      return warning(
        `${name} receives nothing: a pooler in transaction mode is in between`,
        listenUrl === null
          ? 'set FLAGCAST_LISTEN_URL to a connection string that bypasses the pooler; DATABASE_URL may go through it'
          : 'set FLAGCAST_LISTEN_URL to a connection string that bypasses the pooler',
      );
    }
    return ok(id, `${name} works (${Math.round(performance.now() - startedAtMs)} ms)`);
  } catch (error) {
    return warning(
      `${name} could not be tested (${describeError(error)})`,
      `resolve the error${listenUrl === null ? '' : ', or correct FLAGCAST_LISTEN_URL'}`,
    );
  } finally {
    listener?.discard();
  }
}

function warning(message: string, fix: string): Finding {
  return { id, level: 'warning', message, consequence, fix: advice(fix) };
}

/** Identifies the database: the same on a primary and its replicas. Only a primary shows its timeline. */
async function identify(client: pg.Client): Promise<{ database: string | undefined; replica: boolean }> {
  const { rows } = await client.query<[string, string | null]>({ text: historyStatement, rowMode: 'array' });
  return { database: rows[0]?.[0], replica: rows[0]?.[1] === null };
}

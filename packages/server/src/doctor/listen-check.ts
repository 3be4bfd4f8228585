import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { isHeard } from '../database/pooler.js';
import { discardSession, openSession } from '../database/session.js';
import { describeError } from '../describe.js';
import { historyStatement } from '../reader/log-statements.js';
import type { Facts } from './facts.js';
import { advice, ok, type Finding } from './finding.js';

/** How long a notification may take, in milliseconds. */
const notificationTimeoutMs = 3_000;

const id = 'listen';
const consequence =
  'nothing wakes the reader: changes come with the next poll (1 s by default) instead of at once';

/**
 * Whether what one session notifies reaches another one that listens, by the very way that the server
 * takes: a pooler that hands a session's transactions to various backends loses it without a word.
 */
export async function checkListen(
  client: pg.Client,
  { replica }: Facts,
  options: { readonly databaseUrl: string; readonly listenUrl: string | null; readonly timeoutMs: number },
): Promise<Finding> {
  const { databaseUrl, listenUrl, timeoutMs } = options;
  // A replica takes no LISTEN, and says so elsewhere.
  if (replica && listenUrl === null) return ok(id, 'not tried: a replica has no notifications');
  const open = async (): Promise<pg.Client> =>
    await openSession({
      databaseUrl: listenUrl ?? databaseUrl,
      applicationName: 'flagcast doctor',
      queryTimeoutMs: timeoutMs,
    });
  const what = listenUrl === null ? 'LISTEN' : 'LISTEN by FLAGCAST_LISTEN_URL';
  let listener: pg.Client | null = null;
  try {
    listener = await open();
    if (listenUrl !== null) {
      const [ours, theirs] = [await identify(client), await identify(listener)];
      if (ours.database !== theirs.database) {
        return complaint(
          'FLAGCAST_LISTEN_URL leads to another database than the one that is read',
          'let it lead to the same database, straight at its primary',
        );
      }
      if (theirs.replica) {
        return complaint(
          'FLAGCAST_LISTEN_URL leads to a replica, which takes no LISTEN',
          'let it lead to the primary',
        );
      }
    }
    const startedAtMs = performance.now();
    const channel = `flagcast_doctor_${randomBytes(8).toString('hex')}`;
    const heard = await isHeard(listener, open, {
      channel,
      timeoutMs: Math.min(timeoutMs, notificationTimeoutMs),
    });
    if (!heard) {
      return complaint(
        `${what} hears nothing: there is a pooler in between that pools by transaction`,
        listenUrl === null
          ? 'set FLAGCAST_LISTEN_URL to a connection string that leads past the pooler; the rest may go through it'
          : 'let FLAGCAST_LISTEN_URL lead past the pooler',
      );
    }
    return ok(id, `${what} works (${Math.round(performance.now() - startedAtMs)} ms)`);
  } catch (error) {
    return complaint(
      `${what} could not be tried (${describeError(error)})`,
      `mend that${listenUrl === null ? '' : ', or correct FLAGCAST_LISTEN_URL'}`,
    );
  } finally {
    if (listener !== null) discardSession(listener);
  }
}

function complaint(what: string, mend: string): Finding {
  return { id, level: 'warning', what, consequence, mend: advice(mend) };
}

/** Which database answers: the same on a primary and its replicas. Only a primary knows its timeline. */
async function identify(client: pg.Client): Promise<{ database: string | undefined; replica: boolean }> {
  const { rows } = await client.query<[string, string | null]>({ text: historyStatement, rowMode: 'array' });
  return { database: rows[0]?.[0], replica: rows[0]?.[1] === null };
}

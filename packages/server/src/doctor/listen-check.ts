import { randomBytes } from 'node:crypto';
import { discardSession, openSession } from '../database/session.js';
import { describeError } from '../describe.js';
import type { Facts } from './facts.js';
import { advice, ok, type Finding } from './finding.js';

/** How long a notification may take, in milliseconds. */
const notificationTimeoutMs = 3_000;

/**
 * Whether what one session notifies reaches another one that listens, by the very way that the server
 * takes: a pooler that hands a session's transactions to various backends loses it without a word.
 */
export async function checkListen(
  databaseUrl: string,
  { replica }: Facts,
  timeoutMs: number,
): Promise<Finding> {
  const id = 'listen';
  const lost = {
    id,
    level: 'warning',
    consequence:
      'nothing wakes the reader: changes come with the next poll (1 s by default) instead of at once',
    mend: advice(
      "connect past the pooler, or have it pool by session: PgBouncer's pool_mode = session for this database",
    ),
  } as const;
  // A replica takes no LISTEN, and says so elsewhere.
  if (replica) return ok(id, 'not tried: a replica has no notifications');
  const open = { databaseUrl, applicationName: 'flagcast doctor', queryTimeoutMs: timeoutMs };
  const sessions = [];
  try {
    const listener = await openSession(open);
    sessions.push(listener);
    const notifier = await openSession(open);
    sessions.push(notifier);
    const channel = `flagcast_doctor_${randomBytes(8).toString('hex')}`;
    const startedAtMs = performance.now();
    const heard = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.min(timeoutMs, notificationTimeoutMs));
      listener.on('notification', (notification) => {
        if (notification.channel !== channel) return;
        clearTimeout(timer);
        resolve(true);
      });
      listener.once('end', () => {
        clearTimeout(timer);
        resolve(false);
      });
    });
    await listener.query(`LISTEN ${channel}`);
    await notifier.query(`NOTIFY ${channel}`);
    const isHeard = await heard;
    // The backend may be a pooler's, and serve others next.
    await listener.query(`UNLISTEN ${channel}`);
    if (!isHeard) {
      return {
        ...lost,
        what: 'LISTEN hears nothing: there is a pooler in between that pools by transaction',
      };
    }
    return ok(id, `LISTEN works (${Math.round(performance.now() - startedAtMs)} ms)`);
  } catch (error) {
    return { ...lost, what: `LISTEN could not be tried (${describeError(error)})` };
  } finally {
    for (const session of sessions) discardSession(session);
  }
}

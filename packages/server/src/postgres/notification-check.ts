import { on } from 'node:events';
import type pg from 'pg';
import type { Session } from './session.js';

/**
 * Whether `listener` receives what another session of the same connection string notifies. `openOther` opens that
 * session, which is closed again. Compares process ids first, so that no session is left listening that other clients
 * use next. Rejects with what the database throws.
 */
export async function receivesNotifications(
  listener: Session,
  openOther: () => Promise<Session>,
  { channel, timeoutMs }: { readonly channel: string; readonly timeoutMs: number },
): Promise<boolean> {
  const other = await openOther();
  try {
    if (await shareSessions(listener, other)) return false;
    const received = awaitNotification(listener, channel, timeoutMs);
    await listener.query(`LISTEN ${channel}`);
    await other.query(`NOTIFY ${channel}`);
    const isReceived = await received;
    await listener.query(`UNLISTEN ${channel}`);
    return isReceived;
  } finally {
    other.discard();
  }
}

/**
 * Whether two connections use the same sessions of PostgreSQL: then a pooler in transaction mode is in between. In an
 * idle pooler this order shows it, whether it lends the session used last or all in turn. In a busy one it may not, and
 * the notification decides.
 */
async function shareSessions(one: pg.Client, other: pg.Client): Promise<boolean> {
  const pids = new Map<pg.Client, number>();
  for (const client of [one, other, other, one, one, other]) {
    const { rows } = await client.query<{ pid: string }>('SELECT pg_backend_pid()::text AS pid');
    const pid = Number(rows[0]?.pid);
    if ((pids.get(client) ?? pid) !== pid) return true;
    pids.set(client, pid);
  }
  return pids.get(one) === pids.get(other);
}

async function awaitNotification(listener: pg.Client, channel: string, timeoutMs: number): Promise<boolean> {
  const options = { signal: AbortSignal.timeout(timeoutMs), close: ['end'] };
  try {
    for await (const [notification] of on(listener, 'notification', options)) {
      if ((notification as pg.Notification).channel === channel) return true;
    }
  } catch {
    // Too late.
  }
  return false;
}

import type pg from 'pg';
import type { Session } from './session.js';

/**
 * Whether what one session notifies reaches another one that listens, by this way. `listener` is an open
 * session, `openOther` opens another one by the same way, which is closed again. Looks at the process ids
 * first, so that no session is left listening that others get next. Rejects with what the database throws.
 */
export async function isHeard(
  listener: Session,
  openOther: () => Promise<Session>,
  { channel, timeoutMs }: { readonly channel: string; readonly timeoutMs: number },
): Promise<boolean> {
  const other = await openOther();
  try {
    if (await shareSessions(listener, other)) return false;
    const heard = awaitNotification(listener, channel, timeoutMs);
    await listener.query(`LISTEN ${channel}`);
    await other.query(`NOTIFY ${channel}`);
    const isReached = await heard;
    await listener.query(`UNLISTEN ${channel}`);
    return isReached;
  } finally {
    other.discard();
  }
}

/**
 * Whether two connections get the same sessions of PostgreSQL: then they are pooled by transaction. In this order
 * it shows in a quiet pool, whether it hands out the session used last or takes turns; in a busy one it is chance,
 * and a notification has to tell.
 */
async function shareSessions(one: pg.Client, other: pg.Client): Promise<boolean> {
  const pids = new Map<pg.Client, number>();
  for (const client of [one, other, other, one, one, other]) {
    const pid = await backendPid(client);
    if ((pids.get(client) ?? pid) !== pid) return true;
    pids.set(client, pid);
  }
  return pids.get(one) === pids.get(other);
}

async function backendPid(client: pg.Client): Promise<number> {
  const { rows } = await client.query<[string]>({ text: 'SELECT pg_backend_pid()::text', rowMode: 'array' });
  return Number(rows[0]?.[0]);
}

async function awaitNotification(listener: pg.Client, channel: string, timeoutMs: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const finish = (isReached: boolean): void => {
      clearTimeout(timer);
      listener.off('notification', onNotification);
      listener.off('end', onEnd);
      resolve(isReached);
    };
    const onNotification = (notification: pg.Notification): void => {
      if (notification.channel === channel) finish(true);
    };
    const onEnd = (): void => finish(false);
    const timer = setTimeout(() => finish(false), timeoutMs);
    listener.on('notification', onNotification);
    listener.once('end', onEnd);
  });
}

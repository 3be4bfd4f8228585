import type pg from 'pg';
import { openClient } from '../../../testing/testkit/postgres.ts';
import { commitPrepared, prepareAndCommit } from '../../../testing/testkit/writers.ts';
import { insertAudit } from './database.js';

export interface WritersOptions {
  databaseUrl: string;
  channels: readonly { projectId: string; environmentId: string }[];
  /** Sessions that write at the same time. */
  writers: number;
  /** Ends when at least this many events were committed ... */
  minEvents: number;
  /** ... and this has settled. */
  until?: Promise<unknown>;
  /** Default `random`: of the last ten days or the next hour. `now`: the start of the transaction. */
  createdAt?: 'random' | 'now';
  /** Goes on through lost connections and a database that is down. */
  persistent?: boolean;
}

/**
 * Writers like those of a busy host: transactions of 2-400 ms (log-uniform), one to six events each over all
 * channels, a third of the inserts under a savepoint, some of those rolled back, one transaction in ten rolled
 * back and one in ten prepared and committed later. The committed events are read from the database.
 */
export async function runWriters(options: WritersOptions): Promise<void> {
  const progress = { committed: 0, isOver: options.until === undefined };
  void options.until?.then(
    () => (progress.isOver = true),
    () => (progress.isOver = true),
  );
  await Promise.all(Array.from({ length: options.writers }, async () => await runWriter(options, progress)));
  for (let isDone = false; !isDone;) {
    try {
      // A crash leaves prepared transactions, which an operator commits.
      await commitPrepared(options.databaseUrl);
      isDone = true;
    } catch (error) {
      if (options.persistent !== true) throw error;
      await new Promise(setImmediate);
    }
  }
}

async function runWriter(
  options: WritersOptions,
  progress: { committed: number; readonly isOver: boolean },
): Promise<void> {
  let client: pg.Client | null = null;
  while (progress.committed < options.minEvents || !progress.isOver) {
    try {
      client ??= await openClient(options.databaseUrl, 'writer');
      const written = await writeOnce(client, options);
      progress.committed += written;
    } catch (error) {
      if (options.persistent !== true) throw error;
      await client?.end().catch(() => undefined);
      client = null;
      // The database is restarting: retry immediately, but not in the same turn of the event loop.
      await new Promise(setImmediate);
    }
  }
  await client?.end().catch(() => undefined);
}

async function writeOnce(client: pg.Client, { channels, createdAt }: WritersOptions): Promise<number> {
  const outcome = Math.random();
  const events = 1 + Math.floor(Math.random() * 6);
  // 2 to 400 ms, as many short ones as long ones.
  const totalSeconds = (2 * 200 ** Math.random()) / 1_000;
  await client.query('BEGIN');
  // A transaction that has notified cannot be prepared.
  if (outcome < 0.1) await client.query(`SET LOCAL flagcast.notify = 'off'`);
  let written = 0;
  for (let index = 0; index < events; index += 1) {
    const savepoint = Math.random() < 1 / 3;
    if (savepoint) await client.query('SAVEPOINT step');
    const channel = channels[Math.floor(Math.random() * channels.length)];
    if (channel === undefined) throw new Error('no channels');
    // A unique entity, by which `compare` identifies the event.
    await insertAudit(client, createdAt === 'now' ? channel : { ...channel, createdAt: randomTime() });
    written += 1;
    if (savepoint && Math.random() < 0.25) {
      await client.query('ROLLBACK TO SAVEPOINT step');
      written -= 1;
    } else if (savepoint) {
      await client.query('RELEASE SAVEPOINT step');
    }
    await client.query('SELECT pg_sleep($1)', [totalSeconds / events]);
  }
  if (outcome < 0.1) {
    await prepareAndCommit(client, totalSeconds);
    return written;
  }
  if (outcome < 0.2) {
    await client.query('ROLLBACK');
    return 0;
  }
  await client.query('COMMIT');
  return written;
}

/** Between ten days ago and an hour ahead. */
function randomTime(): Date {
  const [pastMs, futureMs] = [10 * 24 * 3_600_000, 3_600_000];
  return new Date(Date.now() - pastMs + Math.random() * (pastMs + futureMs));
}

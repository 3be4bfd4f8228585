import { expect, it, onTestFinished } from 'vitest';
import { FollowUp } from '../src/reader/read-schedule.js';
import { createTestDatabase, insertAudit, withClient } from './database.js';
import { nextEvent, startTestServer } from './server.js';
import { compare, watch } from './watched.js';

const nothing = { rows: 0, isQuiet: false, isReplica: false };
const found = { rows: 1, isQuiet: false, isReplica: false };

it('reads without a notification are not repeated', () => {
  const followUp = new FollowUp();
  expect(followUp.after(nothing)).toBe(null);
  expect(followUp.after(found)).toBe(null);
});

it('a read after a notification is repeated with exponential backoff and a last repetition', () => {
  const followUp = new FollowUp();
  followUp.restart();
  const pauses = Array.from({ length: 8 }, () => followUp.after(nothing));
  expect(pauses).toEqual([2, 4, 8, 16, 32, 64, 128, null]);
  expect(followUp.after(found)).toBe(null);
});

it('the pauses start again after a read that returned rows', () => {
  const followUp = new FollowUp();
  followUp.restart();
  expect([nothing, nothing, found, nothing].map((read) => followUp.after(read))).toEqual([2, 4, 2, 4]);
});

it('a read after a notification is repeated until one returns no rows while no transaction is in flight', () => {
  const followUp = new FollowUp();
  followUp.restart();
  expect(followUp.after(nothing)).toBe(2);
  expect(followUp.after({ ...found, isQuiet: true })).toBe(2);
  expect(followUp.after({ ...nothing, isQuiet: true })).toBe(null);
  expect(followUp.after(nothing)).toBe(null);
  followUp.restart();
  expect(followUp.after(nothing)).toBe(2);
});

it.each([
  ['no row', nothing],
  ['only one row, of a writer that waits for its messages', found],
])('consecutive reads that return rows are 10 ms apart until one returns %s', (_, last) => {
  const followUp = new FollowUp();
  followUp.restart();
  for (let read = 0; read < 4; read += 1) expect(followUp.after(found)).toBe(2);
  expect(followUp.after(found)).toBe(10);
  expect(followUp.after({ ...found, rows: 2 })).toBe(10);
  expect(followUp.leastDistanceMs).toBe(10);
  expect(followUp.after(last)).not.toBe(10);
  expect(followUp.leastDistanceMs).toBe(0);
});

it('reads of a replica are repeated for 5 s, because a notification can arrive before the commit', () => {
  const followUp = new FollowUp();
  followUp.restart();
  let totalMs = 0;
  for (;;) {
    const pauseMs = followUp.after({ ...nothing, isReplica: true });
    if (pauseMs === null) break;
    totalMs += pauseMs;
  }
  expect(totalMs).toBe(5_115);
});

it.each(['before', 'after'])(
  'all seven repetitions follow while a transaction is in flight that wrote %s the one that notified',
  async (order) => {
    const database = await createTestDatabase({ schema: 'tables' });
    onTestFinished(async () => await database.drop());
    const server = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
    onTestFinished(async () => await server.close());
    const [channel] = (await watch(database, server)).keys();
    if (channel === undefined) throw new Error('there is no channel');
    let left = Infinity;
    const last = nextEvent(server.flagcast.lifecycle, 'reader:read', ({ trigger, rows }) => {
      if (rows > 0) left = 7;
      else if (trigger === 'follow_up') left -= 1;
      return left === 0;
    });
    await withClient(database.url, async (notifying) => {
      await notifying.query(`SET flagcast.notify = 'on'`);
      await withClient(database.url, async (late) => {
        await late.query(`SET flagcast.notify = 'off'`);
        for (const client of order === 'before' ? [late, notifying] : [notifying, late]) {
          await client.query('BEGIN');
          await insertAudit(client, channel);
        }
        await notifying.query('COMMIT');
        await last;
        await late.query('ROLLBACK');
      });
    });
  },
);

it('reads after notifications return every event of 16 concurrent writers without a poll, also of long transactions', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  // In a separate session: sessions that the pool opens later use the setting.
  await withClient(database.url, async (client) => {
    await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  });
  const server = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
  onTestFinished(async () => await server.close());
  const triggers = { poll: 0, wake: 0, follow_up: 0 };
  server.flagcast.lifecycle.on('reader:read', ({ trigger, fresh }) => {
    if (fresh > 0) triggers[trigger] += 1;
  });
  const clients = await watch(database, server);
  const channels = [...clients.keys()];
  const writer = async (number: number): Promise<void> => {
    await withClient(database.url, async (client) => {
      for (let count = 0; count < 20; count += 1) {
        const channel = channels[(number + count) % channels.length];
        if (channel === undefined) throw new Error('there is no channel');
        await client.query('BEGIN');
        await insertAudit(client, channel);
        // Some hold the lock that lets only one of them notify, and commit after the others.
        for (let more = 0; count % 3 === 0 && more < number * 2; more += 1) await client.query('SELECT');
        await client.query(count % 7 === 0 ? 'ROLLBACK' : 'COMMIT');
      }
    });
  };
  await Promise.all(Array.from({ length: 16 }, async (_, number) => await writer(number)));
  // Check before any other write, whose notification would also deliver them.
  for (const [{ projectId, environmentId }, client] of clients) {
    const { rows } = await database.pool.query<{ id: string }>(
      'SELECT entity_id AS id FROM audit_log WHERE project_id = $1 AND environment_id = $2',
      [projectId, environmentId],
    );
    for (const { id } of rows) await client.received((message) => message.entity_id === id);
  }
  expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
  expect(triggers.poll).toBe(0);
  expect(triggers.wake).toBeGreaterThan(0);
  expect(triggers.follow_up).toBeGreaterThan(0);
});

import { describe, expect, it, onTestFinished } from 'vitest';
import { FollowUp } from '../src/reader/follow-up.js';
import { createTestDatabase, insertAudit, withClient } from './database.js';
import { startTestServer } from './server.js';
import { compare, watch } from './watched.js';

const quiet = { rows: 0, inFlight: false };
const waiting = { rows: 0, inFlight: true };
const found = { rows: 1, inFlight: true };

describe('the reads after a hint', () => {
  it('do not follow without a hint', () => {
    const followUp = new FollowUp();
    expect(followUp.after(waiting)).toBe(null);
    expect(followUp.after(found)).toBe(null);
  });

  it('end at once when no transaction is in flight', () => {
    const followUp = new FollowUp();
    followUp.hint();
    expect(followUp.after(quiet)).toBe(null);
    expect(followUp.after(waiting)).toBe(null);
  });

  it('come after pauses that double to 64 ms, and then end', () => {
    const followUp = new FollowUp();
    followUp.hint();
    const pauses = Array.from({ length: 8 }, () => followUp.after(waiting));
    expect(pauses).toEqual([2, 4, 8, 16, 32, 64, null, null]);
  });

  it('begin anew when rows came', () => {
    const followUp = new FollowUp();
    followUp.hint();
    const reads = [waiting, waiting, waiting, found, waiting, waiting];
    expect(reads.map((read) => followUp.after(read))).toEqual([2, 4, 8, 2, 4, 8]);
  });

  it('are at least 10 ms apart from the fifth in a row that brought rows', () => {
    const followUp = new FollowUp();
    followUp.hint();
    const reads = Array.from({ length: 6 }, () => found);
    expect(reads.map((read) => followUp.after(read))).toEqual([2, 2, 2, 2, 10, 10]);
    expect(followUp.leastDistanceMs).toBe(10);
    expect(followUp.after(waiting)).toBe(4);
    expect(followUp.leastDistanceMs).toBe(0);
  });

  it('go on for 5 s on a replica, which does not show what is in flight', () => {
    const followUp = new FollowUp();
    followUp.hint();
    const pauses = Array.from({ length: 10 }, () => followUp.after({ rows: 0, inFlight: null }) ?? 0);
    expect(pauses.reduce((sum, pause) => sum + pause, 0)).toBe(5_115);
    expect(followUp.after({ rows: 0, inFlight: null })).toBe(null);
  });

  it('bring every event of 16 concurrent writers without a poll, also of transactions that were held open', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    onTestFinished(async () => await database.drop());
    // In a session of its own: those of the pool are to know the setting.
    await withClient(database.url, async (client) => {
      await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    });
    const server = await startTestServer(database.url, { pollIntervalMs: 3_600_000 });
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
          // Some hold the lock that lets only one of them send a hint, and commit after the others.
          if (count % 3 === 0) await client.query('SELECT pg_sleep(random() * 0.1)');
          await client.query(count % 7 === 0 ? 'ROLLBACK' : 'COMMIT');
        }
      });
    };
    await Promise.all(Array.from({ length: 16 }, async (_, number) => await writer(number)));
    // Before anything else is written, whose hint would bring them as well.
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
});

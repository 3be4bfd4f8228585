import { expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, insertAudit, seedProject, withClient } from './database.js';
import { PlainClient } from './plain-client.js';
import { createUser, nextEvent, startTestServer } from './server.js';

it('an event whose transaction did not notify, because another one held the lock, arrives without a poll', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  const { projectId, environments } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const server = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
  onTestFinished(async () => await server.close());
  const query = { project_id: projectId, env: 'prod' };
  const client = await PlainClient.connect(server.wsUrl, query, { token });
  const { lifecycle } = server.flagcast;

  await withClient(database.url, async (holder) => {
    await withClient(database.url, async (writer) => {
      // The locks of all slices of the next minutes, without a transaction id.
      await holder.query('BEGIN');
      await holder.query(
        `SELECT pg_advisory_xact_lock_shared(1179404104, (slice % 2147483647)::int)
         FROM generate_series(
           floor(date_part('epoch', clock_timestamp()) * 50)::bigint,
           floor(date_part('epoch', clock_timestamp()) * 50)::bigint + 3000
         ) AS slice`,
      );
      await writer.query('BEGIN');
      const { entityId } = await insertAudit(writer, { projectId, environmentId: environments.prod });
      // The notification of the transaction that held the lock. No other one ends, so the snapshot lists none.
      const woken = nextEvent(lifecycle, 'reader:read', ({ trigger }) => trigger === 'wake');
      await database.pool.query('NOTIFY flagcast');
      await woken;
      let wakes = 0;
      lifecycle.on('reader:read', ({ trigger }) => (wakes += trigger === 'wake' ? 1 : 0));
      await writer.query('COMMIT');
      await client.received((message) => message.entity_id === entityId);
      expect(wakes).toBe(0);
      await holder.query('ROLLBACK');
    });
  });
});

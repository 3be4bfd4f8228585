import { expect, it, onTestFinished, vi } from 'vitest';
import { createTestDatabase, seedProject, withClient } from './database.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { createUser, startTestServer } from './server.js';

it('a connection to the database that is lost in the middle of a transaction ends that request, not the process', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId } = await seedProject(database.pool);
  const relay = await FaultyProxy.open([Number(new URL(database.url).port)]);
  const url = new URL(database.url);
  url.port = String(relay.port);
  const server = await startTestServer(url.href);
  onTestFinished(async () => {
    await server.close();
    await relay.close();
  });
  const snapshot = async (): Promise<number> => {
    const response = await fetch(`${server.httpUrl}/api/snapshot?project_id=${projectId}&env=prod`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    await response.text();
    return response.status;
  };
  await withClient(database.url, async (holder) => {
    await holder.query('BEGIN; LOCK TABLE features');
    const asked = snapshot();
    await vi.waitFor(
      async () => {
        const { rowCount } = await database.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database()
           AND application_name = 'flagcast requests' AND wait_event_type = 'Lock'`,
        );
        expect(rowCount).toBe(1);
      },
      { timeout: 60_000 },
    );
    relay.inject('reset');
    expect(await asked).toBe(503);
  });
  expect(await snapshot()).toBe(200);
});

import { randomUUID } from 'node:crypto';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Channel } from '../src/auth/authorization.js';
import type { Position } from '../src/events/position.js';
import { SnapshotSource } from '../src/replay/snapshot.js';
import { findEventSource } from '../src/reader/event-source.js';
import { createTestDatabase, seedProject, type TestDatabase, withClient } from './database.js';
import { createUser, startTestServer, type TestServer, type TestUser } from './server.js';
import { oneSession } from './session-pool.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function take({
  projectId,
  environmentId,
}: {
  projectId: string;
  environmentId: string;
}): Promise<Snapshot> {
  const response = await fetch(
    `${server.httpUrl}/api/snapshot?project_id=${projectId}&env_id=${environmentId}`,
    { headers: { Authorization: `Bearer ${root.token}` } },
  );
  expect(response.status).toBe(200);
  return (await response.json()) as Snapshot;
}

async function createFeature(projectId: string): Promise<string> {
  const id = randomUUID();
  await database.pool.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, 'a', 'A', 'simple')`,
    [id, projectId],
  );
  return id;
}

/** Resolves when a snapshot waits for the lock. */
async function snapshotWaits(): Promise<void> {
  await expect
    .poll(async () => {
      const { rowCount } = await database.pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rowCount;
    })
    .toBe(1);
}

describe('consecutive snapshots of a channel', () => {
  it('are one for all requests that wait for an earlier one', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel: Channel = { projectId, environmentId: environments.prod, environmentKey: 'prod' };
    const eventSource = await withClient(database.url, async (client) => await findEventSource(client, null));
    const position: Position = { history: 'h', xmin: 3n, xmax: 3n, listed: 'open', xids: [] };
    const sessions = oneSession(database.url);
    onTestFinished(async () => await sessions.end());
    const snapshots = new SnapshotSource({
      pool: sessions,
      source: () => eventSource,
      position: () => position,
    });
    const gate = await database.pool.connect();
    await gate.query('BEGIN; LOCK TABLE pending_changes IN ACCESS EXCLUSIVE MODE');
    const first = snapshots.take(channel);
    await snapshotWaits();
    const later = [snapshots.take(channel), snapshots.take(channel)];
    await gate.query('COMMIT');
    gate.release();
    const [second, third] = await Promise.all(later);
    expect(second).toBe(third);
    expect(second).not.toBe(await first);
    expect(await snapshots.take(channel)).not.toBe(third);
  });

  it('show everything that was committed before their request, even while an earlier one is taken', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const gate = await database.pool.connect();
    await gate.query('BEGIN; LOCK TABLE pending_changes IN ACCESS EXCLUSIVE MODE');
    let requested = 0;
    server.http.on('request', () => (requested += 1));
    const early = take(channel);
    await snapshotWaits();
    const featureId = await createFeature(projectId);
    const late = take(channel);
    await expect.poll(() => requested).toBe(2);
    await gate.query('COMMIT');
    gate.release();
    await early;
    expect((await late).features.map(({ id }) => id)).toStrictEqual([featureId]);
  });
});

import { randomUUID } from 'node:crypto';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Channel } from '../src/auth/authorization.js';
import type { Position } from '../src/events/position.js';
import { SnapshotSource } from '../src/replay/snapshot.js';
import { findEventSource } from '../src/reader/event-source.js';
import {
  createTestCluster,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { createUser, startTestServer, type TestServer, type TestUser } from './server.js';
import { oneSession } from './session-pool.js';

/** Its own: transactions of other tests would end between two snapshots. */
let cluster: TestCluster;
let database: TestDatabase;
let server: TestServer;
let root: TestUser;

beforeAll(async () => {
  cluster = await createTestCluster();
  database = await cluster.createDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
  await cluster.remove();
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

describe('consecutive snapshots of a channel', () => {
  it('are the same one until a transaction ends, even one without an event', async () => {
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
    await expect
      .poll(async () => (await snapshots.take(channel)) === (await snapshots.take(channel)))
      .toBe(true);
    const before = await snapshots.take(channel);
    const featureId = await createFeature(projectId);
    const after = await snapshots.take(channel);
    expect(after).not.toBe(before);
    expect(after?.bytes.toString('utf8')).toContain(featureId);
  });

  it('show everything that was committed before their request, even while an earlier one is taken', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const gate = await database.pool.connect();
    await gate.query('BEGIN; LOCK TABLE pending_changes IN ACCESS EXCLUSIVE MODE');
    let requested = 0;
    server.http.on('request', () => (requested += 1));
    const early = take(channel);
    await expect
      .poll(async () => {
        const { rowCount } = await database.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        );
        return rowCount;
      })
      .toBe(1);
    const featureId = await createFeature(projectId);
    const late = take(channel);
    await expect.poll(() => requested).toBe(2);
    await gate.query('COMMIT');
    gate.release();
    await early;
    expect((await late).features.map(({ id }) => id)).toStrictEqual([featureId]);
  });
});

import { randomUUID } from 'node:crypto';
import type { EventMessage, FeatureState } from '@flagcast/protocol';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  noLists,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestUser } from './server.js';
import { scrape } from './scrape.js';
import { type TestChannel, V1Client } from './v1-client.js';

const eventKeys = [
  'source',
  'type',
  'timestamp',
  'project_id',
  'environment',
  'entity',
  'entity_id',
  'action',
  'id',
  'environment_id',
  'row_id',
  'feature_id',
  'pending_change_id',
  'actor',
  'committed_at',
  'seen_at',
];

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let prod: TestChannel;
let stage: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { name, url } = database;
  await withClient(url, async (client) => {
    await client.query(`ALTER DATABASE ${name} SET flagcast.notify = 'on'`);
  });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId, environments } = await seedProject(database.pool);
  prod = { projectId, environmentId: environments.prod };
  stage = { projectId, environmentId: environments.stage };
  server = await startTestServer(database.url, {
    timeouts: { heartbeatIntervalMs: 50, recheckIntervalMs: 50 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function connect(at = server, token = root.token): Promise<V1Client> {
  return await V1Client.connect(at.wsUrl, { token });
}

async function createFeature(pool: pg.Pool, { projectId }: TestChannel, key: string): Promise<string> {
  const { rows } = await pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, description, kind, rollout_key)
     VALUES (gen_random_uuid(), $1, $2, 'A "name"', E'two\\nlines \\u2028 \\\\', 'simple', 'user.id') RETURNING id`,
    [projectId, key],
  );
  return rows[0]?.id ?? '';
}

/** As the tables have it now. */
async function featureRow(pool: pg.Pool, featureId: string, environmentId: string): Promise<FeatureState> {
  const time = (column: string): string =>
    `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
  const { rows } = await pool.query<FeatureState>(
    `SELECT f.id, f.key, f.name, f.description, f.kind, f.rollout_key, p.enabled, p.default_value, concat_ws('.', f.xmin, p.xmin) AS version,
       ${time('f.created_at')} AS created_at, ${time('greatest(f.updated_at, p.updated_at)')} AS updated_at
     FROM features f JOIN feature_params p ON p.feature_id = f.id
     WHERE f.id = $1 AND p.environment_id = $2`,
    [featureId, environmentId],
  );
  if (rows[0] === undefined) throw new Error('no such feature');
  return { ...rows[0], ...noLists };
}

describe('an event', () => {
  it('has exactly the documented keys, and the state of its feature in its environment', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await client.caughtUp(stage);
    const featureId = await createFeature(database.pool, prod, 'checkout');
    await database.pool.query(
      'UPDATE feature_params SET enabled = true, default_value = $3, updated_at = now() WHERE feature_id = $1 AND environment_id = $2',
      [featureId, prod.environmentId, 'on "prod"'],
    );
    const { id } = await insertAudit(database.pool, { ...prod, featureId });
    const event = await client.event(featureId);
    expect(Object.keys(event)).toStrictEqual([...eventKeys, 'cursor', 'feature']);
    const row = await database.pool.query<{ committed: string; created: string }>(
      `SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS committed,
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created
       FROM audit_log WHERE id = $1`,
      [id],
    );
    expect(event).toStrictEqual({
      source: 'audit',
      type: 'feature_updated',
      timestamp: row.rows[0]?.created,
      project_id: prod.projectId,
      environment: 'prod',
      entity: 'feature',
      entity_id: featureId,
      action: 'updated',
      id: expect.stringMatching(/^\d+$/) as string,
      environment_id: prod.environmentId,
      row_id: id,
      feature_id: featureId,
      pending_change_id: null,
      actor: 'alice',
      committed_at: row.rows[0]?.committed,
      seen_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
      cursor: expect.stringMatching(/^[\w-]+$/) as string,
      feature: await featureRow(database.pool, featureId, prod.environmentId),
    });
    expect(event.feature).toMatchObject({ enabled: true, default_value: 'on "prod"' });

    // The event of a rule has the state of its feature, which differs in the other environment.
    const ruleId = randomUUID();
    await insertAudit(database.pool, {
      ...stage,
      featureId,
      entity: 'rule',
      entityId: ruleId,
      action: 'create',
    });
    const rule = await client.event(ruleId);
    expect(rule).toMatchObject({ type: 'rule_created', environment: 'stage', feature_id: featureId });
    expect(rule.feature).toStrictEqual(await featureRow(database.pool, featureId, stage.environmentId));
    expect(rule.feature).toMatchObject({ enabled: false, default_value: '' });

    await database.pool.query('DELETE FROM features WHERE id = $1', [featureId]);
    await insertAudit(database.pool, { ...prod, featureId, action: 'delete', username: null });
    const gone = (await client.message(
      (message) => 'source' in message && message.action === 'deleted',
    )) as EventMessage;
    expect(gone).toMatchObject({ type: 'feature_deleted', actor: 'user', feature: null });
    expect(Object.keys(gone)).toStrictEqual([...eventKeys, 'cursor', 'feature']);
    await client.close();
  });

  it('of an approval names the request, the approver and the feature', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const featureId = await createFeature(database.pool, prod, 'approved');
    const made = await database.pool.query<{ id: string }>(
      `WITH made AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
         VALUES ($1, $2, 'carol', '{}') RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
       SELECT id, 'feature', $3 FROM made RETURNING pending_change_id AS id`,
      [prod.projectId, prod.environmentId, featureId],
    );
    const changeId = made.rows[0]?.id;
    const expected = {
      source: 'pending',
      entity_id: featureId,
      feature_id: featureId,
      pending_change_id: changeId,
    };
    expect(await client.event(featureId)).toMatchObject({
      ...expected,
      type: 'pending_change_created',
      actor: 'carol',
    });
    await database.pool.query(
      `UPDATE pending_changes SET status = 'approved', approved_by = 'dave', approved_at = now() WHERE id = $1`,
      [changeId],
    );
    const approved = await client.message(({ type }) => type === 'pending_change_approved');
    expect(approved).toMatchObject({ ...expected, actor: 'dave', action: 'approved' });
    const [first, second] = client.events;
    expect(second?.id).not.toBe(first?.id);
    expect(second?.feature).toStrictEqual(await featureRow(database.pool, featureId, prod.environmentId));
    await client.close();
  });

  it('has a cursor if it is the last one of its batch in its channel', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await client.caughtUp(stage);
    const ids: Record<'prod' | 'stage', string[]> = { prod: [], stage: [] };
    const writer = await database.pool.connect();
    await writer.query('BEGIN');
    for (const [name, channel] of [
      ['prod', prod],
      ['stage', stage],
      ['prod', prod],
      ['stage', stage],
      ['prod', prod],
    ] as const) {
      ids[name].push((await insertAudit(writer, channel)).entityId);
    }
    await writer.query('COMMIT');
    writer.release();
    for (const [name, entityIds] of Object.entries(ids)) {
      const events = await Promise.all(entityIds.map(async (entityId) => await client.event(entityId)));
      const inOrder = client.events.filter((event) => event.environment === name);
      expect(inOrder).toStrictEqual(events);
      expect(events.map((event) => 'cursor' in event)).toStrictEqual(
        events.map((_, index) => index === events.length - 1),
      );
      expect(new Set(events.map((event) => event.id)).size).toBe(events.length);
    }
    await client.close();
  });

  it('has the same id on two servers, and when it is replayed after a restart', async () => {
    const first = await startTestServer(database.url);
    const second = await startTestServer(database.url);
    const before = await connect(first);
    const cursor = await before.caughtUp(prod);
    const other = await connect(second);
    await other.caughtUp(prod);
    const { entityId } = await insertAudit(database.pool, prod);
    const live = await before.event(entityId);
    expect((await other.event(entityId)).id).toBe(live.id);
    await first.close();
    await second.close();
    const third = await startTestServer(database.url);
    const again = await connect(third);
    await again.caughtUp(prod, cursor);
    expect((await again.event(entityId)).id).toBe(live.id);
    await third.close();
  });
});

describe('an event with an old or future created_at', () => {
  it.each(['30 seconds', '2 hours', '10 days', '40 years', '-1 hour'])(
    'G11: is delivered immediately, %s before its commit, and again after a resume',
    async (age) => {
      const client = await connect();
      await client.caughtUp(prod);
      const cursor = await client.settled(database.pool);
      const { rows } = await database.pool.query<{ at: Date }>('SELECT now() - $1::interval AS at', [age]);
      const createdAt = rows[0]?.at ?? '';
      const { entityId } = await insertAudit(database.pool, { ...prod, createdAt });
      const live = await client.event(entityId);
      expect(new Date(live.timestamp)).toStrictEqual(createdAt);
      await client.close();
      const back = await connect();
      await back.caughtUp(prod, cursor);
      expect((await back.event(entityId)).id).toBe(live.id);
      await back.close();
    },
  );
});

/** How often the reader reads again after a notification with one event, while no other transaction writes. */
const followUps = 1;

describe('the cost of an event', () => {
  it('is one read of the database and one search for more after a notification, for 1 client and for 200', async () => {
    const cluster = await createTestCluster({
      shared_preload_libraries: 'pg_stat_statements',
      track_commit_timestamp: 'off',
    });
    const own = await cluster.createDatabase({ schema: 'tables' });
    await own.pool.query('CREATE EXTENSION pg_stat_statements');
    const { token } = await createUser(own.pool, 'root', { superuser: true, ttlMs: 600_000 });
    const seeded = await seedProject(own.pool);
    const channel = { projectId: seeded.projectId, environmentId: seeded.environments.prod };
    // Only the notification of the write makes it read.
    const frugal = await startTestServer(own.url, {
      database: { pollIntervalMs: 3_600_000 },
      limits: { connectionsPerUser: 300 },
    });
    const clients: V1Client[] = [];
    for (const count of [1, 200]) {
      const joining = Array.from({ length: count - clients.length }, async () => {
        const client = await connect(frugal, token);
        await client.caughtUp(channel);
        return client;
      });
      clients.push(...(await Promise.all(joining)));
      let left = followUps;
      const lastRead = nextEvent(frugal.flagcast.lifecycle, 'reader:read', ({ trigger }) => {
        if (trigger === 'follow_up') left -= 1;
        return left === 0;
      });
      await own.pool.query('SELECT pg_stat_statements_reset()');
      const { entityId } = await insertAudit(own.pool, channel);
      const events = await Promise.all(clients.map(async (client) => await client.event(entityId)));
      await lastRead;
      const { rows } = await own.pool.query<{ calls: string; query: string }>(
        `SELECT calls, query FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE 'INSERT INTO audit_log%'`,
      );
      const perEvent = rows.filter(({ query }) => query.includes('flagcast.event_log'));
      expect(perEvent.map(({ calls }) => Number(calls))).toStrictEqual([1, followUps]);
      expect(rows).toHaveLength(2);
      // The database records no commit times.
      expect((await scrape(frugal.httpUrl)).get('flagcast_commit_to_seen_seconds_count')).toBe(0);
      // The clients share one message, and this database keeps no commit times.
      for (const event of events) expect(event).toStrictEqual(events[0]);
      expect(events[0]?.committed_at).toBe(null);
    }
    await frugal.close();
    await own.drop();
    await cluster.remove();
  });
});

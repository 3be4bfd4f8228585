import { randomUUID } from 'node:crypto';
import type { EventMessage, FeatureState, Snapshot } from '@flagcast/protocol';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { install } from '../src/install/install.js';
import { createTestCluster, insertAudit, seedProject, type TestCluster, withClient } from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestUser } from './server.js';
import { createTogglrHost, type TogglrHost } from './togglr-host.js';
import { type TestChannel, V1Client } from './v1-client.js';

let cluster: TestCluster;
let host: TogglrHost;
let pool: pg.Pool;
let server: TestServer;
let root: TestUser;
let prod: TestChannel;
let stage: TestChannel;

beforeAll(async () => {
  cluster = await createTestCluster();
  host = await createTogglrHost(cluster);
  await withClient(host.database.url, async (client) => await install(client, { role: host.backend }));
  ({ pool } = host.database);
  root = await createUser(pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId, environments } = await seedProject(pool);
  prod = { projectId, environmentId: environments.prod };
  stage = { projectId, environmentId: environments.stage };
  server = await startTestServer(host.urlOf(host.backend), { database: { pollIntervalMs: 50 } });
});

afterAll(async () => {
  await server.close();
  await host.drop();
  await cluster.remove();
});

async function addFeature(): Promise<string> {
  const id = randomUUID();
  await pool.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, 'A flag', 'simple')`,
    [id, prod.projectId, id.slice(0, 30)],
  );
  return id;
}

/** Inserts a row of the feature in a channel; returns its id. */
async function add(
  table: 'rules' | 'flag_variants' | 'feature_schedules',
  featureId: string,
  values: object,
  channel = prod,
): Promise<string> {
  const row = {
    id: randomUUID(),
    feature_id: featureId,
    project_id: channel.projectId,
    environment_id: channel.environmentId,
  };
  const columns = Object.keys({ ...row, ...values });
  await pool.query(
    `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${columns.join(', ')} FROM jsonb_populate_record(NULL::${table}, $1)`,
    [JSON.stringify({ ...row, ...values })],
  );
  return row.id;
}

async function tag(featureId: string, slug: string): Promise<void> {
  await pool.query(
    `INSERT INTO feature_tags (feature_id, tag_id) SELECT $1, id FROM tags WHERE project_id = $2 AND slug = $3`,
    [featureId, prod.projectId, slug],
  );
}

async function inSnapshot(featureId: string, channel = prod): Promise<FeatureState | undefined> {
  const response = await fetch(
    `${server.httpUrl}/api/snapshot?project_id=${channel.projectId}&env_id=${channel.environmentId}`,
    { headers: { Authorization: `Bearer ${root.token}` } },
  );
  expect(response.status).toBe(200);
  return ((await response.json()) as Snapshot).features.find(({ id }) => id === featureId);
}

/** Changes the tables of the host, and waits until the server reads them as they are now. */
async function change(sql: string): Promise<void> {
  const { lifecycle } = server.flagcast;
  const restarted = Promise.all([
    nextEvent(lifecycle, 'reader:history-lost'),
    nextEvent(lifecycle, 'reader:started'),
  ]);
  await pool.query(sql.replaceAll('$backend', host.backend));
  await restarted;
}

/** The feature in the event of a change of one of its parts. */
async function inEvent(
  featureId: string,
  entity = 'rule',
  entityId: string = randomUUID(),
): Promise<EventMessage> {
  const client = await V1Client.connect(server.wsUrl, { token: root.token });
  await client.caughtUp(prod);
  await insertAudit(pool, { ...prod, featureId, entity, entityId });
  const event = await client.event(entityId);
  await client.close();
  return event;
}

describe('the lists of a feature', () => {
  it('are in snapshots and in the events of their parts, of one environment each', async () => {
    const featureId = await addFeature();
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO segments (project_id, name, conditions) VALUES ($1, 'Beta users', '{}') RETURNING id`,
      [prod.projectId],
    );
    const segmentId = rows[0]?.id ?? '';
    const variantId = await add('flag_variants', featureId, { name: 'blue', rollout_percent: 30 });
    await add('flag_variants', featureId, { name: 'elsewhere', rollout_percent: 1 }, stage);
    const condition = { attribute: 'country', value: [12345678901234567890n.toString()] };
    const include = await add('rules', featureId, {
      action: 'include',
      condition: {},
      priority: 2,
      segment_id: segmentId,
    });
    const assign = await add('rules', featureId, {
      action: 'assign',
      condition,
      priority: 1,
      flag_variant_id: variantId,
    });
    await add('rules', featureId, { action: 'exclude', condition: {} }, stage);
    const times = { starts_at: '2020-05-01T09:00:00+02:00', created_at: '2020-01-01T00:00:00Z' };
    const scheduleId = await add('feature_schedules', featureId, {
      ...times,
      timezone: 'Europe/Berlin',
      action: 'enable',
    });
    await tag(featureId, 'guarded');
    await tag(featureId, 'critical');
    const none = { segment_id: null, segment_name: null, flag_variant_id: null };
    const lists = {
      rules: [
        {
          ...{ id: assign, action: 'assign', ...none, flag_variant_id: variantId, priority: 1 },
          condition: '{"value": ["12345678901234567890"], "attribute": "country"}',
        },
        {
          ...{ id: include, action: 'include', condition: '{}', priority: 2 },
          ...{ ...none, segment_id: segmentId, segment_name: 'Beta users' },
        },
      ],
      rules_total: 2,
      variants: [{ id: variantId, name: 'blue', rollout_percent: 30 }],
      variants_total: 1,
      schedules: [
        {
          ...{ id: scheduleId, action: 'enable', starts_at: '2020-05-01T07:00:00.000000Z', ends_at: null },
          ...{ cron_expr: null, cron_duration: null, timezone: 'Europe/Berlin' },
          created_at: '2020-01-01T00:00:00.000000Z',
        },
      ],
      schedules_total: 1,
      schedule_state: {
        ...{ enabled: true, schedule_id: scheduleId, next_changes: [], known_until: null },
        invalid_schedule_ids: [],
      },
      tags: [
        { slug: 'critical', name: 'critical', color: null },
        { slug: 'guarded', name: 'guarded', color: null },
      ],
      tags_total: 2,
    };
    const snapshot = await inSnapshot(featureId);
    expect(snapshot).toMatchObject(lists);
    const event = await inEvent(featureId);
    expect(event.feature).toStrictEqual(snapshot);
    expect(await inSnapshot(featureId, stage)).toMatchObject({
      rules_total: 1,
      variants_total: 1,
      tags_total: 2,
    });
    const other = await addFeature();
    expect(await inSnapshot(other)).toMatchObject({ rules: [], variants: [], schedules: [], tags: [] });
    expect(await inSnapshot(other)).not.toHaveProperty('schedule_state');
  });

  it('are true after each change, and the same in all events of one read', async () => {
    const featureId = await addFeature();
    const client = await V1Client.connect(server.wsUrl, { token: root.token });
    await client.caughtUp(prod);
    const ruleId = await add('rules', featureId, { action: 'include', condition: {} });
    const audit = { ...prod, featureId, entity: 'rule', entityId: ruleId };
    await withClient(host.database.url, async (writer) => {
      await writer.query('BEGIN');
      await insertAudit(writer, { ...audit, action: 'create' });
      await insertAudit(writer, audit);
      await writer.query('COMMIT');
      await writer.query('DELETE FROM rules WHERE id = $1', [ruleId]);
      await insertAudit(writer, { ...audit, action: 'delete' });
    });
    await client.message((message) => 'source' in message && message.action === 'deleted');
    const lists = client.events.map(({ action, feature }) => [action, feature?.rules?.map(({ id }) => id)]);
    // The state is that of the read, which may have found the deletion, too.
    expect([[ruleId], []]).toContainEqual(lists[0]?.[1]);
    expect(lists[1]).toStrictEqual(['updated', lists[0]?.[1]]);
    expect(lists[2]).toStrictEqual(['deleted', []]);
    await client.close();
  });

  it('have a bounded size, with the totals, and conditions that are too large are left out', async () => {
    const featureId = await addFeature();
    await pool.query(
      `INSERT INTO rules (feature_id, project_id, environment_id, action, priority, condition)
       SELECT $1, $2, $3, 'include', n, CASE n
         WHEN 1 THEN jsonb_build_object('random', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) i))
         WHEN 2 THEN jsonb_build_object('repeated', repeat('x', 100000))
         WHEN 3 THEN $4::jsonb
         ELSE jsonb_build_object('n', repeat('n', 4000)) END
       FROM generate_series(1, 500) n`,
      [featureId, prod.projectId, prod.environmentId, `${'['.repeat(1_500)}${']'.repeat(1_500)}`],
    );
    await pool.query(
      `INSERT INTO flag_variants (feature_id, project_id, environment_id, name, rollout_percent)
       SELECT $1, $2, $3, repeat('v', 120) || n, 0 FROM generate_series(100, 500) n`,
      [featureId, prod.projectId, prod.environmentId],
    );
    await pool.query(
      `INSERT INTO feature_schedules (feature_id, project_id, environment_id, action, starts_at, ends_at)
       SELECT $1::uuid, $2::uuid, $3::bigint, CASE n WHEN 500 THEN 'disable' ELSE 'enable' END, now() - interval '1 hour' * n,
         now() - interval '1 hour' * n + interval '1 minute'
       FROM generate_series(1, 500) n
       UNION ALL SELECT $1::uuid, $2::uuid, $3::bigint, 'enable', now() + interval '1 hour', NULL`,
      [featureId, prod.projectId, prod.environmentId],
    );
    const { feature, feature_unreadable: isUnreadable } = await inEvent(featureId);
    expect(isUnreadable).toBeUndefined();
    expect(feature).toMatchObject({ rules_total: 500, variants_total: 401, schedules_total: 501 });
    expect(feature?.rules).toHaveLength(30);
    expect(feature?.rules?.map(({ condition }) => condition?.length ?? 0)).toStrictEqual([
      ...[0, 0, 0, 4_009, 4_009],
      ...Array.from({ length: 25 }, () => 0),
    ]);
    expect(feature?.variants).toHaveLength(30);
    expect(feature?.variants?.[0]?.name).toBe(`${'v'.repeat(97)}...`);
    // The one that has not ended comes first, and the others count for what the feature is outside of them.
    expect(feature?.schedules?.[0]).toMatchObject({ ends_at: null });
    expect(feature?.schedule_state).toMatchObject({ enabled: true, schedule_id: null, next_changes: [] });
    expect(await inSnapshot(featureId)).toStrictEqual(feature);
    await pool.query(`UPDATE feature_schedules SET ends_at = NULL WHERE feature_id = $1`, [featureId]);
    const undecided = await inEvent(featureId);
    expect(undecided.feature).toMatchObject({ schedules_total: 501 });
    expect(undecided.feature).not.toHaveProperty('schedule_state');
  });

  it('has the next changes, and leaves out only what an invalid schedule does', async () => {
    const featureId = await addFeature();
    const invalidId = await add('feature_schedules', featureId, {
      action: 'enable',
      cron_expr: 'nope',
      timezone: 'Mars',
    });
    const cutId = await add('feature_schedules', featureId, {
      action: 'disable',
      cron_expr: `* * * * ${'1,'.repeat(50)}2`,
    });
    const endsAt = '2999-01-01T00:00:00Z';
    const scheduleId = await add('feature_schedules', featureId, {
      action: 'enable',
      ends_at: endsAt,
      timezone: '',
    });
    const { feature } = await inEvent(featureId, 'feature_schedule', scheduleId);
    expect(feature?.schedule_state).toStrictEqual({
      ...{ enabled: true, schedule_id: scheduleId, known_until: null },
      next_changes: [{ at: '2999-01-01T00:00:00.000Z', enabled: false, schedule_id: null }],
      invalid_schedule_ids: [invalidId, cutId],
    });
  });

  it('are on one line of a stream of server-sent events, though PostgreSQL writes one line for each element', async () => {
    const featureId = await addFeature();
    for (const name of ['blue', 'two\r\nlines']) {
      await add('flag_variants', featureId, { name, rollout_percent: 50 });
    }
    const query = { project_id: prod.projectId, env_id: prod.environmentId };
    const stream = await EventStreamClient.open(server.httpUrl, query, {
      Authorization: `Bearer ${root.token}`,
    });
    await stream.control('caught_up');
    const { feature, entity_id: entityId } = await inEvent(featureId);
    expect(feature?.variants).toHaveLength(2);
    expect((await stream.event(entityId)).feature).toStrictEqual(feature);
    stream.response.destroy();
  });

  it('have the tags of the last event, because a change of tags is not recorded', async () => {
    const featureId = await addFeature();
    expect((await inEvent(featureId)).feature).toMatchObject({ tags: [] });
    await tag(featureId, 'critical');
    expect((await inEvent(featureId)).feature).toMatchObject({ tags: [{ slug: 'critical' }] });
  });
});

describe('a list whose names have a type without an order', () => {
  it('is read like the others', async () => {
    const featureId = await addFeature();
    await add('flag_variants', featureId, { name: 'blue', rollout_percent: 30 });
    await change('ALTER TABLE flag_variants ALTER name TYPE json USING to_json(name)');
    expect((await inEvent(featureId)).feature?.variants).toMatchObject([{ name: '"blue"' }]);
    expect((await inSnapshot(featureId))?.variants).toMatchObject([{ name: '"blue"' }]);
    await change(`ALTER TABLE flag_variants ALTER name TYPE text USING name #>> '{}'`);
  });
});

describe('a list that cannot be read', () => {
  it.each([
    [
      'the table is gone',
      'ALTER TABLE flag_variants RENAME TO gone',
      'ALTER TABLE gone RENAME TO flag_variants',
      'variants',
    ],
    [
      'a column is gone',
      'ALTER TABLE rules RENAME condition TO gone',
      'ALTER TABLE rules RENAME gone TO condition',
      'rules',
    ],
    [
      'the role may not read it',
      'REVOKE SELECT ON tags FROM $backend',
      'GRANT SELECT ON tags TO $backend',
      'tags',
    ],
    [
      'the role may not read a column',
      'REVOKE SELECT ON feature_schedules FROM $backend; GRANT SELECT (id, feature_id) ON feature_schedules TO $backend',
      'GRANT SELECT ON feature_schedules TO $backend',
      'schedules',
    ],
    [
      'a column has another type',
      'ALTER TABLE rules ALTER condition TYPE text',
      'ALTER TABLE rules ALTER condition TYPE jsonb USING condition::jsonb',
      'rules',
    ],
    [
      'row-level security may hide rows',
      'ALTER TABLE rules ENABLE ROW LEVEL SECURITY',
      'ALTER TABLE rules DISABLE ROW LEVEL SECURITY',
      'rules',
    ],
    [
      'it is a view',
      'ALTER TABLE tags RENAME TO gone; CREATE VIEW tags AS SELECT * FROM gone; GRANT SELECT ON tags TO $backend',
      'DROP VIEW tags; ALTER TABLE gone RENAME TO tags',
      'tags',
    ],
  ])(
    'is absent without the others while %s, and clients take a new snapshot',
    async (_, breaks, fixes, list) => {
      const featureId = await addFeature();
      const lists = ['rules', 'schedules', 'tags', 'variants'];
      const listsOf = (feature: FeatureState | null | undefined): string[] =>
        Object.keys(feature ?? {})
          .filter((key) => lists.includes(key))
          .sort();
      expect(listsOf(await inSnapshot(featureId))).toStrictEqual(lists);
      await change(breaks);
      const others = lists.filter((name) => name !== list);
      expect(listsOf(await inSnapshot(featureId))).toStrictEqual(others);
      expect(listsOf((await inEvent(featureId)).feature)).toStrictEqual(others);
      await change(fixes);
      expect(listsOf((await inEvent(featureId)).feature)).toStrictEqual(lists);
    },
  );
});

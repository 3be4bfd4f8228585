import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stepsStatement } from '../../console/server/pending-change-reads.js';
import {
  missedStatement,
  pageRows,
  plannerSettings,
  readStatement,
  searchStatement,
} from '../src/reader/log-statements.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  withClient,
  type SeededProject,
  type TestDatabase,
} from './database.js';

let database: TestDatabase;
let project: SeededProject;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});

beforeEach(async () => {
  project = await seedProject(database.pool);
});

afterAll(async () => {
  await database.drop();
});

interface ViewRow {
  source: string;
  event_id: string;
  project_id: string;
  environment_id: string;
  environment_key: string;
  entity: string;
  entity_id: string;
  action: string;
  created_at: Date;
  xid: string;
  row_id: string;
  feature_id: string | null;
  pending_change_id: string | null;
  actor: string | null;
}

/** The events of the project, in the order in which they were written. */
async function readEvents(client: pg.Pool | pg.ClientBase = database.pool): Promise<ViewRow[]> {
  const { rows } = await client.query<ViewRow>(
    `SELECT * FROM flagcast.v_realtime_events WHERE project_id = $1 ORDER BY event_id::bigint`,
    [project.projectId],
  );
  return rows;
}

interface Request {
  entity?: string;
  entityId?: string;
  change?: unknown;
  /** How long ago it was requested, e.g. `3 days`. */
  age?: string;
}

async function requestChange(
  { entity = 'feature', entityId = randomUUID(), change = {}, age = '0' }: Request,
  client: pg.Pool | pg.ClientBase = database.pool,
): Promise<{ id: string; entityId: string }> {
  const { rows } = await client.query<{ id: string }>(
    `INSERT INTO pending_changes (project_id, environment_id, requested_by, change, created_at)
     VALUES ($1, $2, 'bob', $3, now() - $4::interval) RETURNING id`,
    [project.projectId, project.environments.prod, JSON.stringify(change), age],
  );
  const id = String(rows[0]?.id);
  await client.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
     VALUES ($1, $2, $3, now() - $4::interval)`,
    [id, entity, entityId, age],
  );
  return { id, entityId };
}

describe('a row of audit_log', () => {
  test('is one event, whose action is created, updated or deleted', async () => {
    const { projectId, environments } = project;
    const rule = await insertAudit(database.pool, {
      projectId,
      environmentId: environments.stage,
      entity: 'rule',
      entityId: randomUUID(),
      action: 'delete',
      username: 'alice',
    });
    for (const action of ['create', 'update', 'archive']) {
      await insertAudit(database.pool, { projectId, environmentId: environments.prod, action, username: '' });
    }
    const events = await readEvents();
    expect(events[0]).toMatchObject({
      source: 'audit',
      row_id: rule.id,
      project_id: projectId,
      environment_id: environments.stage,
      environment_key: 'stage',
      entity: 'rule',
      entity_id: rule.entityId,
      action: 'deleted',
      feature_id: rule.featureId,
      pending_change_id: null,
      actor: 'alice',
    });
    expect(events.slice(1).map((event) => event.action)).toEqual(['created', 'updated', 'archive']);
    // Without a user name, the kind of actor.
    expect(events[1]?.actor).toBe('user');
  });
});

describe('each step of a pending change', () => {
  test('is one event with the time of the write, also if the change was requested days ago', async () => {
    const decisions = {
      approved: "approved_by = 'alice', approved_at = now() - interval '1 hour'",
      rejected: "rejected_by = 'alice', rejected_at = now(), rejection_reason = 'no'",
      cancelled: 'rejected_by = NULL',
    };
    for (const [status, columns] of Object.entries(decisions)) {
      const { id, entityId } = await requestChange({ age: '3 days' });
      await database.pool.query(`UPDATE pending_changes SET status = '${status}', ${columns} WHERE id = $1`, [
        id,
      ]);
      const events = (await readEvents()).filter((event) => event.pending_change_id === id);
      const expected = {
        source: 'pending',
        row_id: id,
        environment_key: 'prod',
        entity: 'feature',
        entity_id: entityId,
        feature_id: entityId,
      };
      expect(events).toMatchObject([
        { ...expected, action: 'pending', actor: 'bob' },
        { ...expected, action: status, actor: status === 'cancelled' ? null : 'alice' },
      ]);
      const { rows } = await database.pool.query<{ is_recent: boolean }>(
        `SELECT created_at > now() - interval '10 minutes' AS is_recent FROM flagcast.v_realtime_events
         WHERE event_id = $1`,
        [events[1]?.event_id],
      );
      expect(rows).toEqual([{ is_recent: true }]);
    }
  });

  test('includes changed content of an open request, its reopening, and its deletion', async () => {
    const entityId = randomUUID();
    const change = { entities: [{ entity: 'feature', entity_id: entityId }] };
    const { id } = await requestChange({ entityId, change });
    const { pool } = database;
    await pool.query(`UPDATE pending_changes SET change = change || '{"other": 1}' WHERE id = $1`, [id]);
    await pool.query(`UPDATE pending_changes SET rejection_reason = 'not a step' WHERE id = $1`, [id]);
    await pool.query(`UPDATE pending_changes SET status = 'rejected' WHERE id = $1`, [id]);
    await pool.query(`UPDATE pending_changes SET status = 'pending' WHERE id = $1`, [id]);
    await pool.query('DELETE FROM pending_changes WHERE id = $1', [id]);
    const events = await readEvents();
    expect(events.map(({ action }) => action)).toEqual([
      'pending',
      'updated',
      'rejected',
      'pending',
      'cancelled',
    ]);
    expect(new Set(events.map(({ event_id }) => event_id)).size).toBe(5);
    expect(new Set(events.map(({ entity_id }) => entity_id))).toEqual(new Set([entityId]));
  });

  test('has the feature of a rule from the change that creates or deletes it, else from the audit log', async () => {
    const featureId = randomUUID();
    const featureOf = async (request: Request): Promise<string | null | undefined> => {
      const { id } = await requestChange({ entity: 'rule', ...request });
      return (await readEvents()).find((event) => event.pending_change_id === id)?.feature_id;
    };
    const changeOf = (id: string, changes: unknown): unknown => ({
      entities: [
        { entity: 'rule', entity_id: randomUUID(), changes: { feature_id: { new: randomUUID() } } },
        { entity: 'rule', entity_id: id, changes },
      ],
    });
    const [made, deleted, edited] = [randomUUID(), randomUUID(), randomUUID()];
    expect(
      await featureOf({ entityId: made, change: changeOf(made, { feature_id: { new: featureId } }) }),
    ).toBe(featureId);
    expect(
      await featureOf({
        entityId: deleted,
        change: changeOf(deleted, { feature_id: { old: featureId, new: null } }),
      }),
    ).toBe(featureId);
    await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
      featureId,
      entity: 'rule',
      entityId: edited,
    });
    expect(
      await featureOf({ entityId: edited, change: changeOf(edited, { priority: { old: 1, new: 2 } }) }),
    ).toBe(featureId);
    expect(await featureOf({})).toBe(null);
  });

  test('is logged for any content of the change', async () => {
    const entityId = randomUUID();
    const named = (value: unknown): unknown => ({
      entities: [{ entity_id: entityId, changes: { feature_id: value } }],
    });
    const junk: unknown[] = [
      null,
      7,
      'entities',
      [],
      [[[]]],
      { entities: null },
      { entities: 'all' },
      { entities: { entity_id: entityId, changes: [] } },
      { entities: [entityId, 1, null, { entity_id: 5 }] },
      named(null),
      named('not a uuid'),
      named({ new: 'not a uuid' }),
      named({ new: `${randomUUID()}\n` }),
      named({ new: { deep: [randomUUID()] } }),
      named({ new: 1e300 }),
      named([{ new: randomUUID() }]),
    ];
    for (const change of junk) {
      const { id } = await requestChange({ entity: 'rule', entityId, change });
      await database.pool.query("UPDATE pending_changes SET status = 'approved' WHERE id = $1", [id]);
    }
    const events = await readEvents();
    expect(events).toHaveLength(2 * junk.length);
    expect(events.filter((event) => event.action === 'approved')).toHaveLength(junk.length);
  });
});

describe('xid', () => {
  test('is the id of the top-level transaction, also for rows that were written under a savepoint', async () => {
    const row = { projectId: project.projectId, environmentId: project.environments.prod };
    const client = await database.pool.connect();
    try {
      await client.query('BEGIN');
      await insertAudit(client, row);
      await client.query('SAVEPOINT one');
      await insertAudit(client, row);
      await client.query('SAVEPOINT two');
      await requestChange({}, client);
      await client.query('RELEASE SAVEPOINT one');
      const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
      await client.query('COMMIT');
      expect((await readEvents()).map((event) => event.xid)).toEqual(Array(3).fill(rows[0]?.xid));
    } finally {
      client.release();
    }
  });
});

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  Plans?: PlanNode[];
}

describe('the statements that read the log', () => {
  const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

  test('use its indexes for any number of rows', async () => {
    await database.pool.query(
      `INSERT INTO audit_log (feature_id, entity, entity_id, actor, action, project_id, environment_id)
       SELECT gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'update', $1, $2
       FROM generate_series(1, 2000)`,
      [project.projectId, project.environments.prod],
    );
    const features = { hasState: true, hasEnvironments: true, lists: {} };
    const statements = [
      ...(['full', 'short'] as const).map((mode) => ({
        text: readStatement(features, { limit: pageRows, mode, tellsHistory: false }),
        types: '(bigint[], bigint[], bigint, bigint)',
        values: `('{100}', '{9223372036854775807}', NULL, 0)`,
        index: 'event_log_pkey',
      })),
      {
        text: searchStatement(false),
        types: '(bigint[], bigint[])',
        values: `('{100}', '{9223372036854775807}')`,
        index: 'event_log_pkey',
      },
      {
        text: missedStatement(features, { limit: 1_001, of: 'channel' }),
        types: '(bigint[], bigint[], text, text)',
        values: `('{100}', '{9223372036854775807}', '${project.projectId}', '${project.environments.prod}')`,
        index: 'event_log_environment_id_xid_idx',
      },
      {
        text: missedStatement(features, { limit: 1_001, of: 'approvals' }),
        types: '(bigint[], bigint[])',
        values: `('{100}', '{9223372036854775807}')`,
        index: 'event_log_pending_xid_seq_idx',
      },
      {
        text: stepsStatement,
        types: '(text)',
        values: `('${randomUUID()}')`,
        index: 'event_log_pending_change_id_idx',
      },
    ];
    await withClient(database.url, async (client) => {
      await client.query('ANALYZE');
      await client.query(plannerSettings);
      for (const [number, { text, types, values, index }] of statements.entries()) {
        await client.query(`PREPARE statement_${number} ${types} AS ${text}`);
        const { rows } = await client.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
          `EXPLAIN (FORMAT JSON) EXECUTE statement_${number} ${values}`,
        );
        const [plan] = rows[0]?.['QUERY PLAN'] ?? [];
        const ofLog = (plan === undefined ? [] : flatten(plan.Plan)).filter(
          (node) => node['Relation Name'] === 'event_log',
        );
        expect(ofLog.length).toBeGreaterThan(0);
        expect(new Set(ofLog.map((node) => node['Index Name'] ?? node['Node Type']))).toEqual(
          new Set([index]),
        );
      }
    });
  });
});

describe('public.v_realtime_events', () => {
  test('has the nine columns of the specification', async () => {
    const { rows: fields } = await database.pool.query<{ name: string; type: string }>(
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
       WHERE attrelid = 'public.v_realtime_events'::regclass AND attnum > 0 ORDER BY attnum`,
    );
    expect(fields).toEqual([
      { name: 'source', type: 'text' },
      { name: 'event_id', type: 'text' },
      { name: 'project_id', type: 'uuid' },
      { name: 'environment_id', type: 'bigint' },
      { name: 'environment_key', type: 'text' },
      { name: 'entity', type: 'text' },
      { name: 'entity_id', type: 'uuid' },
      { name: 'action', type: 'text' },
      { name: 'created_at', type: 'timestamp with time zone' },
    ]);
  });

  test("returns each event once to the specification's query, also a cancellation, whose time the tables do not record", async () => {
    const actions: string[] = [];
    let lastSeen = '-infinity';
    const poll = async (): Promise<void> => {
      const { rows } = await database.pool.query<{ action: string; at: string }>(
        `SELECT action, created_at::text AS at FROM public.v_realtime_events
         WHERE created_at > $1 AND project_id = $2 ORDER BY created_at ASC`,
        [lastSeen, project.projectId],
      );
      actions.push(...rows.map(({ action }) => action));
      lastSeen = rows.at(-1)?.at ?? lastSeen;
    };
    const { id } = await requestChange({});
    await poll();
    await database.pool.query("UPDATE pending_changes SET status = 'cancelled' WHERE id = $1", [id]);
    await poll();
    await poll();
    await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
    });
    await poll();
    expect(actions).toEqual(['pending', 'cancelled', 'updated']);
  });
});

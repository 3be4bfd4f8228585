import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
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
  feature_id: string | null;
  pending_change_id: string | null;
  actor: string | null;
}

/** The project's events that a reader with this watermark and floor would get. */
async function readEvents(
  client: pg.Pool | pg.ClientBase = database.pool,
  { watermark = '0', floor = '-infinity' }: { watermark?: string; floor?: string } = {},
): Promise<ViewRow[]> {
  const { rows } = await client.query<ViewRow>(
    `SELECT * FROM flagcast.v_realtime_events
     WHERE xid >= $1 AND created_at > $2 AND created_at <= 'infinity' AND project_id = $3
     ORDER BY created_at, xid`,
    [watermark, floor, project.projectId],
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

/** An id above everything written so far (the snapshot's xmin is held back by other tests' writers). */
async function watermark(): Promise<string> {
  const { rows } = await database.pool.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
  return String(rows[0]?.xid);
}

describe('audit', () => {
  test('one row is one event, its action brought to created, updated, deleted', async () => {
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
      event_id: rule.id,
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
    // Where nobody is named, the kind of actor.
    expect(events[1]?.actor).toBe('user');
  });
});

describe('each step of a pending change', () => {
  test('is an event, also when it was requested days ago', async () => {
    const decisions = {
      approved: "approved_by = 'alice', approved_at = now()",
      rejected: "rejected_by = 'alice', rejected_at = now(), rejection_reason = 'no'",
      cancelled: 'rejected_by = NULL',
    };
    for (const [status, columns] of Object.entries(decisions)) {
      const { id, entityId } = await requestChange({ age: '3 days' });
      const requested = (await readEvents()).filter((event) => event.pending_change_id === id);
      expect(requested).toHaveLength(1);
      expect(requested[0]).toMatchObject({
        source: 'pending',
        event_id: id,
        environment_key: 'prod',
        entity: 'feature',
        entity_id: entityId,
        feature_id: entityId,
        action: 'pending',
        actor: 'bob',
      });
      const seen = { watermark: await watermark(), floor: 'yesterday' };
      await database.pool.query(`UPDATE pending_changes SET status = '${status}', ${columns} WHERE id = $1`, [
        id,
      ]);
      const decided = await readEvents(database.pool, seen);
      expect(decided).toHaveLength(1);
      expect(decided[0]).toMatchObject({
        pending_change_id: id,
        action: status,
        feature_id: entityId,
        actor: status === 'cancelled' ? null : 'alice',
      });
      // Once it is below the watermark it does not come again, a cancellation neither.
      expect(await readEvents(database.pool, { ...seen, watermark: await watermark() })).toEqual([]);
    }
  });

  test('names the feature of a rule: by the change that makes or deletes it, else by its history', async () => {
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

  test('whatever the change holds, reading it raises no error', async () => {
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
  test('is the id of the transaction, or of the savepoint, that wrote the row', async () => {
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
      const xid = BigInt(rows[0]?.xid ?? 0);
      const expected = [xid, xid + 1n, xid + 2n].map(String);
      // The transaction itself, to whose snapshot its own ids are still to come ...
      expect((await readEvents(client)).map((event) => event.xid)).toEqual(expected);
      await client.query('COMMIT');
      // ... and everybody else.
      expect((await readEvents()).map((event) => event.xid)).toEqual(expected);
    } finally {
      client.release();
    }
  });

  test('of a request is not moved by the decision, which has its own', async () => {
    const { id } = await requestChange({});
    const [before] = await readEvents();
    await database.pool.query(
      "UPDATE pending_changes SET status = 'rejected', rejected_at = now() WHERE id = $1",
      [id],
    );
    const after = await readEvents();
    expect(after.map((event) => event.action)).toEqual(['pending', 'rejected']);
    expect(after[0]?.xid).toBe(before?.xid);
    expect(BigInt(after[1]?.xid ?? 0)).toBeGreaterThan(BigInt(before?.xid ?? 0));
  });
});

describe('the read', () => {
  interface PlanNode {
    'Node Type': string;
    'Relation Name'?: string;
    'Index Name'?: string;
    'Index Cond'?: string;
    Plans?: PlanNode[];
  }

  const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];

  test('goes to audit_log and to the requests by created_at, however much history there is', async () => {
    await database.pool.query(
      `INSERT INTO audit_log (feature_id, entity, entity_id, actor, action, project_id, environment_id, created_at)
       SELECT gen_random_uuid(), 'feature', $3::uuid, 'user', 'update', $1, $2, now() - i * interval '1 minute'
       FROM generate_series(1, 20000) i`,
      [project.projectId, project.environments.prod, randomUUID()],
    );
    await database.pool.query(
      `WITH c AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change, status, approved_at)
         SELECT $1, $2, 'bob', '{}', 'approved', now() - i * interval '1 hour' FROM generate_series(1, 2000) i RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
       SELECT id, 'rule', gen_random_uuid(), now() - interval '1 year' FROM c`,
      [project.projectId, project.environments.prod],
    );
    await withClient(database.url, async (client) => {
      await client.query('ANALYZE; SET plan_cache_mode = force_generic_plan');
      await client.query(
        `PREPARE incremental (bigint, timestamptz) AS SELECT * FROM flagcast.v_realtime_events
         WHERE xid >= $1 AND created_at > $2 AND created_at <= 'infinity' ORDER BY created_at`,
      );
      const { rows } = await client.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
        'EXPLAIN (FORMAT JSON) EXECUTE incremental (0, now())',
      );
      const [plan] = rows[0]?.['QUERY PLAN'] ?? [];
      const nodes = plan === undefined ? [] : flatten(plan.Plan);
      const indexesOf = (table: string): string[] =>
        nodes
          .filter((node) => node['Relation Name'] === table && node['Node Type'] !== 'Bitmap Heap Scan')
          .map((node) => node['Index Name'] ?? node['Node Type'])
          .sort();
      // By created_at for the events; by the entity for the feature of a rule or schedule.
      const byEntity = nodes.filter((node) => node['Index Name'] === 'audit_log_entity_id_idx');
      expect(byEntity).toHaveLength(2);
      expect(indexesOf('audit_log').filter((name) => name !== 'audit_log_entity_id_idx')).toEqual([
        'audit_log_created_at_idx',
      ]);
      expect(indexesOf('pending_change_entities')).toContain('pending_change_entities_created_at_idx');
    });
  });
});

describe('public.v_realtime_events', () => {
  test('has the nine columns of the specification, and no cancellation that would come at every read', async () => {
    const { id } = await requestChange({ age: '2 days' });
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
    const actions = async (): Promise<string[]> => {
      const { rows } = await database.pool.query<{ action: string }>(
        'SELECT action FROM public.v_realtime_events WHERE project_id = $1 ORDER BY created_at',
        [project.projectId],
      );
      return rows.map((row) => row.action);
    };
    await database.pool.query("UPDATE pending_changes SET status = 'cancelled' WHERE id = $1", [id]);
    expect(await actions()).toEqual(['pending']);
    await database.pool.query(
      "UPDATE pending_changes SET status = 'approved', approved_at = now() WHERE id = $1",
      [id],
    );
    await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
    });
    expect(await actions()).toEqual(['pending', 'approved', 'updated']);
  });
});

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  type RestFixture,
  historyOf,
  createRestFixture,
  type UserName,
  decide,
} from '../../../server/test/rest-fixture.js';

let rest: RestFixture;
let projectId: string;
let prod: string;

beforeAll(async () => {
  rest = await createRestFixture();
  projectId = rest.shop.projectId;
  prod = rest.shop.environments.prod;
});

afterAll(async () => {
  await rest.close();
});

interface Requested {
  readonly entity: string;
  readonly entity_id: string;
  readonly action?: unknown;
  readonly changes?: unknown;
}

/** A request as another program has written it, by bob. */
async function ask(entities: readonly Requested[], change: unknown = { entities }): Promise<string> {
  const id = randomUUID();
  await rest.pool.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change) VALUES ($1, $2, $3, 'bob', $4)`,
    [id, projectId, prod, typeof change === 'string' ? change : JSON.stringify(change)],
  );
  for (const { entity, entity_id: entityId } of entities) {
    await rest.pool.query(
      'INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, $2, $3)',
      [id, entity, entityId],
    );
  }
  return id;
}

const approve = async (id: string): Promise<Answer> => await decide(rest, 'alice', id, 'approve');

async function ruleOf(featureId: string): Promise<Record<string, unknown> | null> {
  const { rows } = await rest.pool.query<Record<string, unknown>>(
    'SELECT id, conditions::text, action, priority, environment_id FROM rules WHERE feature_id = $1',
    [featureId],
  );
  return rows[0] ?? null;
}

describe('a requested rule', () => {
  const huge = '{"limit": 12345678901234567890.5}';

  it('is created, changed and deleted by the approval, with all digits', async () => {
    const { id: featureId } = await rest.addFeature();
    const rule = { entity: 'rule', entity_id: randomUUID() };
    const inserted = await ask(
      [rule],
      `{"entities": [{"entity": "rule", "entity_id": "${rule.entity_id}", "action": "insert", "changes": {
        "feature_id": {"new": "${featureId}"}, "conditions": {"new": ${huge}}, "action": {"new": "include"},
        "priority": {"new": 3}}}]}`,
    );
    const listed = await rest.ask('alice', 'GET', `/api/features/${featureId}?env=prod`);
    expect(listed.body['pending_changes']).toMatchObject([
      { id: inserted, entities: [{ entity: 'rule', action: 'insert', feature_id: featureId }] },
    ]);
    expect(await approve(inserted)).toMatchObject({ status: 200 });
    expect(await ruleOf(featureId)).toStrictEqual({
      id: rule.entity_id,
      conditions: huge,
      action: 'include',
      priority: 3,
      environment_id: prod,
    });

    const raised = { ...rule, action: 'update', changes: { priority: { old: 3, new: 5 } } };
    const updated = await ask([raised]);
    expect(await approve(updated)).toMatchObject({ status: 200 });
    expect(await ruleOf(featureId)).toMatchObject({ conditions: huge, priority: 5 });
    const again = await ask([raised]);
    expect(await approve(again)).toMatchObject({
      status: 409,
      body: { code: 'conflict', conflicts: [{ field: 'priority', old: 3, current: 5 }] },
    });
    await decide(rest, 'alice', again, 'reject');

    expect(await approve(await ask([{ ...rule, action: 'delete' }]))).toMatchObject({ status: 200 });
    expect(await ruleOf(featureId)).toBe(null);
    const history = await historyOf(rest.pool, featureId);
    expect(history.map(({ entity, action, username }) => [entity, action, username])).toStrictEqual([
      ['rule', 'create', 'alice'],
      ['rule', 'update', 'alice'],
      ['rule', 'delete', 'alice'],
    ]);
    expect(await approve(await ask([{ ...rule, action: 'delete' }]))).toMatchObject({
      status: 409,
      body: { code: 'conflict', message: expect.stringContaining('the rule no longer exists') as string },
    });
  });

  it('and a requested schedule are created and changed by the approval', async () => {
    const { id: featureId } = await rest.addFeature();
    const schedule = { entity: 'feature_schedule', entity_id: randomUUID() };
    const wanted = {
      feature_id: { new: featureId },
      starts_at: { new: '2030-01-01T00:00:00Z' },
      timezone: { new: 'UTC' },
      action: { new: 'enable' },
    };
    expect(await approve(await ask([{ ...schedule, action: 'insert', changes: wanted }]))).toMatchObject({
      status: 200,
    });
    const changes = { starts_at: { old: '2030-01-01T00:00:00Z', new: '2031-01-01T00:00:00Z' } };
    expect(await approve(await ask([{ ...schedule, action: 'update', changes }]))).toMatchObject({
      status: 200,
    });
    const { rows } = await rest.pool.query(
      `SELECT starts_at = '2031-01-01Z' AS moved FROM feature_schedules WHERE feature_id = $1`,
      [featureId],
    );
    expect(rows).toStrictEqual([{ moved: true }]);
  });
});

describe('a request', () => {
  it('with several entities is applied whole or not at all', async () => {
    const [one, two] = [await rest.addFeature(), await rest.addFeature()];
    const entities = [one, two].map(({ id }) => ({
      entity: 'feature',
      entity_id: id,
      action: 'update',
      changes: { enabled: { old: false, new: true } },
    }));
    const id = await ask(entities);
    await rest.pool.query('UPDATE feature_params SET enabled = true WHERE feature_id = $1', [two.id]);
    expect(await approve(id)).toMatchObject({ status: 409, body: { code: 'conflict' } });
    expect(await historyOf(rest.pool, one.id)).toStrictEqual([]);
    await rest.pool.query('UPDATE feature_params SET enabled = false WHERE feature_id = $1', [two.id]);
    expect(await approve(id)).toMatchObject({ status: 200 });
    const [first] = await historyOf(rest.pool, one.id);
    const [second] = await historyOf(rest.pool, two.id);
    expect(first?.request_id).toBe(second?.request_id);
  });

  it('cannot change entities of another project', async () => {
    const { id } = await rest.addFeature(rest.billing);
    const feature = { entity: 'feature', entity_id: id };
    const changes = { enabled: { old: false, new: true } };
    expect(await approve(await ask([{ ...feature, action: 'update', changes }]))).toMatchObject({
      status: 409,
    });
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);

    const rule = { entity: 'rule', entity_id: randomUUID() };
    await rest.pool.query(
      `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action, priority)
       VALUES ($1, $2, $3, $4, '[]', 'include', 1)`,
      [rule.entity_id, rest.billing.projectId, id, rest.billing.environments.prod],
    );
    const mine = await rest.addFeature();
    const wanted = {
      feature_id: { new: mine.id },
      conditions: { new: [] },
      action: { new: 'exclude' },
      priority: { new: 9 },
    };
    for (const requested of [
      { ...rule, action: 'insert', changes: wanted },
      { ...rule, action: 'update', changes: { priority: { old: 1, new: 9 } } },
      { ...rule, action: 'delete' },
    ]) {
      const changeId = await ask([requested]);
      expect(await approve(changeId)).toMatchObject({ status: 409, body: { code: 'conflict' } });
      await rest.pool.query(`UPDATE pending_changes SET status = 'rejected' WHERE id = $1`, [changeId]);
    }
    expect(await ruleOf(id)).toMatchObject({ action: 'include', priority: 1 });
  });

  it.each<[string, (featureId: string) => unknown]>([
    ['nothing', () => ({})],
    ['no object', () => 7],
    ['no list', () => ({ entities: 'all' })],
    [
      'an entity of another kind',
      (id) => [{ entity: 'variant', entity_id: id, action: 'update', changes: {} }],
    ],
    [
      'a field of another kind',
      (id) => [
        { entity: 'feature', entity_id: id, action: 'update', changes: { key: { old: 'a', new: 'b' } } },
      ],
    ],
    [
      'a value that does not fit',
      (id) => [
        {
          entity: 'feature',
          entity_id: id,
          action: 'update',
          changes: { enabled: { old: false, new: 'yes' } },
        },
      ],
    ],
    ['a feature to make', (id) => [{ entity: 'feature', entity_id: id, action: 'insert', changes: {} }]],
    [
      'a rule to move',
      (id) => [
        { entity: 'rule', entity_id: id, action: 'update', changes: { feature_id: { old: id, new: id } } },
      ],
    ],
  ])('that contains %s is refused as unsupported, stays open and is listed', async (_, changeOf) => {
    const { id } = await rest.addFeature();
    const held = changeOf(id);
    const changeId = await ask(
      [{ entity: 'feature', entity_id: id }],
      Array.isArray(held) ? { entities: held } : held,
    );
    expect(await approve(changeId)).toMatchObject({ status: 409, body: { code: 'unsupported_change' } });
    expect(await historyOf(rest.pool, id)).toStrictEqual([]);
    const { status, body } = await rest.ask('alice', 'GET', '/api/pending-changes');
    expect(status).toBe(200);
    expect((body['pending_changes'] as { id: string }[]).some((change) => change.id === changeId)).toBe(true);
  });
});

describe('the list of open requests', () => {
  it('has the requests of all projects that the user may see, newest first, with the permissions of the user', async () => {
    await rest.pool.query(`UPDATE pending_changes SET status = 'rejected'`);
    const { id: one } = await rest.addFeature();
    const { id: two } = await rest.addFeature();
    const entity = { entity: 'feature', action: 'update', changes: {} };
    const older = await ask([{ ...entity, entity_id: one }]);
    const newer = await ask([{ ...entity, entity_id: two }]);
    const { id: theirs } = await rest.addFeature(rest.billing);
    const foreign = await ask([{ ...entity, entity_id: theirs }]);
    await rest.pool.query('UPDATE pending_changes SET project_id = $2, environment_id = $3 WHERE id = $1', [
      foreign,
      rest.billing.projectId,
      rest.billing.environments.dev,
    ]);
    const list = async (who: UserName, query = ''): Promise<Record<string, unknown>[]> => {
      const { body } = await rest.ask(who, 'GET', `/api/pending-changes${query}`);
      return body['pending_changes'] as Record<string, unknown>[];
    };
    const idsOf = (changes: readonly Record<string, unknown>[]): unknown[] => changes.map(({ id }) => id);
    expect(idsOf(await list('carol'))).toStrictEqual([newer, older]);
    expect(idsOf(await list('dave'))).toStrictEqual([foreign]);
    expect(idsOf(await list('root'))).toStrictEqual([foreign, newer, older]);
    expect(idsOf(await list('root', `?project_id=${projectId}`))).toStrictEqual([newer, older]);
    expect(
      await rest.ask('carol', 'GET', `/api/pending-changes?project_id=${rest.billing.projectId}`),
    ).toMatchObject({ status: 404, body: { code: 'unknown_project' } });
    const may = async (who: UserName): Promise<unknown> => {
      const [{ own, may_decide: decide, may_cancel: cancel } = {}] = await list(
        who,
        `?project_id=${projectId}`,
      );
      return { own, decide, cancel };
    };
    expect(await may('bob')).toStrictEqual({ own: true, decide: false, cancel: true });
    expect(await may('alice')).toStrictEqual({ own: false, decide: true, cancel: false });
    expect(await may('carol')).toStrictEqual({ own: false, decide: false, cancel: false });
    expect(await may('root')).toStrictEqual({ own: false, decide: true, cancel: true });
  });
});

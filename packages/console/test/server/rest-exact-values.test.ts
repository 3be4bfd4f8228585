import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  type RestFixture,
  createRestFixture,
  decide,
} from '../../../server/test/rest-fixture.js';

let rest: RestFixture;
let place: { projectId: string; environmentId: string };

beforeAll(async () => {
  rest = await createRestFixture();
  place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.prod };
});

afterAll(async () => {
  await rest.close();
});

/** Numbers that JavaScript rounds or writes otherwise, as PostgreSQL writes them. */
const digits = [
  '9007199254740993',
  '0.1000000000000000055',
  `1${'0'.repeat(400)}`,
  '1.0',
  '-12345678901234567890.50',
];
const conditions = `[{"value": [${digits.join(', ')}], "operator": "in", "attribute": "account"}]`;

async function addRule(featureId: string, value: string): Promise<string> {
  const id = randomUUID();
  await rest.pool.query(
    `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action) VALUES ($1, $2, $3, $4, $5, 'include')`,
    [id, place.projectId, featureId, place.environmentId, value],
  );
  return id;
}

/** A request of bob, as another program writes it, to change the conditions of a rule. */
async function requestConditions(
  { featureId, ruleId }: { featureId: string; ruleId: string },
  old: string,
  wanted: string,
): Promise<string> {
  const id = randomUUID();
  await rest.pool.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change) VALUES ($1, $2, $3, 'bob', $4)`,
    [
      id,
      place.projectId,
      place.environmentId,
      `{"entities": [{"entity": "feature", "entity_id": "${featureId}", "action": "update"},
        {"entity": "rule", "entity_id": "${ruleId}", "action": "update",
        "changes": {"conditions": {"old": ${old}, "new": ${wanted}}}}]}`,
    ],
  );
  await rest.pool.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'rule', $2)`,
    [id, ruleId],
  );
  return id;
}

const approve = async (id: string): Promise<Answer> => await decide(rest, 'alice', id, 'approve');

async function addAudit(featureId: string, old: string | null, now: string | null): Promise<void> {
  await rest.pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action, old_value, new_value)
     VALUES ($1, $2, $3, 'rule', $3, 'user', 'update', $4, $5)`,
    [place.projectId, place.environmentId, featureId, old, now],
  );
}

const audit = async (featureId: string): Promise<Answer> =>
  await rest.ask('alice', 'GET', `/api/audit?project_id=${place.projectId}&env=prod&feature_id=${featureId}`);

describe('a number in JSON', () => {
  it('that changed in its last digit is a conflict for an approval, with all digits of both values', async () => {
    const { id: featureId } = await rest.addFeature();
    const ruleId = await addRule(featureId, '{"limit": 9007199254740993}');
    const changeId = await requestConditions(
      { featureId, ruleId },
      '{"limit": 9007199254740992}',
      '{"limit": 1}',
    );
    const { status, body, text } = await approve(changeId);
    expect({ status, code: body.code }).toStrictEqual({ status: 409, code: 'conflict' });
    expect(body).toMatchObject({
      conflicts: [{ entity: 'rule', entity_id: ruleId, field: 'conditions', new: { limit: 1 } }],
      fields: { conditions: 'has changed since this was requested' },
    });
    expect(text).toMatch(/"old":\{"limit": ?9007199254740992\}/);
    expect(text).toMatch(/"current":\{"limit": ?9007199254740993\}/);
    await rest.pool.query('DELETE FROM pending_changes WHERE id = $1', [changeId]);
  });

  it('with an equal value in another notation is not a conflict', async () => {
    const { id: featureId } = await rest.addFeature();
    const ruleId = await addRule(featureId, '{"limit": 1.0}');
    const changeId = await requestConditions({ featureId, ruleId }, '{"limit": 1}', '{"limit": 2}');
    expect(await approve(changeId)).toMatchObject({ status: 200 });
  });

  it('has all its digits in every response with stored JSON', async () => {
    const { id: featureId } = await rest.addFeature();
    const ruleId = await addRule(featureId, conditions);
    const changeId = await requestConditions({ featureId, ruleId }, conditions, `{"and": ${conditions}}`);
    await addAudit(featureId, `{"conditions": ${conditions}}`, `{"conditions": {"and": ${conditions}}}`);
    for (const path of [
      `/api/features/${featureId}?env=prod`,
      '/api/pending-changes',
      `/api/audit?project_id=${place.projectId}&env=prod`,
      `/api/snapshot?project_id=${place.projectId}&env=prod`,
    ]) {
      const { status, text } = await rest.ask('alice', 'GET', path);
      expect({ path, status }).toStrictEqual({ path, status: 200 });
      const found = text.replaceAll(' ', '').split(digits.join(',')).length - 1;
      // The request has two, the feature's rule one. The audit log has old_value, new_value and both sides of the
      // difference, and the request's two.
      const expected = path.startsWith('/api/audit') ? 6 : path === '/api/pending-changes' ? 2 : 3;
      expect({ path, found }).toStrictEqual({ path, found: expected });
    }
    await rest.pool.query('DELETE FROM pending_changes WHERE id = $1', [changeId]);
  });

  it('differs by its last digit, not by its notation', async () => {
    const { id: featureId } = await rest.addFeature();
    await addAudit(featureId, '{"a": 1.0, "b": 9007199254740992}', '{"a": 1, "b": 9007199254740993}');
    const { text } = await audit(featureId);
    expect(text.replaceAll(' ', '')).toContain(
      '"diff":[{"field":"b","old":9007199254740992,"new":9007199254740993}]',
    );
  });
});

describe('a difference', () => {
  it('can have fields of any name', async () => {
    const { id: featureId } = await rest.addFeature();
    await addAudit(featureId, '{"__proto__": 1, "toString": null}', '{"__proto__": 2, "constructor": 3}');
    const { body } = await audit(featureId);
    const [entry] = body['entries'] as { diff: unknown }[];
    expect(entry?.diff).toStrictEqual([
      { field: '__proto__', old: 1, new: 2 },
      { field: 'constructor', old: null, new: 3 },
    ]);
  });

  it('of a state that is not an object has one field', async () => {
    const { id: featureId } = await rest.addFeature();
    await addAudit(featureId, null, '[1, 2]');
    const { body } = await audit(featureId);
    expect(body['entries']).toMatchObject([
      { old_value: null, new_value: [1, 2], diff: [{ field: 'value', old: null, new: [1, 2] }] },
    ]);
  });
});

describe('a time of any year', () => {
  it.each([
    ['infinity', 'infinity', 'infinity'],
    ['-infinity', '-infinity', '-infinity'],
    ['0044-03-15 12:00:00+00 BC', '0044-03-15T12:00:00.000000Z BC', '0044-03-15T12:00:00+00:00 BC'],
    ['12026-01-02 03:04:05.678+00', '12026-01-02T03:04:05.678000Z', '12026-01-02T03:04:05.678+00:00'],
    ['2026-01-02 03:04:05.678+00', '2026-01-02T03:04:05.678000Z', '2026-01-02T03:04:05.678+00:00'],
  ])('%s is shown unchanged', async (stored, shown, inRow) => {
    const { id: featureId } = await rest.addFeature();
    const ruleId = await addRule(featureId, '[]');
    const changeId = await requestConditions({ featureId, ruleId }, '[]', '[1]');
    await rest.pool.query('UPDATE features SET created_at = $2, updated_at = $2 WHERE id = $1', [
      featureId,
      stored,
    ]);
    await rest.pool.query('UPDATE feature_params SET updated_at = $2 WHERE feature_id = $1', [
      featureId,
      stored,
    ]);
    await rest.pool.query('UPDATE pending_changes SET created_at = $2 WHERE id = $1', [changeId, stored]);
    await rest.pool.query(
      `INSERT INTO feature_schedules (project_id, feature_id, environment_id, starts_at, timezone, action)
       VALUES ($1, $2, $3, $4, 'UTC', 'enable')`,
      [place.projectId, featureId, place.environmentId, stored],
    );
    const details = await rest.ask('alice', 'GET', `/api/features/${featureId}?env=prod`);
    expect(details.body).toMatchObject({
      feature: { created_at: shown, updated_at: shown },
      schedules: [{ starts_at: inRow }],
      pending_changes: [{ id: changeId, created_at: shown }],
    });
    const snapshot = await rest.ask('alice', 'GET', `/api/snapshot?project_id=${place.projectId}&env=prod`);
    expect(snapshot.body['features']).toContainEqual(
      expect.objectContaining({ id: featureId, created_at: shown, updated_at: shown }),
    );
    expect(snapshot.body['pending_changes']).toContainEqual(
      expect.objectContaining({ id: changeId, created_at: shown }),
    );
    await rest.pool.query('DELETE FROM pending_changes WHERE id = $1', [changeId]);
  });
});

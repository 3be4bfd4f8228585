import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { waitUntilLive } from './screen.js';
import { at, pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

it('numbers and times of the database show as they are stored, on every page that has them', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { pool } = fixture.database;
  const environmentId = await fixture.environmentId('dev');
  const [ruleId, changeId] = [randomUUID(), randomUUID()];
  const conditions = (value: string): string =>
    `[{"attribute": "account", "operator": "in", "value": [${value}]}]`;
  const [stored, wanted] = [
    '9007199254740993, 0.1000000000000000055, 1.0',
    '9007199254740995, 0.1000000000000000055, 2.50',
  ];
  await pool.query(
    `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action) VALUES ($1, $2, $3, $4, $5, 'include')`,
    [ruleId, webShop, flag.id, environmentId, conditions(stored)],
  );
  await pool.query(
    `INSERT INTO feature_schedules (project_id, feature_id, environment_id, starts_at, ends_at, timezone, action)
     VALUES ($1, $2, $3, '0044-03-15 12:00:00+00 BC', 'infinity', 'UTC', 'enable')`,
    [webShop, flag.id, environmentId],
  );
  await pool.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change, created_at)
     VALUES ($1, $2, $3, 'bob', $4, 'infinity')`,
    [
      changeId,
      webShop,
      environmentId,
      `{"entities": [{"entity": "feature", "entity_id": "${flag.id}", "action": "update"},
        {"entity": "rule", "entity_id": "${ruleId}", "action": "update",
         "changes": {"conditions": {"old": ${conditions(stored)}, "new": ${conditions(wanted)}}, "limit": {"old": 1e400, "new": {"deep": 1.50}}}}]}`,
    ],
  );
  await pool.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'rule', $2)`,
    [changeId, ruleId],
  );
  await pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value)
     VALUES ($1, $2, $3, 'rule', $4, 'user', 'bob', 'update', $5, $6)`,
    [
      webShop,
      environmentId,
      flag.id,
      ruleId,
      `{"conditions": ${conditions(stored)}}`,
      `{"conditions": ${conditions(wanted)}}`,
    ],
  );
  const { page } = await fixture.open('alice', pageOf(flag, 'dev'));
  await waitUntilLive(page);
  await page.getByText(stored).first().waitFor();
  await page.getByText('0044-03-15T12:00:00+00:00 BC').waitFor();
  expect(await page.getByText('infinity').count()).toBeGreaterThan(0);
  await page.goto(at(webShop, 'dev', 'approvals'));
  const card = page.getByRole('article').filter({ hasText: flag.name });
  for (const text of [stored, wanted, `1${'0'.repeat(400)}`, '{"deep":1.50}', 'infinity']) {
    await card.getByText(text).waitFor();
  }
  await page.goto(at(webShop, 'dev', 'activity'));
  for (const text of [stored, wanted]) await page.getByText(text).first().waitFor();
});

it('a request shows values that differ only in spelling, and names the flag of each entity', async () => {
  const { fixture } = context;
  const [flag, other] = [await fixture.addFlag(), await fixture.addFlag()];
  const { pool } = fixture.database;
  const condition = (rest: object): object[] => [{ attribute: 'plan', operator: 'in', ...rest }];
  const change = (before: unknown, after: unknown): object => ({ old: before, new: after });
  const entities = [
    {
      entity: 'rule',
      entity_id: randomUUID(),
      action: 'insert',
      changes: {
        feature_id: change(null, flag.id),
        conditions: change(condition({ value: 'pro' }), condition({ value: 'pro', negate: true })),
      },
    },
    {
      entity: 'rule',
      entity_id: randomUUID(),
      action: 'insert',
      changes: {
        feature_id: change(null, flag.id),
        conditions: change(condition({ value: ['5', 'a, b'] }), condition({ value: [5, 'a', 'b'] })),
      },
    },
    {
      entity: 'feature_schedule',
      entity_id: randomUUID(),
      action: 'insert',
      changes: {
        feature_id: change(null, flag.id),
        starts_at: change('2026-12-01T12:00:01Z', '2026-12-01T12:00:02Z'),
        ends_at: change('2026-12-02T12:00:00.000001Z', '2026-12-02T12:00:00.000002Z'),
      },
    },
    { entity: 'feature', entity_id: other.id, action: 'update', changes: { enabled: change(true, false) } },
  ];
  const { rows } = await pool.query<{ id: string }>(
    `INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
     SELECT $1, id, 'bob', $2 FROM environments WHERE project_id = $1 AND key = 'dev' RETURNING id`,
    [webShop, { entities }],
  );
  for (const { entity, entity_id: id } of entities) {
    await pool.query(
      'INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, $2, $3)',
      [rows[0]?.id, entity, id],
    );
  }
  const { page } = await fixture.open('alice', pageOf(flag, 'dev'));
  const card = page.getByRole('article').filter({ hasText: other.name });
  await card.waitFor();
  const text = (await card.locator('.fc-diff').allTextContents()).join(' ');
  for (const part of [
    '"negate":true',
    '"5", "a, b"',
    '5, a, b',
    ':00:01',
    ':00:02',
    '.000001Z',
    '.000002Z',
  ]) {
    expect(text).toContain(part);
  }
});

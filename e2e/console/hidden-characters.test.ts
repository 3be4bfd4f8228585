import { randomUUID } from 'node:crypto';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { waitUntilLive, visit } from './screen.js';
import { at, pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

/** Shows as "not blocked" with its second half reversed, and holds a character of no width. */
const hostile = (text: string): string => `${text} \u202edekcolb\u2066 \u200b\u{e0041}`;
const shown = (text: string): string => `${text} [U+202E]dekcolb[U+2066] [U+200B][U+E0041]`;

/** The hidden characters in what the page shows, its title and its attributes; inputs contain the unchanged text. */
async function hiddenOn(page: Page): Promise<string[]> {
  return await page.evaluate(() => {
    const hidden = /[\u202a-\u202e\u2066-\u2069\u200b\u{e0041}]/u;
    const found = hidden.test(document.title) ? [document.title] : [];
    for (const element of document.querySelectorAll('body *')) {
      for (const { name, value } of element.attributes) {
        if (name !== 'value' && !name.startsWith('data-') && name !== 'href' && hidden.test(value)) {
          found.push(`${element.tagName} ${name}=${value}`);
        }
      }
      if (element instanceof HTMLTextAreaElement || element instanceof HTMLScriptElement) continue;
      for (const node of element.childNodes) {
        if (node instanceof Text && hidden.test(node.data)) found.push(`${element.tagName}: ${node.data}`);
      }
    }
    return found;
  });
}

it('every page shows hidden characters as code points and names such as __proto__ as text', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { pool } = fixture.database;
  const environmentId = await fixture.environmentId('dev');
  const [ruleId, changeId] = [randomUUID(), randomUUID()];
  await pool.query(`UPDATE projects SET name = $2 WHERE id = $1`, [webShop, hostile('Shop')]);
  await pool.query(`UPDATE features SET name = $2, description = $3 WHERE id = $1`, [
    flag.id,
    hostile('Flag'),
    hostile('Text'),
  ]);
  await pool.query(
    `UPDATE feature_params SET default_value = $3 WHERE feature_id = $1 AND environment_id = $2`,
    [flag.id, environmentId, hostile('value')],
  );
  const conditions = (value: string): string =>
    JSON.stringify([{ attribute: hostile('account'), operator: '__proto__', value }]);
  await pool.query(
    `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action) VALUES ($1, $2, $3, $4, $5, 'include')`,
    [ruleId, webShop, flag.id, environmentId, conditions(hostile('one'))],
  );
  const changes = `{"__proto__": {"old": "before", "new": "after"}, "constructor": {"old": null, "new": "made"},
    "name": {"old": ${JSON.stringify(hostile('Flag'))}, "new": ${JSON.stringify(hostile('New'))}}}`;
  await pool.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change) VALUES ($1, $2, $3, $4, $5)`,
    [
      changeId,
      webShop,
      environmentId,
      hostile('bob'),
      `{"entities": [{"entity": "feature", "entity_id": "${flag.id}", "action": "update", "changes": ${changes}}],
        "meta": {"reason": ${JSON.stringify(hostile('because'))}}}`,
    ],
  );
  await pool.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)`,
    [changeId, flag.id],
  );
  await pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value)
     VALUES ($1, $2, $3, 'feature', $3, 'user', $4, 'update', $5, $6)`,
    [
      webShop,
      environmentId,
      flag.id,
      hostile('bob'),
      `{"__proto__": 1, "toString": "x", "value": ${JSON.stringify(hostile('old'))}}`,
      `{"__proto__": 2, "constructor": "y", "value": ${JSON.stringify(hostile('new'))}}`,
    ],
  );
  const { page } = await fixture.open('alice', at(webShop, 'dev', 'features'));
  await waitUntilLive(page);
  await page.getByRole('searchbox').first().fill(flag.key);
  await page.getByText(shown('Flag')).first().waitFor();
  await page.getByText(shown('value')).first().waitFor();
  expect(await hiddenOn(page)).toEqual([]);

  await visit(page, pageOf(flag, 'dev'));
  await waitUntilLive(page);
  for (const text of [shown('Flag'), shown('Text'), shown('value'), shown('account'), '__proto__']) {
    await page.getByText(text).first().waitFor();
  }
  for (const text of ['constructor', 'toString', shown('old'), shown('new')]) {
    await page.getByRole('listitem').getByText(text).first().waitFor();
  }
  expect(await page.title()).toContain(shown('Shop'));
  expect(await hiddenOn(page)).toEqual([]);
  await page.getByRole('button', { name: 'Delete' }).first().click();
  await page.getByRole('dialog').getByText(shown('Flag')).waitFor();
  expect(await hiddenOn(page)).toEqual([]);

  await visit(page, at(webShop, 'dev', 'approvals'));
  const card = page.getByRole('article').filter({ hasText: shown('because') });
  for (const text of ['__proto__', 'before', 'after', 'constructor', 'made', shown('New'), shown('bob')]) {
    await card.getByText(text).first().waitFor();
  }
  expect(await hiddenOn(page)).toEqual([]);

  await visit(page, at(webShop, 'dev', 'activity'));
  for (const text of [shown('bob'), shown('new')]) await page.getByText(text).first().waitFor();
  expect(await hiddenOn(page)).toEqual([]);
});

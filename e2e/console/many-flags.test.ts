import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import { waitUntilLive } from './screen.js';
import { at, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();
const flagCount = 5_000;
const burst = 1_000;

/** Larger than the height of all rows, in pixels. */
const wholeHeight = 400_000;

let project: SeededProject;

beforeAll(async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  project = await seedProject(pool, { name: 'Everything' });
  await fixture.addMember(project, 'alice', 'project_owner');
  await pool.query(
    `INSERT INTO features (id, project_id, key, name, description, kind)
     SELECT gen_random_uuid(), $1, 'flag-' || lpad(n::text, 4, '0'), 'Flag ' || lpad(n::text, 4, '0'), 'One of many', 'simple'
     FROM generate_series(1, ${flagCount}) AS n`,
    [project.projectId],
  );
  await pool.query('ANALYZE features, feature_params');
});

it('five thousand flags are scrolled and searched with a few rows in the page', async () => {
  const { page } = await context.fixture.open('alice', at(project.projectId, 'dev', 'features'));
  await page.getByText(en.features.count(flagCount, flagCount)).waitFor();
  await page.getByRole('link', { name: 'Flag 0001' }).waitFor();
  await scrollTable(page, wholeHeight);
  await page.getByRole('link', { name: 'Flag 5000' }).waitFor();
  expect(await page.getByRole('row').count()).toBeLessThan(60);
  await page.getByRole('searchbox', { name: en.features.search }).fill('flag-4321');
  await page.getByText(en.features.count(1, flagCount)).waitFor();
  await page.getByRole('link', { name: 'Flag 4321' }).waitFor();
});

it('a burst of a thousand changes arrives completely on two screens, also while one is scrolled', async () => {
  const { fixture } = context;
  const { page } = await fixture.open('alice', at(project.projectId, 'dev', 'features'));
  await page.getByRole('link', { name: 'Flag 0001' }).waitFor();
  await waitUntilLive(page);
  const other = await fixture.open('alice', at(project.projectId, 'dev', 'features?q=flag-1000'));
  await waitUntilLive(other.page);
  await Promise.all([switchOn(fixture.database.pool, project), scrollTable(page, wholeHeight)]);
  await other.page
    .getByRole('switch', { name: en.features.switchLabel('Flag 1000'), checked: true })
    .waitFor();
  await page.getByRole('row').filter({ hasText: 'flag-5000' }).waitFor();
  await scrollTable(page, -wholeHeight);
  await page.getByRole('switch', { name: en.features.switchLabel('Flag 0001'), checked: true }).waitFor();
  // The page's own filter counts the flags that are on.
  await page
    .getByRole('radiogroup', { name: en.features.filter })
    .getByText(en.features.on, { exact: true })
    .click();
  await page.getByText(en.features.count(burst, flagCount)).waitFor();
});

/** Turns the wheel over the table. */
async function scrollTable(page: Page, pixels: number): Promise<void> {
  await page.getByRole('table', { name: en.shell.features }).hover();
  await page.mouse.wheel(0, pixels);
}

/** Switches a thousand flags on in one transaction with an audit row each. */
async function switchOn(pool: pg.Pool, { projectId, environments }: SeededProject): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(
      `WITH chosen AS (SELECT id FROM features WHERE project_id = $1 ORDER BY key LIMIT ${burst}),
       switched AS (
         UPDATE feature_params SET enabled = true, updated_at = now()
         WHERE environment_id = $2 AND feature_id IN (SELECT id FROM chosen)
       )
       INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id)
       SELECT $1, $2, id, 'feature', id, 'user', 'bob', 'update', '{"enabled": false}', '{"enabled": true}', $3 FROM chosen`,
      [projectId, environments.dev, randomUUID()],
    );
    await client.query('COMMIT');
  } finally {
    client.release();
  }
}

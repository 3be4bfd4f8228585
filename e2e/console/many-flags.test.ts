import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import { waitUntilLive } from './screen.js';
import { at, type Flag, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();
const flagCount = 5_000;
const burst = 1_000;

/** Larger than the height of all rows, in pixels. */
const wholeHeight = 400_000;

/** A page with five thousand flags in three environments takes a third of it. */
const maxHeapBytes = 75e6;

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

it('Back and the link to the list return to the row where the user was', async () => {
  const path = at(project.projectId, 'dev', 'features?q=flag&columns=value.changed&env=prod');
  const { page } = await context.fixture.open('alice', path);
  await page.getByRole('link', { name: 'Flag 0001' }).waitFor();
  await scrollTable(page, 100_000);
  const link = page.getByRole('link', { name: 'Flag 1756' });
  const isAt = async (): Promise<unknown> =>
    await link.evaluate((element) => [
      element === element.ownerDocument.activeElement,
      element.closest('.fc-rows')?.scrollTop,
    ]);
  for (const goBack of [
    async () => await page.goBack(),
    async () => await page.getByRole('link', { name: en.feature.back }).click(),
  ]) {
    await link.click();
    await page.getByRole('heading', { name: 'Flag 1756', level: 1 }).waitFor();
    await goBack();
    await link.waitFor();
    await expect.poll(isAt).toEqual([true, 100_000]);
    expect(page.url().endsWith(path)).toBe(true);
  }
});

it('a focused row keeps the focus while others change the order, and leaves it to the next row when it goes', async () => {
  const { fixture } = context;
  const turn = async (flag: Flag, enabled: boolean) =>
    void (await fixture.change('bob', flag, 'dev', { enabled }));
  const first = await fixture.addFlag();
  const second = await fixture.addFlag();
  await turn(first, true);
  await turn(second, true);
  const { page } = await fixture.open(
    'alice',
    at(webShop, 'dev', 'features?q=Flag+of&state=on&sort=changed'),
  );
  await waitUntilLive(page);
  const rows = page.locator('[data-row-link]');
  const state = async (): Promise<unknown> =>
    await rows.evaluateAll((links) =>
      links.map((link) => [link.textContent, link === link.ownerDocument.activeElement]),
    );
  await rows.first().focus();
  await expect.poll(state).toEqual([
    [first.name, true],
    [second.name, false],
  ]);
  await fixture.change('alice', first, 'dev', { default_value: 'changed' });
  await expect.poll(state).toEqual([
    [second.name, false],
    [first.name, true],
  ]);
  await turn(first, false);
  await expect.poll(state).toEqual([[second.name, true]]);
});

it('a burst of a thousand changes arrives completely on two screens, also while one is scrolled', async () => {
  const { fixture } = context;
  const { page } = await fixture.open('alice', at(project.projectId, 'dev', 'features?env=stage&env=prod'));
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
  expect(await heapBytes(page)).toBeLessThan(maxHeapBytes);
});

/** What the page's objects take, after a garbage collection. */
async function heapBytes(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  return (await session.send('Runtime.getHeapUsage')).usedSize;
}

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

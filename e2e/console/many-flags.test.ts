import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Locator, Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject, type SeededProject } from '../../packages/server/test/database.js';
import { type Responsiveness, scrollWheel, measureResponsiveness } from './responsiveness.js';
import { waitUntilLive } from './screen.js';
import { at, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();
const flagCount = 5_000;
const burst = 1_000;

/** Limits for a loaded machine: they detect a page that hangs. */
const longestTaskLimitMs = 1_500;
const frameLimitMs = 250;

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

const table = (page: Page): Locator => page.getByRole('table', { name: en.shell.features });

function report(action: string, { longestTaskMs, frames }: Responsiveness): void {
  process.stdout.write(
    `${action}: longest task ${longestTaskMs} ms; ${frames.count} frames, p50 ${frames.p50Ms}, p95 ${frames.p95Ms}, max ${frames.maxMs} ms\n`,
  );
}

it('scrolling and searching five thousand flags stays responsive', async () => {
  const { page } = await context.fixture.open('alice', at(project.projectId, 'dev', 'features'));
  await page.getByText(en.features.count(flagCount, flagCount)).waitFor();
  await page.getByRole('link', { name: 'Flag 0001' }).waitFor();
  const scrolled = await measureResponsiveness(page, async () => {
    await scrollWheel(page, table(page), wholeHeight, 60);
    await page.getByRole('link', { name: 'Flag 5000' }).waitFor();
  });
  report('scrolled 5,000 flags', scrolled);
  // Only visible rows are in the DOM.
  expect(await page.getByRole('row').count()).toBeLessThan(60);

  const searched = await measureResponsiveness(page, async () => {
    await page.getByRole('searchbox', { name: en.features.search }).pressSequentially('flag-4321');
    await page.getByText(en.features.count(1, flagCount)).waitFor();
  });
  report('typed a search among 5,000 flags', searched);
  await page.getByRole('link', { name: 'Flag 4321' }).waitFor();
  for (const { longestTaskMs, frames } of [scrolled, searched]) {
    expect(longestTaskMs).toBeLessThan(longestTaskLimitMs);
    expect(frames.p95Ms).toBeLessThan(frameLimitMs);
  }
});

it('a burst of a thousand changes arrives completely while the page stays responsive', async () => {
  const { fixture } = context;
  const { page } = await fixture.open('alice', at(project.projectId, 'dev', 'features'));
  await page.getByRole('link', { name: 'Flag 0001' }).waitFor();
  await waitUntilLive(page);
  const first = page.getByRole('switch', { name: en.features.switchLabel('Flag 0001'), checked: true });
  const other = await fixture.open('alice', at(project.projectId, 'dev', 'features?q=flag-1000'));
  const last = other.page.getByRole('switch', { name: en.features.switchLabel('Flag 1000') });
  await last.waitFor();
  await waitUntilLive(other.page);
  const shown = last.and(other.page.getByRole('switch', { checked: true })).waitFor();
  const arrived = await measureResponsiveness(page, async () => {
    await Promise.all([
      switchOn(fixture.database.pool, project).then(async (committedAtMs) => {
        await shown;
        const delayMs = Date.now() - committedAtMs;
        process.stdout.write(`the last of ${burst} changes was on the other screen after ${delayMs} ms\n`);
      }),
      scrollWheel(page, table(page), wholeHeight, 60),
    ]);
    await page.getByRole('row').filter({ hasText: 'flag-5000' }).waitFor();
    await scrollWheel(page, table(page), -wholeHeight, 1);
    await first.waitFor();
  });
  report(`${burst} changes while scrolling`, arrived);
  // The page's own filter counts the flags that are on.
  await page
    .getByRole('radiogroup', { name: en.features.filter })
    .getByText(en.features.on, { exact: true })
    .click();
  await page.getByText(en.features.count(burst, flagCount)).waitFor();
  expect(arrived.longestTaskMs).toBeLessThan(longestTaskLimitMs);
  expect(arrived.frames.p95Ms).toBeLessThan(frameLimitMs);
});

/** Switches a thousand flags on in one transaction with an audit row each. Returns the commit time. */
async function switchOn(pool: pg.Pool, { projectId, environments }: SeededProject): Promise<number> {
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
    return Date.now();
  } finally {
    client.release();
  }
}

import type pg from 'pg';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { waitUntilLive } from './screen.js';
import { at, pageOf, startFixtureServer, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture(
  async (url) => await startFixtureServer(url, { timeouts: { queryTimeoutMs: 500 } }),
);

/** Locks the table, as a migration of the host does, until the function that it returns is called. */
async function lock(table: string): Promise<() => Promise<void>> {
  const holder: pg.PoolClient = await context.fixture.database.pool.connect();
  await holder.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
  return async () => {
    await holder.query('ROLLBACK');
    holder.release();
  };
}

it('the activity appears without a reload after a locked table is unlocked', async () => {
  const { fixture } = context;
  const window = await fixture.open('root', at(webShop, 'prod', 'features'));
  window.expectRefusal(503, '/api/');
  const { page } = window;
  await waitUntilLive(page);
  const unlock = await lock('audit_log');
  await page.getByRole('navigation').getByRole('link', { name: en.shell.activity }).click();
  await page.getByRole('alert').getByText(en.errors.unavailable).waitFor();
  const reading = page.waitForRequest((request) => request.url().includes('/api/audit?'));
  await reading;
  await unlock();
  await page.getByRole('listitem').first().waitFor();
  await page.getByRole('alert').waitFor({ state: 'hidden' });
  await waitUntilLive(page);
});

it('the rules of a flag appear without a reload after a locked table is unlocked', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const unlock = await lock('feature_schedules');
  const window = await fixture.open('root', pageOf(flag, 'dev'));
  window.expectRefusal(503, '/api/');
  await window.page.getByRole('alert').getByText(en.errors.unavailable).waitFor();
  await unlock();
  await window.page.getByRole('region', { name: en.feature.rules }).waitFor();
  expect(await window.page.getByRole('alert').count()).toBe(0);
});

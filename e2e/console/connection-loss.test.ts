import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { changeParams } from '../../packages/demo/src/company/flag-target.js';
import { withClient } from '../../packages/server/test/database.js';
import { freePort } from '../../testing/testkit/program.ts';
import { testSecret } from '../../packages/server/test/server.js';
import { button, flip, waitUntilLive, rowOf, switchOf } from './screen.js';
import {
  at,
  type Flag,
  listOf,
  pageOf,
  useConsoleFixture,
  type FixtureServer,
  webShop,
} from './console-fixture.js';

/** A server in a child process that restarts on the same port. */
class KillableServer implements FixtureServer {
  readonly httpUrl: string;
  readonly #environment: Record<string, string>;
  #process: ChildProcess | null = null;

  constructor(databaseUrl: string, port: number) {
    this.httpUrl = `http://127.0.0.1:${port}`;
    this.#environment = { DATABASE_URL: databaseUrl, SECRET: testSecret, PORT: String(port) };
  }

  async start(): Promise<void> {
    const file = fileURLToPath(new URL('./console-server.js', import.meta.url));
    this.#process = fork(file, {
      // From the build: it starts in a third of the time.
      execArgv: [],
      env: { PATH: process.env['PATH'], ...this.#environment },
    });
    await once(this.#process, 'message');
  }

  async kill(): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    this.#process = null;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async close(): Promise<void> {
    await this.kill();
  }
}

const servers: KillableServer[] = [];
const context = useConsoleFixture(async (databaseUrl) => {
  const server = new KillableServer(databaseUrl, await freePort());
  await server.start();
  servers.push(server);
  return server;
});

/** Changes a flag directly in the database as bob, like a host's backend. */
async function changeInDatabase(
  flag: Flag,
  changes: readonly { enabled?: boolean; default_value?: string }[],
): Promise<void> {
  await withClient(context.fixture.database.url, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `SELECT id::text AS id FROM environments WHERE project_id = $1 AND key = 'dev'`,
      [flag.projectId],
    );
    const target = { projectId: flag.projectId, featureId: flag.id, environmentId: rows[0]?.id ?? '' };
    for (const [index, change] of changes.entries()) {
      await client.query('BEGIN');
      const requestId = `7b1d0a30-0000-4000-8000-${String(index).padStart(12, '0')}`;
      await changeParams(client, target, change, { username: 'bob', requestId });
      await client.query('COMMIT');
    }
  });
}

/** The indicators of a stale page. */
const staleChip = (page: Page) => page.getByRole('button', { name: /: Stale since \d\d:\d\d/ });
const staleBanner = (page: Page) => page.getByRole('status').filter({ hasText: /^No connection/ });

it('the console shows since when it is stale without a network, and then catches up completely', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open('alice', listOf(flag, 'dev'));
  window.expectOutage();
  const { page } = window;
  const reader = await window.openTab(pageOf(flag, 'dev'));
  await waitUntilLive(page);
  await waitUntilLive(reader);
  await window.context.setOffline(true);
  await staleChip(page).waitFor();
  await staleBanner(page).waitFor();

  const values = Array.from({ length: 40 }, (_, index) => `while away ${index + 1}`);
  await changeInDatabase(flag, [...values.map((value) => ({ default_value: value })), { enabled: true }]);
  await switchOf(page, flag, false).waitFor();
  await window.context.setOffline(false);
  await waitUntilLive(page);
  await staleBanner(page).waitFor({ state: 'hidden' });
  await switchOf(page, flag, true).waitFor();
  await rowOf(page, flag).getByText('while away 40', { exact: true }).waitFor();

  // The history in the other tab, which was offline as well, has all changes.
  const entries = reader.getByRole('region', { name: en.feature.history }).getByRole('listitem');
  await expect.poll(async () => await entries.count()).toBe(41);
  const texts = (await entries.allTextContents()).join('\n');
  for (const value of values) expect(texts).toContain(value);
  await flip(switchOf(page, flag, true));
  await expect.poll(async () => await entries.count()).toBe(42);
});

it('open pages reconnect to a server that was killed and restarted', async () => {
  const { fixture } = context;
  const [server] = servers;
  const flag = await fixture.addFlag();
  const alice = await fixture.open('alice', listOf(flag, 'dev'));
  const bob = await fixture.open('bob', pageOf(flag, 'dev'));
  const activity = await fixture.open('root', at(webShop, 'dev', 'activity'));
  const pages = [alice.page, bob.page, activity.page];
  for (const window of [alice, bob, activity]) {
    window.expectOutage();
    await waitUntilLive(window.page);
    // Wait until all modules are loaded: browsers do not retry a failed module.
    await window.page.waitForLoadState('networkidle');
  }
  await server?.kill();
  for (const page of pages) await staleChip(page).waitFor();
  await changeInDatabase(flag, [{ enabled: true }, { default_value: 'from the outage' }]);
  await switchOf(alice.page, flag, false).waitFor();
  await server?.start();
  for (const page of pages) {
    // Not after the backoff, which can be long after a slow start.
    await page.evaluate(`dispatchEvent(new Event('online'))`);
    await waitUntilLive(page);
    await staleBanner(page).waitFor({ state: 'hidden' });
  }
  await switchOf(alice.page, flag, true).waitFor();
  await rowOf(alice.page, flag).getByText('from the outage', { exact: true }).waitFor();
  const history = bob.page.getByRole('region', { name: en.feature.history });
  await history.getByRole('listitem').filter({ hasText: 'from the outage' }).waitFor();
  await activity.page.getByRole('listitem').filter({ hasText: 'from the outage' }).first().waitFor();

  // New changes arrive without a reload.
  await flip(switchOf(alice.page, flag, true));
  await bob.page
    .getByRole('form', { name: en.feature.details })
    .getByRole('switch', { checked: false })
    .waitFor();
});

// The last test: it leaves the server dead.
it('every page opens during an outage and shows that it is stale', async () => {
  const { fixture } = context;
  const [server] = servers;
  const flag = await fixture.addFlag();
  const window = await fixture.open('alice', listOf(flag, 'dev'), { isOwn: true });
  window.expectOutage();
  const { page } = window;
  await waitUntilLive(page);
  const loaded = `performance.getEntriesByName('flagcast:preloaded').length`;
  await expect.poll(async () => await page.evaluate(loaded)).toBeGreaterThan(0);
  await server?.kill();
  await staleChip(page).waitFor();

  const heading = (name: string) => page.getByRole('heading', { name, level: 1, exact: true });
  const follow = async (link: string, title: string): Promise<void> => {
    await page.getByRole('link', { name: link }).first().click();
    await heading(title).waitFor();
    await staleBanner(page).waitFor();
  };
  await follow(flag.name, flag.name);
  await button(page, en.feature.delete).click();
  await page.getByRole('dialog').getByRole('textbox').first().waitFor();
  await page.keyboard.press('Escape');
  await follow(en.shell.approvals, en.shell.approvals);
  await follow(en.shell.activity, en.shell.activity);
  // The banner says why, once.
  await button(page, en.freshness.reconnect).waitFor();
  expect(await button(page, en.shell.tryAgain).count()).toBe(0);
  // The page must not claim that there are no entries if they could not be loaded.
  expect(await page.getByText(en.activity.empty).count()).toBe(0);
  expect(await page.getByText(en.activity.end).count()).toBe(0);
  await expect.poll(async () => await page.locator('.fc-page .mantine-Skeleton-root').count()).toBe(0);
  expect(await page.getByRole('alert').count()).toBe(0);
  expect(await page.locator('.fc-plot').count()).toBe(0);
  await staleChip(page).click();
  await page.getByRole('dialog', { name: en.freshness.title }).waitFor();
  await page.keyboard.press('Escape');
  await follow(en.shell.features, en.shell.features);
  await button(page, en.features.create).first().click();
  await page.getByRole('dialog', { name: en.features.create }).waitFor();
  await page.keyboard.press('Escape');
});

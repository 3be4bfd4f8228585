import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import {
  at,
  listOf,
  type Person,
  startFixtureServer,
  useConsoleFixture,
  webShop,
} from './console-fixture.js';
import { button, cardOf, flip, rowOf, showCard, switchOf, waitUntilLive } from './screen.js';

/** The server's connections: the open ones, and all since the start. */
const connections = { open: 0, opened: 0 };
const context = useConsoleFixture(async (databaseUrl) => {
  const server = await startFixtureServer(databaseUrl);
  server.flagcast.lifecycle.on('connection:opened', () => {
    connections.open += 1;
    connections.opened += 1;
  });
  server.flagcast.lifecycle.on('connection:closed', () => (connections.open -= 1));
  return server;
});

const list = at(webShop, 'dev', 'features');

async function signIn(page: Page, person: Person): Promise<void> {
  await page.getByRole('button', { name: en.signIn.demoUsers[person] }).click();
  await waitUntilLive(page);
}

const account = (page: Page, person: Person) => button(page, en.shell.userMenu(person));

async function choose(page: Page, person: Person, item: string): Promise<void> {
  await account(page, person).click();
  await button(page, item).click();
}

const signInTitle = (page: Page) => page.getByRole('button', { name: en.signIn.demoUsers.alice });

it('a link opened beside another tab is signed in, and all tabs share one connection', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const before = connections.opened;
  const window = await fixture.open(null, listOf(flag, 'dev'));
  await signIn(window.page, 'alice');
  const second = await window.openTab(listOf(flag, 'dev'));
  await waitUntilLive(second);
  const feed = await window.openTab(at(webShop, 'dev', 'approvals'));
  await waitUntilLive(feed);
  expect(connections.opened - before).toBe(1);

  await flip(switchOf(window.page, flag, false));
  await switchOf(second, flag, true).waitFor();
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The feed has all tabs' });
  await showCard(cardOf(feed, 'bob', flag));

  // Another tab takes over, and misses nothing.
  await window.page.close();
  await fixture.change('alice', flag, 'dev', { default_value: 'after the first tab' });
  await rowOf(second, flag).getByText('after the first tab').waitFor();
  await waitUntilLive(feed);
  await expect.poll(() => [connections.open, connections.opened - before]).toEqual([1, 2]);
});

it('another tab takes over while the leading one sleeps, and a sign-out ends the session in all tabs', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open(null, listOf(flag, 'dev'));
  await signIn(window.page, 'alice');
  const second = await window.openTab(listOf(flag, 'dev'));
  await waitUntilLive(second);
  const browser = await window.context.newCDPSession(window.page);
  await browser.send('Page.setWebLifecycleState', { state: 'frozen' });
  await fixture.change('alice', flag, 'dev', { default_value: 'while it sleeps' });
  await rowOf(second, flag).getByText('while it sleeps').waitFor();
  await browser.send('Page.setWebLifecycleState', { state: 'active' });
  await rowOf(window.page, flag).getByText('while it sleeps').waitFor();
  await waitUntilLive(window.page);

  const kept = await second.evaluate(`JSON.stringify({ ...sessionStorage })`);
  await choose(window.page, 'alice', en.shell.signOut);
  await signInTitle(window.page).waitFor();
  await signInTitle(second).waitFor();
  expect(await second.evaluate(`sessionStorage.length`)).toBe(0);

  // A browser restores the storage of a reopened tab.
  await second.evaluate(`Object.assign(sessionStorage, ${String(kept)})`);
  await second.reload();
  await signInTitle(second).waitFor();

  // The next sign-in is for all of them again.
  await signIn(second, 'bob');
  await account(window.page, 'bob').waitFor();
});

it('an expired session is renewed once for all tabs, and no tab reports a lost connection meanwhile', async () => {
  const { fixture } = context;
  const window = await fixture.open('alice', list, { tokenTtlMs: 4_000 });
  const pages = [window.page, await window.openTab(list)];
  window.expectRefusal(401, '/api/');
  const dialogOf = (page: Page) => page.getByRole('dialog', { name: en.signIn.expired });
  for (const page of pages) await dialogOf(page).waitFor();
  for (const page of pages) expect(await page.getByText(/^No connection/).count()).toBe(0);
  await dialogOf(window.page).getByRole('button', { name: en.signIn.demoUsers.alice }).click();
  for (const page of pages) {
    await dialogOf(page).waitFor({ state: 'hidden' });
    await waitUntilLive(page);
  }
});

it('two users in two tabs share neither session nor connection', async () => {
  const { fixture } = context;
  const window = await fixture.open(null, list);
  await signIn(window.page, 'alice');
  const second = await window.openTab(list);
  await choose(second, 'alice', en.shell.switchUser);
  await signInTitle(second).waitFor();
  // Neither a reload nor another tab of alice takes the tab back.
  await second.reload();
  await signIn(second, 'bob');
  await account(window.page, 'alice').waitFor();
  await expect.poll(() => connections.open).toBe(2);

  // A new tab belongs to the user who was active last.
  const third = await window.openTab(list);
  await account(third, 'bob').waitFor();
  await window.page.keyboard.press('Shift');
  const fourth = await window.openTab(list);
  await account(fourth, 'alice').waitFor();

  await choose(fourth, 'alice', en.shell.signOut);
  await signInTitle(window.page).waitFor();
  await account(second, 'bob').waitFor();
  await account(third, 'bob').waitFor();
});

import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { ru } from '../../packages/console/src/i18n/ru.js';
import { findAxeViolations, findOverflow, waitForAnimations } from './accessibility.js';
import type { ConsoleWindow } from './console-window.js';
import { button, cardOf, field, flip, switchOf, visit, waitUntilLive } from './screen.js';
import { at, type Flag, listOf, pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

/** A flag that waits for a decision in prod, so that every page has something to show. */
async function waitingFlag(): Promise<Flag> {
  const flag = await context.fixture.addFlag();
  await context.fixture.change('alice', flag, 'dev', { description: 'Packed before it is paid' });
  await context.fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The launch is today' });
  return flag;
}

/** What a view adds to those before it: axe takes most of the time of the tests, and the frame is the same on every page. */
type Part = 'html' | 'main' | '[role=dialog]';

/** Opens every view of the console, from the list of flags, and calls `look` for each with its name. */
async function tour(
  window: ConsoleWindow,
  { flag, unrequested }: { readonly flag: Flag; readonly unrequested: Flag },
  look: (what: string, part: Part) => Promise<void>,
): Promise<void> {
  const { page } = window;
  const escape = async (): Promise<void> => {
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
  };
  await page.getByRole('switch').first().waitFor();
  await waitUntilLive(page);
  await look('the flags', 'html');
  await button(page, en.features.create).first().click();
  await page.getByRole('dialog', { name: en.features.create }).waitFor();
  await look('the dialog that makes a flag', '[role=dialog]');
  await escape();
  await button(page, en.freshness.chip(en.freshness.states.live)).click();
  await page.getByRole('dialog', { name: en.freshness.title }).waitFor();
  await context.fixture.change('bob', flag, 'dev', { enabled: true });
  await context.fixture.change('bob', flag, 'dev', { enabled: false });
  await look('the freshness drawer', '[role=dialog]');
  await escape();
  await button(page, en.shell.userMenu('alice')).click();
  await button(page, en.shell.signOut).waitFor();
  await look('the menu of the person', 'html');
  await page.keyboard.press('Escape');
  await button(page, en.shell.signOut).waitFor({ state: 'hidden' });
  await visit(page, listOf(unrequested, 'prod'));
  // Until then the row is where it was in the whole list.
  await page.getByText(/^1 of \d+ flags$/).waitFor();
  await flip(switchOf(page, unrequested, false));
  await page.getByRole('dialog').waitFor();
  await look('the dialog that asks for a reason', '[role=dialog]');
  await escape();
  await visit(page, listOf(flag, 'dev').replace(flag.key, 'nothing-like-it'));
  await page.getByText(en.features.noMatch).waitFor();
  await look('a search that finds nothing', 'main');

  await visit(page, pageOf(flag, 'dev'));
  const form = page.getByRole('form', { name: en.feature.details });
  await field(form, en.feature.valueIn('Development')).fill('mine');
  await waitUntilLive(page);
  await context.fixture.change('root', flag, 'dev', { default_value: 'theirs' });
  await page.getByRole('alert').waitFor();
  await look('a flag, with a conflict and a request', 'main');
  await button(page, en.feature.delete).click();
  await page.getByRole('dialog').waitFor();
  await look('the dialog that deletes', '[role=dialog]');
  await escape();
  await button(page, en.feature.discard).click();

  await visit(page, at(webShop, 'dev', 'approvals'));
  await cardOf(page, 'bob', flag).waitFor();
  await look('the approvals', 'main');
  await button(cardOf(page, 'bob', flag), en.approvals.approve).click();
  await page.getByRole('dialog').waitFor();
  await look('the confirmation of an approval', '[role=dialog]');
  await escape();
  await page.getByRole('button', { name: /^For you/ }).click();
  await page.getByRole('dialog', { name: en.approvals.bell(0) }).waitFor();
  await look('what concerns the person', '[role=dialog]');
  await escape();
  await cardOf(page, 'bob', flag).getByRole('link').nth(1).click();
  await page.getByRole('region', { name: en.feature.history }).waitFor();
  await look('the page of a request', 'main');
  await visit(page, at(webShop, 'dev', 'approvals?show=decided'));
  await page.getByRole('article').first().waitFor();
  await look('the decided requests', 'main');
  await visit(page, at(webShop, 'dev', 'activity'));
  await page.getByRole('listitem').first().waitFor();
  await look('the activity', 'main');
  await visit(page, at(webShop, 'dev', 'guards'));
  await page.getByText(en.guards.notGuarded).first().waitFor();
  await look('the guards', 'main');
  await button(page, en.guards.remove('Production')).click();
  await page.getByRole('dialog').waitFor();
  await look('the dialog that removes a guard', '[role=dialog]');
  await escape();
  window.expectOutage();
  await window.context.setOffline(true);
  await page
    .getByRole('status')
    .filter({ hasText: /^No connection/ })
    .waitFor();
  await look('a stale screen', 'html');
  await window.context.setOffline(false);
  await waitUntilLive(page);
  await visit(page, at(webShop, 'dev', 'no-such-page'));
  await page.getByRole('heading', { name: en.shell.notFound }).waitFor();
  await look('a page that is not there', 'main');
}

it.each([
  ['with the light theme', { theme: 'light' }],
  ['with the dark theme on a phone', { theme: 'dark', phone: true }],
] as const)('axe finds no serious violation %s, and nothing is wider than the screen', async (_, options) => {
  // The bell's count has two digits with this request and that of the flag.
  await waitingFlag();
  const flags = { flag: await waitingFlag(), unrequested: await context.fixture.addFlag() };
  // Each finding with the first page that has it: those of the shell are on every page.
  const found = new Map<string, string>();
  const look = (page: Page) => async (what: string, part: Part) => {
    await waitForAnimations(page);
    for (const finding of [...(await findAxeViolations(page, part)), ...(await findOverflow(page))])
      found.set(finding, found.get(finding) ?? what);
  };
  const guest = await context.fixture.open(null, '/', options);
  await field(guest.page, en.signIn.username).waitFor();
  await look(guest.page)('signing in', 'html');
  const window = await context.fixture.open('alice', at(webShop, 'prod', 'features'), options);
  await tour(window, flags, look(window.page));
  expect([...found].map(([finding, where]) => `${where}: ${finding}`)).toEqual([]);
});

it('a flag is switched and a request approved by touch on a phone', async () => {
  const flag = await waitingFlag();
  const { page } = await context.fixture.open('alice', listOf(flag, 'dev'), { phone: true });
  await waitUntilLive(page);
  await switchOf(page, flag, false).tap({ force: true });
  await switchOf(page, flag, true).waitFor();
  await page.getByRole('navigation').getByRole('link', { name: en.shell.approvals }).tap();
  const card = cardOf(page, 'bob', flag);
  await button(card, en.approvals.approve).tap();
  await button(page.getByRole('dialog'), en.approvals.approve).tap();
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
  await page.getByRole('navigation').getByRole('link', { name: en.shell.activity }).tap();
  await page.getByRole('heading', { name: en.shell.activity, level: 1 }).waitFor();
  await button(page, en.shell.projectIs('Web shop')).tap();
  await page.getByRole('menuitem', { name: 'Billing' }).tap();
  await button(page, en.shell.projectIs('Billing')).waitFor();
  // A request that is under way at the end of the session would be refused.
  await page.getByRole('listitem').first().waitFor();
  await button(page, en.shell.userMenu('alice')).tap();
  await button(page, en.shell.signOut).tap();
  await field(page, en.signIn.username).waitFor();
});

it('an owner reaches every page from the navigation of a phone, with unbroken titles, in Russian', async () => {
  const path = at(webShop, 'prod', 'approvals');
  const { page } = await context.fixture.open('alice', path, { phone: true, language: 'ru-RU' });
  const title = page.getByRole('heading', { name: ru.shell.approvals, level: 1 });
  await title.waitFor();
  const titleBox = await title.boundingBox();
  expect(titleBox?.height).toBeLessThan(45);
  const bar = await page.getByRole('navigation').boundingBox();
  for (const name of ['features', 'approvals', 'activity', 'guards'] as const) {
    const link = await page.getByRole('navigation').getByRole('link', { name: ru.shell[name] }).boundingBox();
    expect((link?.y ?? 0) + (link?.height ?? 0), name).toBeLessThanOrEqual(
      (bar?.y ?? 0) + (bar?.height ?? 0),
    );
  }
  await visit(page, at(webShop, 'dev', 'guards'));
  const guard = button(page, ru.guards.add('Development'));
  await guard.waitFor();
  expect(
    await guard.locator('.mantine-Button-label').evaluate((label) => label.scrollWidth - label.clientWidth),
  ).toBe(0);
});

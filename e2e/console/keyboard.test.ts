import type { Locator, Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { findAxeViolations, waitForAnimations } from './accessibility.js';
import { button, cardOf, field, waitUntilLive, switchOf } from './screen.js';
import { at, listOf, pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

/** Presses Tab until the element has the focus. It is searched by its role once, which takes longer than a key press. */
async function tabTo(page: Page, target: Locator): Promise<void> {
  await target.waitFor();
  const found = await target.elementHandle();
  for (let presses = 0; presses < 60; presses += 1) {
    if (await found?.evaluate((element) => element === element.ownerDocument.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not reach ${await target.evaluate((element) => element.outerHTML)}`);
}

async function hasFocus(target: Locator): Promise<boolean> {
  return await target.evaluate((element) => element === element.ownerDocument.activeElement);
}

async function getsFocus(target: Locator): Promise<void> {
  await expect.poll(async () => await hasFocus(target)).toBe(true);
}

it('sign-in, search, switch and approval work without a pointer', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The launch is today' });
  const { page } = await fixture.open(null, listOf(flag, 'dev').replace(/\?.*/, ''));
  await tabTo(page, field(page, en.signIn.username));
  await page.keyboard.type('alice');
  await tabTo(page, page.getByLabel(en.signIn.password, { exact: true }));
  await page.keyboard.type('alice-demo');
  await page.keyboard.press('Enter');

  await waitUntilLive(page);
  const search = page.getByRole('searchbox', { name: en.features.search });
  await search.waitFor();
  await page.keyboard.press('/');
  await getsFocus(search);
  // Shortcut letters are plain text in the search field.
  await page.keyboard.type('gap?');
  expect(new URL(page.url()).pathname).toBe(at(webShop, 'dev', 'features'));
  expect(await page.getByRole('dialog').count()).toBe(0);
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type(flag.key);
  await switchOf(page, flag, false).waitFor();
  await page.keyboard.press('ArrowDown');
  await getsFocus(page.getByRole('link', { name: flag.name, exact: true }));
  await tabTo(page, switchOf(page, flag));
  await page.keyboard.press('Space');
  await switchOf(page, flag, true).waitFor();

  await page.keyboard.press('g');
  await page.keyboard.press('a');
  const card = cardOf(page, 'bob', flag);
  await tabTo(page, button(card, en.approvals.approve));
  await page.keyboard.press('Enter');
  await getsFocus(button(page.getByRole('dialog'), en.approvals.approve));
  await page.keyboard.press('Enter');
  await card.getByText(en.approvals.decided.approved('alice')).waitFor();
});

it('Ctrl+K leads to a flag of another project, an environment and a page', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', listOf(flag, 'dev'));
  await waitUntilLive(page);
  const input = page.getByRole('combobox', { name: en.keyboard.palette });
  const go = async (query: string, path: string): Promise<void> => {
    // Also while the user types.
    await page.keyboard.press('Control+k');
    await getsFocus(input);
    await page.keyboard.type(query);
    await page.getByRole('option').first().waitFor();
    await page.keyboard.press('Enter');
    await page.waitForURL((url) => url.pathname === path);
    await input.waitFor({ state: 'hidden' });
    await getsFocus(page.getByRole('main'));
  };
  await page.keyboard.press('/');
  await go(flag.name, pageOf(flag, 'dev'));
  await go('web prod', at(webShop, 'prod', 'features'));
  await go('activ', at(webShop, 'prod', 'activity'));

  await page.keyboard.press('Control+k');
  await page.keyboard.type('dunn');
  const options = page.getByRole('option');
  await options.filter({ hasText: 'Billing' }).first().waitFor();
  expect(await options.filter({ hasText: en.shell.features }).count()).toBe(0);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowUp');
  const active = await input.getAttribute('aria-activedescendant');
  expect(await options.first().getAttribute('id')).toBe(active);
  expect(await options.first().getAttribute('aria-selected')).toBe('true');
  await waitForAnimations(page);
  expect(await findAxeViolations(page)).toEqual([]);
  await page.keyboard.press('Escape');
  await input.waitFor({ state: 'hidden' });
  await go('dunn', await dunningPath());

  /** The flag of the demo's other project. */
  async function dunningPath(): Promise<string> {
    const { rows } = await fixture.database.pool.query<{ id: string; project_id: string }>(
      `SELECT id, project_id FROM features WHERE key = 'dunning-schedule'`,
    );
    return at(rows[0]?.project_id ?? '', 'prod', `features/${rows[0]?.id ?? ''}`);
  }
});

it('a dialog takes, keeps and returns the focus', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', listOf(flag, 'prod'));
  await waitUntilLive(page);
  await tabTo(page, switchOf(page, flag));
  await page.keyboard.press('Space');
  const dialog = page.getByRole('dialog', { name: en.features.turnOn(flag.name) });
  await getsFocus(field(dialog, en.approvals.reason));
  for (let presses = 0; presses < 8; presses += 1) {
    await page.keyboard.press('Tab');
    expect(await dialog.evaluate((element) => element.contains(element.ownerDocument.activeElement))).toBe(
      true,
    );
  }
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  await getsFocus(switchOf(page, flag));

  const create = button(page, en.features.create).first();
  await tabTo(page, create);
  await page.keyboard.press('Enter');
  await getsFocus(field(page.getByRole('dialog'), en.fields.name));
  await page.keyboard.press('Escape');
  await getsFocus(create);

  const chip = button(page, en.freshness.chip(en.freshness.states.live));
  await tabTo(page, chip);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: en.freshness.title }).waitFor();
  await page.keyboard.press('Escape');
  await getsFocus(chip);
});

it('arrow keys move through the rows, and the skip link skips the navigation', async () => {
  const { fixture } = context;
  const flags = [await fixture.addFlag(), await fixture.addFlag()];
  const { page } = await fixture.open('alice', at(webShop, 'dev', 'features?q=of+the+tests'));
  await waitUntilLive(page);
  const links = page.getByRole('row').getByRole('link');
  await page.keyboard.press('/');
  await page.keyboard.press('ArrowDown');
  await getsFocus(links.first());
  await page.keyboard.press('ArrowDown');
  await getsFocus(links.nth(1));
  await page.keyboard.press('ArrowUp');
  await getsFocus(links.first());
  const [flag] = flags;
  if (flag === undefined) return;
  await page.goto(pageOf(flag, 'dev'));
  await waitUntilLive(page);
  await page.keyboard.press('Tab');
  await getsFocus(page.getByRole('link', { name: en.shell.skipToContent }));
  await page.keyboard.press('Enter');
  await getsFocus(page.getByRole('main'));
});

import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { ru } from '../../packages/console/src/i18n/ru.js';
import { at, listOf, useConsoleFixture, webShop } from './console-fixture.js';
import type { ConsoleWindow } from './console-window.js';
import { button, rowOf, waitUntilLive } from './screen.js';

const context = useConsoleFixture();

/** Files of the build that the server no longer has, as after an update. Returns how to bring them back. */
async function loseFiles(window: ConsoleWindow): Promise<() => Promise<void>> {
  window.expectOutage();
  window.expectProblem(({ text }) =>
    /Failed to load resource|dynamically imported module|preload CSS/.test(text),
  );
  const later = /\/assets\/(?!first-|index-|rolldown)/;
  await window.page.route(later, async (route) => await route.fulfill({ status: 404 }));
  await window.page.reload();
  await waitUntilLive(window.page);
  return async () => await window.page.unroute(later);
}

const failure = (page: Page) => page.getByRole('alert').filter({ hasText: en.shell.errorTitle });

it('a dialog, a menu and a page that cannot be loaded leave the page usable, and a reload updates it', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open('alice', listOf(flag, 'dev'), { isOwn: true });
  const { page } = window;
  const restore = await loseFiles(window);
  for (const name of [
    en.freshness.chip(en.freshness.states.live),
    en.features.create,
    en.shell.userMenu('alice'),
    en.shell.projectIs('Web shop'),
  ]) {
    await button(page, name).click();
    await failure(page).waitFor();
    await rowOf(page, flag).waitFor();
    await button(failure(page), en.shell.close).click();
  }
  await page.getByRole('link', { name: en.shell.activity }).first().click();
  await page.getByRole('heading', { name: en.shell.errorTitle }).waitFor();
  await page.getByRole('link', { name: en.shell.features }).first().click();
  await rowOf(page, flag).waitFor();

  // Without a server a reload would lose the page.
  await button(page, en.freshness.chip(en.freshness.states.live)).click();
  await window.context.setOffline(true);
  await button(failure(page), en.shell.reload).click();
  await failure(page).getByText(en.errors.unreachable).waitFor();
  await window.context.setOffline(false);
  await restore();
  await button(failure(page), en.shell.reload).click();
  await failure(page).waitFor({ state: 'hidden' });
  await waitUntilLive(page);
  await button(page, en.freshness.chip(en.freshness.states.live)).click();
  await page.getByRole('dialog', { name: en.freshness.title }).waitFor();
});

it('an unknown address is a page that leads to the flags, in the language of the browser', async () => {
  const { fixture } = context;
  const window = await fixture.open('alice', at(webShop, 'dev', 'features'), { language: 'ru-RU' });
  window.expectRefusal(404, '/nope/x');
  const { page } = window;
  const answer = await page.goto('/nope/x');
  expect(answer?.status()).toBe(404);
  await page.getByRole('heading', { name: ru.shell.notFound }).waitFor();
  await page.getByRole('link', { name: ru.shell.goToFlags }).click();
  await page.getByRole('heading', { name: ru.shell.features, level: 1 }).waitFor();
});

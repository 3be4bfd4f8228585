import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { ru } from '../../packages/console/src/i18n/ru.js';
import { button, waitUntilLive, switchOf } from './screen.js';
import { listOf, useConsoleFixture } from './console-fixture.js';

const context = useConsoleFixture();

/** 12:34 in the time zone of the windows. */
const since = '2026-01-02T12:34:56.000Z';

it('the console shows the reason and disables the switches while the server cannot read its database', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open('alice', listOf(flag, 'dev'), { injectsMessages: true });
  const { page } = window;
  await waitUntilLive(page);
  const control = switchOf(page, flag, false);
  expect(await control.isEnabled()).toBe(true);

  window.injectMessage({ type: 'freshness', state: 'stale', since, reason: 'database_unreachable' });
  const reason = en.freshness.staleReasons.database_unreachable;
  await page
    .getByRole('status')
    .getByText(en.freshness.staleBanner(reason, '12:34'), { exact: true })
    .waitFor();
  await expect.poll(async () => await control.isDisabled()).toBe(true);
  const stale = en.freshness.staleSince('12:34');
  await button(page, en.freshness.chip(stale)).click();
  const drawer = page.getByRole('dialog', { name: en.freshness.title });
  await drawer.getByText(`${stale}. ${reason}`, { exact: true }).waitFor();
  await drawer.getByText('12:34', { exact: true }).waitFor();
  await page.keyboard.press('Escape');

  window.injectMessage({ type: 'freshness', state: 'stale', since, reason: 'triggers_missing' });
  await page.getByRole('status').getByText(en.freshness.staleReasons.triggers_missing).waitFor();

  window.injectMessage({ type: 'freshness', state: 'fresh' });
  await waitUntilLive(page);
  await page
    .getByRole('status')
    .getByText(/Accurate as of/)
    .waitFor({ state: 'hidden' });
  await expect.poll(async () => await control.isEnabled()).toBe(true);
  // The connection was never lost.
  await button(page, en.freshness.chip(en.freshness.live)).click();
  const reconnects = drawer.getByRole('row').filter({ hasText: en.freshness.reconnects });
  await reconnects.getByText('0', { exact: true }).waitFor();
});

it('the console shows the stale reason in Russian', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open('alice', listOf(flag, 'dev'), {
    injectsMessages: true,
    language: 'ru-RU',
  });
  const { page } = window;
  await button(page, ru.freshness.chip(ru.freshness.live)).waitFor();
  window.injectMessage({ type: 'freshness', state: 'stale', since, reason: 'read_overdue' });
  const banner = ru.freshness.staleBanner(ru.freshness.staleReasons.read_overdue, '12:34');
  await page.getByRole('status').getByText(banner, { exact: true }).waitFor();
});

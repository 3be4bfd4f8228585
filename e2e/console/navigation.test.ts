import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { ru } from '../../packages/console/src/i18n/ru.js';
import { seedProject } from '../../packages/server/test/database.js';
import { button, field, waitUntilLive, rowOf, switchOf } from './screen.js';
import {
  at,
  billing,
  listOf,
  pageOf,
  useConsoleFixture,
  webShop,
  scrollToEndOfHistory,
} from './console-fixture.js';

const context = useConsoleFixture();

it('a copied link restores filter and order, also after a sign-in', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.change('alice', flag, 'stage', { enabled: true });
  const { page } = await fixture.open(null, `${listOf(flag, 'stage')}&state=on&sort=changed&order=down`);
  await page.getByRole('button', { name: /\balice\b/ }).click();
  await switchOf(page, flag, true).waitFor();
  expect(await page.getByRole('searchbox', { name: en.features.search }).inputValue()).toBe(flag.key);
  const filter = page.getByRole('radiogroup', { name: en.features.filter });
  expect(await filter.getByRole('radio', { name: en.features.on, exact: true }).isChecked()).toBe(true);
  const heading = page.getByRole('columnheader', { name: en.features.lastChange });
  expect(await heading.getAttribute('aria-sort')).toBe('descending');

  // The address has the state of the list, so a reload and Back restore it.
  await filter.getByText(en.features.off, { exact: true }).click();
  await rowOf(page, flag).waitFor({ state: 'hidden' });
  await page.waitForURL(/state=off/);
  await page.reload();
  await page.getByText(en.features.noMatch).waitFor();
  await button(page, en.features.showAll).click();
  await page.getByRole('link', { name: flag.name, exact: true }).click();
  await page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
  expect(new URL(page.url()).pathname).toBe(pageOf(flag, 'stage'));
  await page.goBack();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
});

it('a followed link wins over a pending update of the address by the filter', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', listOf(flag, 'stage'));
  await rowOf(page, flag).waitFor();
  // The flag's page is still loading when the filter updates the address of the list.
  await page.route('**/assets/feature-page-*.js', async (route) => {
    const requestedAtMs = await page.evaluate(() => performance.now());
    await page.waitForFunction((fromMs) => performance.now() > fromMs + 500, requestedAtMs);
    await route.continue();
  });
  await page.getByRole('searchbox', { name: en.features.search }).fill(flag.name);
  await page.getByRole('link', { name: flag.name, exact: true }).click();
  await page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
  expect(new URL(page.url()).pathname).toBe(pageOf(flag, 'stage'));
});

it('the page of an unknown flag or environment says so and links back', async () => {
  const { fixture } = context;
  const { page } = await fixture.open(
    'alice',
    at(webShop, 'dev', 'features/7b1d0a30-0000-4000-8000-00000000dead'),
  );
  await page.getByText(en.feature.notFound).waitFor();
  await page.goto(at(webShop, 'no-such-environment', 'features'));
  await page.getByRole('heading', { name: en.shell.notFound }).waitFor();
  await page.getByRole('link', { name: en.shell.goToFlags }).click();
  await waitUntilLive(page);
});

it('switching the project keeps the current page', async () => {
  const { page } = await context.fixture.open('alice', at(webShop, 'prod', 'activity'));
  await waitUntilLive(page);
  await button(page, en.shell.projectIs('Web shop')).click();
  await page.getByRole('menuitem', { name: 'Billing' }).click();
  await page.waitForURL((url) => url.pathname === at(billing, 'prod', 'activity'));
  await page.getByRole('heading', { name: en.shell.activity, level: 1 }).waitFor();
  await waitUntilLive(page);
});

it('the activity loads older entries while scrolling, down to the first one', async () => {
  const { fixture } = context;
  const { pool } = fixture.database;
  const project = await seedProject(pool, { name: 'Long history' });
  await fixture.addMember(project, 'alice', 'project_owner');
  const flag = await fixture.addFlag(project.projectId);
  await pool.query(
    `INSERT INTO audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, request_id, created_at)
     SELECT $1, $2, $3, 'feature', $3, 'user', 'bob', 'update', '{}', jsonb_build_object('default_value', 'value ' || n), gen_random_uuid(),
       now() - n * interval '1 hour'
     FROM generate_series(1, 180) AS n`,
    [project.projectId, project.environments.dev, flag.id],
  );
  const { page } = await fixture.open('alice', at(project.projectId, 'dev', 'activity'));
  const entries = page.getByRole('listitem');
  await entries.first().waitFor();
  expect(await entries.count()).toBeLessThan(180);
  await scrollToEndOfHistory(page);
  expect(await entries.count()).toBe(180);
  await page.getByText('value 180', { exact: true }).waitFor();
});

it('the console uses the language of the browser, and the one chosen in its menu', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const window = await fixture.open(null, listOf(flag, 'prod'), { language: 'ru-RU' });
  const { page } = window;
  window.expectRefusal(401, '/api/auth/login');
  await field(page, ru.signIn.username).fill('alice');
  await page.getByLabel(ru.signIn.password, { exact: true }).fill('wrong');
  await button(page, ru.signIn.submit).click();
  await page.getByRole('alert').getByText(ru.errors.invalid_login).waitFor();
  await page.getByLabel(ru.signIn.password, { exact: true }).fill('alice-demo');
  await button(page, ru.signIn.submit).click();

  await page.getByRole('heading', { name: ru.shell.features, level: 1 }).waitFor();
  expect(await page.locator('html').getAttribute('lang')).toBe('ru');
  await button(page, ru.freshness.chip(ru.freshness.live)).waitFor();
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'Запуск сегодня' });
  await rowOf(page, flag).getByText(ru.features.pendingBy('bob')).waitFor();

  await button(page, ru.shell.userMenu('alice')).click();
  await page.getByText('English', { exact: true }).click();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await rowOf(page, flag).getByText(en.features.pendingBy('bob')).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  expect(await page.locator('html').getAttribute('lang')).toBe('en');
});

it('the console falls back to English for an invalid browser language', async () => {
  // Without a system language Chromium reports en-US@posix, which is not a valid language tag.
  const { page } = await context.fixture.open('alice', at(webShop, 'dev', 'features'), { language: null });
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await waitUntilLive(page);
  await page.getByRole('navigation').getByRole('link', { name: en.shell.activity }).click();
  await page.locator('.u-over').waitFor();
});

it('the password field is masked, and password managers may fill it', async () => {
  const { page } = await context.fixture.open(null, at(webShop, 'dev', 'features'));
  const password = page.getByLabel(en.signIn.password, { exact: true });
  await password.waitFor();
  expect(await password.getAttribute('type')).toBe('password');
  expect(await password.getAttribute('autocomplete')).toBe('current-password');
});

it('signing out removes the session', async () => {
  const { fixture } = context;
  const { page } = await fixture.open(null, at(webShop, 'dev', 'features'));
  await field(page, en.signIn.username).fill('carol');
  await page.getByLabel(en.signIn.password, { exact: true }).fill('carol-demo');
  await button(page, en.signIn.submit).click();
  await waitUntilLive(page);
  await button(page, en.shell.userMenu('carol')).click();
  await button(page, en.shell.signOut).click();
  await field(page, en.signIn.username).waitFor();
  await page.reload();
  await field(page, en.signIn.username).waitFor();
  await page.getByRole('button', { name: /\bdave\b/ }).click();
  await page.getByRole('heading', { name: en.shell.notFound }).waitFor();
  expect(await page.getByText('Web shop').count()).toBe(0);
});

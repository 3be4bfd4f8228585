import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { seedProject } from '../../packages/server/test/database.js';
import { button, field, waitUntilLive, rowOf, switchOf } from './screen.js';
import { at, listOf, pageOf, useConsoleFixture, webShop, scrollToEndOfHistory } from './console-fixture.js';

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

it('the last change stays in a window of 820 pixels, and no column is cut off', async () => {
  const { page } = await context.fixture.open('alice', at(webShop, 'prod', 'features'));
  await page.setViewportSize({ width: 820, height: 800 });
  await page.getByRole('columnheader', { name: en.features.lastChange }).waitFor();
  const overflow = await page
    .getByRole('rowgroup')
    .evaluate(({ parentElement }) => (parentElement?.scrollWidth ?? 0) - (parentElement?.clientWidth ?? 0));
  expect(overflow).toBe(0);
});

it('Back asks before it leaves an edit, stays on the page, and leaves it when that is confirmed', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', listOf(flag, 'dev'));
  await page.getByRole('link', { name: flag.name, exact: true }).click();
  await waitUntilLive(page);
  const description = field(page, en.fields.description);
  await description.fill('mine');
  const dialog = page.getByRole('dialog', { name: en.shell.leaveTitle });
  // Back again and again is asked again and again.
  for (const _ of [1, 2]) {
    await page.goBack();
    await button(dialog, en.shell.stay).click();
    await dialog.waitFor({ state: 'hidden' });
    expect(new URL(page.url()).pathname).toBe(pageOf(flag, 'dev'));
    expect(await description.inputValue()).toBe('mine');
  }
  await page.goBack();
  await button(dialog, en.shell.leave).click();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await page.goForward();
  expect(await description.inputValue()).toBe('mine');
  await button(page, en.feature.discard).click();
  await page.goBack();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
});

it('Back twice at once asks once, and leaves to where the user wanted to go; a hash leaves nothing', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', at(webShop, 'dev', 'activity'));
  await page.getByRole('link', { name: en.shell.features }).first().click();
  await page.getByRole('searchbox', { name: en.features.search }).fill(flag.key);
  // Until then the row is where it was in the whole list, and moves away from a click.
  await page.getByText(/^1 of \d+ flags$/).waitFor();
  await page.getByRole('link', { name: flag.name, exact: true }).click();
  const description = field(page, en.fields.description);
  await description.fill('mine');
  const dialog = page.getByRole('dialog', { name: en.shell.leaveTitle });
  const stay = async (): Promise<void> => {
    await button(dialog, en.shell.stay).click();
    await dialog.waitFor({ state: 'hidden' });
    expect(new URL(page.url()).pathname).toBe(pageOf(flag, 'dev'));
    expect(await description.inputValue()).toBe('mine');
  };
  const goBackTwice = async (): Promise<void> => {
    await page.evaluate('history.back(); history.back();');
  };
  await goBackTwice();
  await stay();
  // A link within the page leaves nothing.
  await page.getByRole('link', { name: en.shell.skipToContent }).press('Enter');
  expect(await dialog.count()).toBe(0);

  // Nor do hashes that the user adds to the address.
  await page.evaluate('location.hash = "first"');
  await page.evaluate('location.hash = "second"');
  await page.evaluate('history.back()');
  await page.waitForURL((url) => url.hash === '#first');
  expect(await dialog.count()).toBe(0);
  await page.evaluate('history.go(-2)');
  await stay();
  await page.evaluate('history.go(-2)');
  await button(dialog, en.shell.leave).click();
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();

  await page.getByRole('link', { name: flag.name, exact: true }).click();
  await description.waitFor();
  await goBackTwice();
  await button(dialog, en.shell.leave).click();
  await page.getByRole('heading', { name: en.shell.activity, level: 1 }).waitFor();
  expect(new URL(page.url()).pathname).toBe(at(webShop, 'dev', 'activity'));
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

it('the console falls back to English for an invalid browser language', async () => {
  // Without a system language Chromium reports en-US@posix, which is not a valid language tag.
  const { page } = await context.fixture.open('alice', at(webShop, 'dev', 'features'), { language: null });
  await page.getByRole('heading', { name: en.shell.features, level: 1 }).waitFor();
  await waitUntilLive(page);
  await page.getByRole('navigation').getByRole('link', { name: en.shell.activity }).click();
  await page.locator('.u-over').waitFor();
});

import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { button, field, flip, waitUntilLive } from './screen.js';
import { pageOf, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

it('the page of a flag shows all environments live, and another environment keeps the flag', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', pageOf(flag, 'dev'));
  await waitUntilLive(page);
  const strip = page.getByRole('list', { name: en.feature.environments });
  await expect
    .poll(async () => await strip.getByRole('link').allInnerTexts())
    .toEqual(['Development', 'Staging', 'Production']);
  await fixture.change('bob', flag, 'prod', { enabled: true, reason: 'The launch is today' });
  await strip.getByText(en.features.pendingBy('bob')).waitFor();
  const staging = strip.getByRole('switch', { name: en.feature.switchIn(flag.name, 'Staging') });
  await flip(staging);
  await expect.poll(async () => await staging.isChecked()).toBe(true);
  expect(new URL(page.url()).pathname).toBe(pageOf(flag, 'dev'));
  await page.getByText('prod', { exact: true }).first().click();
  await page.waitForURL((url) => url.pathname === pageOf(flag, 'prod'));
  await page.getByRole('heading', { name: flag.name, level: 1 }).waitFor();
  await expect.poll(async () => await staging.isChecked()).toBe(true);
});

it('a conflict appears below its field: what the user types in stays where it is', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { page } = await fixture.open('alice', pageOf(flag, 'dev'), { phone: true });
  await waitUntilLive(page);
  const name = field(page, en.fields.name);
  await name.fill('mine');
  const before = await name.boundingBox();
  await fixture.change('root', flag, 'dev', { name: 'theirs', enabled: true });
  const conflict = page.getByRole('alert').filter({ hasText: en.feature.changedWhileEditing('root') });
  await conflict.waitFor();
  // One line above it says that the state has followed.
  expect(Math.abs(((await name.boundingBox())?.y ?? 0) - (before?.y ?? 0))).toBeLessThan(30);
  await expect(name.inputValue()).resolves.toBe('mine');
  await button(conflict, en.feature.takeTheirs).click();
  await expect(name.inputValue()).resolves.toBe('theirs');
});

it('a browser whose clock is five hours wrong shows schedules and times by the clock of the server, and stays signed in', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.change('alice', flag, 'dev', { enabled: true });
  await fixture.database.pool.query(
    `INSERT INTO feature_schedules (project_id, feature_id, environment_id, ends_at, timezone, action)
     VALUES ($1, $2, $3, now() + interval '1 hour', 'UTC', 'enable')`,
    [webShop, flag.id, await fixture.environmentId('dev')],
  );
  const { page, context: browser } = await fixture.open(null, '/', { isOwn: true });
  await browser.addInitScript(`{
    const Right = Date, now = () => Right.now() + 18_000_000;
    globalThis.Date = class extends Right {
      constructor(...at) { super(...(at.length === 0 ? [now()] : at)); }
      static now() { return now(); }
    };
  }`);
  await page.goto(pageOf(flag, 'dev'));
  await page.getByRole('button', { name: en.signIn.demoUsers.alice }).click();
  const targeting = page.getByRole('region', { name: en.targeting.title });
  await targeting.getByText(/^On now.*Switches off in \d+ minutes/).waitFor();
  await page.getByText(en.feature.onIn('Development'), { exact: true }).waitFor();
  expect(await page.getByText(/5 h ago/).count()).toBe(0);
});

import type { Locator, Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { changeParams } from '../../packages/demo/src/company/flag-target.js';
import { withClient } from '../../packages/server/test/database.js';
import type { ConsoleWindow } from './console-window.js';
import { button, field, flip, waitUntilLive } from './screen.js';
import { type Flag, pageOf, useConsoleFixture, startFixtureServer } from './console-fixture.js';

// With a long polling interval, a change without NOTIFY stays unknown to the server.
const context = useConsoleFixture(
  async (databaseUrl) => await startFixtureServer(databaseUrl, { database: { pollIntervalMs: 3_600_000 } }),
);

async function openForm(flag: Flag): Promise<{ window: ConsoleWindow; page: Page; form: Locator }> {
  const window = await context.fixture.open('alice', pageOf(flag, 'dev'), { isOwn: true });
  const form = window.page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.description).waitFor();
  await waitUntilLive(window.page);
  return { window, page: window.page, form };
}

it('a save based on an old version is refused, shows the conflict and overwrites nothing', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  const { window, page, form } = await openForm(flag);
  window.expectRefusal(409, flag.id);
  await flip(form.getByRole('switch'));
  await form.getByRole('switch', { checked: true }).waitFor();
  const environmentId = await fixture.environmentId('dev');
  // Committed while the save is on its way, so the console cannot know it when the user saves.
  let isFirst = true;
  await page.route(`**/api/features/${flag.id}*`, async (route) => {
    if (route.request().method() === 'PATCH' && isFirst) {
      isFirst = false;
      await withClient(fixture.database.url, async (client) => {
        await client.query('BEGIN');
        await changeParams(
          client,
          { projectId: flag.projectId, featureId: flag.id, environmentId },
          { enabled: true, default_value: 'theirs' },
          { username: 'root', requestId: '7b1d0a30-0000-4000-8000-000000000001' },
        );
        await client.query('COMMIT');
      });
    }
    await route.continue();
  });
  await field(form, en.feature.valueIn('Development')).fill('mine');
  await button(form, en.feature.save).click();

  const alert = page.getByRole('alert').filter({ hasText: en.feature.changedWhileEditing('root') });
  await alert.getByText('mine', { exact: true }).waitFor();
  await alert.getByText('theirs', { exact: true }).waitFor();
  const read = async (): Promise<unknown> => {
    const { feature } = (await fixture.request('root', 'GET', `/api/features/${flag.id}?env=dev`)) as {
      feature: { default_value: string };
    };
    return feature.default_value;
  };
  expect(await read()).toBe('theirs');
  await button(alert, en.feature.keepMine).click();
  await button(form, en.feature.save).click();
  await page.getByText(en.feature.saved, { exact: true }).waitFor();
  expect(await read()).toBe('mine');
});

import type { Locator, Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/texts/en.js';
import { changeParams } from '../../packages/demo/src/company/flag-target.js';
import { withClient } from '../../packages/server/test/database.js';
import type { ConsoleWindow } from './console-window.js';
import { button, field, flip, isLive } from './screen.js';
import { type Flag, pageOf, setStage, startStageServer } from './stage.js';

// Nothing is read before something wakes the reader, so that a change can be kept from the screens.
const set = setStage(
  async (databaseUrl) => await startStageServer(databaseUrl, { pollIntervalMs: 3_600_000 }),
);

async function openForm(flag: Flag): Promise<{ window: ConsoleWindow; page: Page; form: Locator }> {
  const window = await set.stage.open('alice', pageOf(flag, 'dev'));
  const form = window.page.getByRole('form', { name: en.feature.details });
  await field(form, en.fields.description).waitFor();
  await isLive(window.page);
  return { window, page: window.page, form };
}

it('who edits sees at once what somebody else changes, field by field, and keeps their own', async () => {
  const { stage } = set;
  const flag = await stage.addFlag();
  const { page, form } = await openForm(flag);
  await field(form, en.fields.description).fill('What alice thinks');
  await stage.change('root', flag, 'dev', { description: 'What root thinks', name: `${flag.name}, renamed` });

  const alert = page.getByRole('alert').filter({ hasText: en.feature.changedMeanwhile('root') });
  await alert.waitFor();
  await alert.getByText('What alice thinks').waitFor();
  await alert.getByText('What root thinks').waitFor();
  // Nobody edited the name here: it follows.
  await expect.poll(async () => await field(form, en.fields.name).inputValue()).toBe(`${flag.name}, renamed`);
  expect(await field(form, en.fields.description).inputValue()).toBe('What alice thinks');
  expect(await button(form, en.feature.save).isDisabled()).toBe(true);

  await button(alert, en.feature.keepMine).click();
  await button(form, en.feature.save).click();
  await page.getByText(en.feature.saved, { exact: true }).waitFor();
  const { feature } = (await stage.ask('root', 'GET', `/api/features/${flag.id}?env=dev`)) as {
    feature: object;
  };
  expect(feature).toMatchObject({ description: 'What alice thinks', name: `${flag.name}, renamed` });
});

it('who takes theirs has theirs, and nothing left to save', async () => {
  const { stage } = set;
  const flag = await stage.addFlag();
  const { page, form } = await openForm(flag);
  await field(form, en.fields.description).fill('What alice thinks');
  await stage.change('root', flag, 'dev', { description: 'What root thinks' });
  const alert = page.getByRole('alert').filter({ hasText: en.feature.changedMeanwhile('root') });
  await button(alert, en.feature.takeTheirs).click();
  expect(await field(form, en.fields.description).inputValue()).toBe('What root thinks');
  expect(await button(form, en.feature.save).isDisabled()).toBe(true);
});

it('a save that is based on what is no longer there is refused with the same view, and nothing is overwritten', async () => {
  const { stage } = set;
  const flag = await stage.addFlag();
  const { window, page, form } = await openForm(flag);
  window.forgiveRefusal(409, flag.id);
  await flip(form.getByRole('switch'));
  await form.getByRole('switch', { checked: true }).waitFor();
  const environments = await stage.database.pool.query<{ id: string }>(
    `SELECT id::text AS id FROM environments WHERE project_id = $1 AND key = 'dev'`,
    [flag.projectId],
  );
  // Committed without a word, by a program that does not tell: the screen cannot know it yet.
  await withClient(stage.database.url, async (client) => {
    await client.query(`SET flagcast.notify = 'off'`);
    await client.query('BEGIN');
    await changeParams(
      client,
      { projectId: flag.projectId, featureId: flag.id, environmentId: environments.rows[0]?.id ?? '' },
      { enabled: true, default_value: 'theirs' },
      { username: 'root', requestId: '7b1d0a30-0000-4000-8000-000000000001' },
    );
    await client.query('COMMIT');
  });
  await field(form, en.feature.valueIn('Development')).fill('mine');
  await button(form, en.feature.save).click();

  const alert = page.getByRole('alert').filter({ hasText: en.feature.changedMeanwhile('root') });
  await alert.getByText('mine', { exact: true }).waitFor();
  await alert.getByText('theirs', { exact: true }).waitFor();
  const read = async (): Promise<unknown> => {
    const { feature } = (await stage.ask('root', 'GET', `/api/features/${flag.id}?env=dev`)) as {
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

it('a flag that is deleted while somebody edits it says by whom, and takes nothing any more', async () => {
  const { stage } = set;
  const flag = await stage.addFlag();
  const { page, form } = await openForm(flag);
  await field(form, en.fields.description).fill('What alice thinks');
  const { feature } = (await stage.ask('alice', 'GET', `/api/features/${flag.id}?env=prod`)) as {
    feature: { version: string };
  };
  const { pending_change: change } = (await stage.ask('alice', 'DELETE', `/api/features/${flag.id}`, {
    env: 'prod',
    version: feature.version,
    reason: 'Nobody asks for it any more',
  })) as { pending_change: { id: string } };
  await stage.ask('root', 'POST', `/api/pending-changes/${change.id}/approve`);
  await page
    .getByRole('alert')
    .filter({ hasText: en.feature.deletedBy('root') })
    .waitFor();
  expect(await button(form, en.feature.save).count()).toBe(0);
});

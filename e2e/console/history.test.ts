import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { waitUntilLive, visit } from './screen.js';
import { at, type Flag, pageOf, type Person, useConsoleFixture, webShop } from './console-fixture.js';

const context = useConsoleFixture();

/** Requests a change in prod with the reason. */
async function request(person: Person, flag: Flag, reason: string, enabled = true): Promise<string> {
  const { pending_change: change } = (await context.fixture.change(person, flag, 'prod', {
    enabled,
    reason,
  })) as { pending_change: { id: string } };
  return change.id;
}

async function decide(person: Person, id: string, step: string, body?: object): Promise<void> {
  await context.fixture.decide(person, id, step, body);
}

/** Returns action and user of each history entry of the flag on the page, newest first. */
async function readHistory(page: Page, flag: Flag): Promise<string[]> {
  const lines = page.locator('.fc-entry').filter({ hasText: flag.name });
  return await lines.evaluateAll((elements) =>
    elements.map(
      (element) =>
        `${element.getAttribute('data-action') ?? ''} ${element.querySelector('strong')?.textContent ?? ''}`,
    ),
  );
}

it('the history shows past and live steps of requests, each once', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await decide('alice', await request('bob', flag, 'First try'), 'reject', { reason: 'Not before Monday' });
  await decide('bob', await request('bob', flag, 'Second try'), 'cancel');

  const { page } = await fixture.open('root', at(webShop, 'prod', 'activity'));
  await waitUntilLive(page);
  const shows = async (lines: readonly string[]): Promise<void> =>
    await expect.poll(async () => await readHistory(page, flag)).toEqual(lines);
  const past = ['cancelled bob', 'pending bob', 'rejected alice', 'pending bob'];
  await shows(past);
  const lines = page.getByRole('listitem').filter({ hasText: flag.name });
  await lines.filter({ hasText: en.actions.rejected }).getByText('Not before Monday').waitFor();

  const third = await request('bob', flag, 'Third try');
  await shows(['pending bob', ...past]);
  await decide('alice', third, 'approve');
  // Details that the event lacks are loaded with the history; a duplicate entry would show now.
  await lines.getByText('Third try').waitFor();
  const approved = ['approved alice', 'updated alice', 'pending bob', ...past];
  await shows(approved);

  await decide('bob', await request('bob', flag, 'Fourth try', false), 'cancel');
  const cancelled = ['cancelled bob', 'pending bob', ...approved];
  await lines.getByText('Fourth try').waitFor();
  await shows(cancelled);
  await fixture.takePictures('history-live');
  await page.reload();
  await shows(cancelled);
  expect(await lines.getByText(en.activity.timeUnknown).count()).toBe(0);

  await page.getByRole('combobox', { name: en.activity.personFilter }).fill('alice');
  await shows(['approved alice', 'updated alice', 'rejected alice']);
  await visit(page, pageOf(flag, 'prod'));
  const history = page.getByRole('region', { name: en.feature.history });
  await expect.poll(async () => await history.getByRole('listitem').count()).toBe(cancelled.length);
  await fixture.takePictures('history-flag');
});

it('an entry with a value that is too large says so', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await fixture.database.pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value)
     SELECT f.project_id, e.id, f.id, 'feature', f.id, 'user', 'alice', 'update',
       jsonb_build_object('text', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100000) AS n))
     FROM features f JOIN environments e ON e.project_id = f.project_id AND e.key = 'prod' WHERE f.id = $1`,
    [flag.id],
  );
  const { page } = await fixture.open('root', pageOf(flag, 'prod'));
  const note = page.getByRole('region', { name: en.feature.history }).getByText(en.activity.truncated);
  await note.waitFor();
  // Not in the column of the pictures.
  expect((await note.boundingBox())?.width).toBeGreaterThan(100);
});

import { readFile } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { en } from '../../packages/console/src/i18n/en.js';
import { at, type Flag, useConsoleFixture, webShop } from './console-fixture.js';
import { button } from './screen.js';

const context = useConsoleFixture();
const entries = (page: Page) => page.locator('.fc-entry');

/** Writes entries of the flag in stage, a minute apart from noon of this day on. */
async function write(flag: Flag, count: number, day: string): Promise<void> {
  await context.fixture.database.pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value, created_at)
     SELECT $1, $2, $3, 'feature', $3, 'user', 'user ' || n % 2, 'update', jsonb_build_object('default_value', n),
       ($4 || 'T12:00:00Z')::timestamptz + n * interval '1 minute' FROM generate_series(0, $5::int - 1) AS n`,
    [flag.projectId, await context.fixture.environmentId('stage'), flag.id, day, count],
  );
}

/** Chooses an option of a filter. */
async function choose(page: Page, filter: string, option: string): Promise<void> {
  await page.getByRole('combobox', { name: filter }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
}

it('the filters are in the address, and the chart follows them and selects a range', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await write(flag, 60, '2026-03-02');
  const { page } = await fixture.open('alice', at(webShop, 'stage', 'activity'));
  await page.getByRole('combobox', { name: en.activity.flagFilter }).fill(flag.name);
  await page.getByRole('option', { name: flag.name }).click();
  await choose(page, en.activity.timeFilter, en.activity.ranges.custom);
  await page.getByLabel(en.activity.from, { exact: true }).fill('2026-03-02T12:00');
  await page.getByLabel(en.activity.to, { exact: true }).fill('2026-03-02T13:00');
  const chart = (count: number, range: string) =>
    page.getByRole('img', { name: `${en.activity.events(count)} · ${range}` });
  await chart(60, '12:00:00 – 13:00:00').waitFor();
  await page.getByRole('combobox', { name: en.activity.personFilter }).fill('user 1');
  await chart(30, '12:00:00 – 13:00:00').waitFor();

  const box = (await page.locator('.fc-plot .u-over').boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
  const drag = async (from: number, to: number): Promise<void> => {
    await page.mouse.move(box.x + box.width * from, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * to, box.y + 30, { steps: 4 });
    await page.mouse.up();
  };
  await page.mouse.move(box.x + (box.width * 1.5) / 60, box.y + 20);
  await page.getByText(`${en.activity.events(1)} · 12:01:00 – 12:02:00`).waitFor();
  await drag(0.502, 0.748);
  await chart(7, '12:30:00 – 12:45:00').waitFor();
  await expect.poll(async () => await entries(page).count()).toBe(7);
  const range = { since: '2026-03-02T12:30:00.000Z', until: '2026-03-02T12:45:00.000Z' };
  await expect
    .poll(() => Object.fromEntries(new URL(page.url()).searchParams))
    .toEqual({ feature_id: flag.id, username: 'user 1', ...range });
  await page.reload();
  await chart(7, '12:30:00 – 12:45:00').waitFor();
  await fixture.takePictures('activity-range');

  await choose(page, en.activity.actionFilter, en.actions.deleted);
  await page.getByText(en.activity.noMatch).waitFor();
  expect(await page.getByText(en.activity.end).count()).toBe(0);
  await button(page, en.activity.clearFilters).click();
  await expect.poll(() => new URL(page.url()).search).toBe('');
});

const exportsAs = async (page: Page, format: string): Promise<void> => {
  await button(page, en.activity.export).click();
  await page.getByRole('menuitem', { name: format, exact: true }).click();
};

it('an export goes to the file that the user chooses, and no token is in an address', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await write(flag, 700, '2026-02-02');
  const { page } = await fixture.open('alice', '/healthz', { isOwn: true });
  const addresses: string[] = [];
  page.on('request', (request) => addresses.push(request.url()));
  // The dialog of the browser cannot be operated: the file is in the page's own file system instead.
  await page.addInitScript(() => {
    Object.assign(window, {
      showSaveFilePicker: async ({ suggestedName }: { suggestedName: string }) =>
        await (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true }),
    });
  });
  const range = `feature_id=${flag.id}&since=2026-02-02T00:00:00Z&until=2026-02-03T00:00:00Z`;
  await page.goto(at(webShop, 'stage', `activity?${range}`));
  await exportsAs(page, 'NDJSON');
  await page.getByText(en.activity.exported).waitFor();
  const name = 'audit-Web-shop-stage.ndjson';
  const saved = await page.evaluate(async (fileName) => {
    const file = await (await navigator.storage.getDirectory()).getFileHandle(fileName);
    return await (await file.getFile()).text();
  }, name);
  expect(saved.trimEnd().split('\n')).toHaveLength(700);
  const token = await page.evaluate(() => sessionStorage.getItem('flagcast.token') ?? '');
  expect(addresses.some((address) => address.includes('/api/audit/export'))).toBe(true);
  for (const address of addresses) expect(address).not.toContain(token.split('.')[1] || 'token');
});

it('without a file picker an export is a download, and one that breaks off saves nothing and says so', async () => {
  const { fixture } = context;
  const flag = await fixture.addFlag();
  await write(flag, 20, '2026-02-04');
  const window = await fixture.open('alice', '/healthz', { isOwn: true });
  const { page } = window;
  await page.addInitScript(() => Reflect.deleteProperty(globalThis, 'showSaveFilePicker'));
  const range = `feature_id=${flag.id}&since=2026-02-04T00:00:00Z&until=2026-02-05T00:00:00Z`;
  await page.goto(at(webShop, 'stage', `activity?${range}`));
  const downloaded = page.waitForEvent('download');
  await exportsAs(page, 'CSV');
  const download = await downloaded;
  expect(download.suggestedFilename()).toBe(
    'audit-Web-shop-stage-2026-02-04T00-00-00Z-to-2026-02-05T00-00-00Z.csv',
  );
  const file = await readFile(await download.path(), 'utf8');
  expect(file.trimEnd().split('\r\n')).toHaveLength(21);
  await page.getByText(en.activity.exported).waitFor();

  // More than the buffers of the connection hold, older than what the page shows; the table goes away in the middle.
  await fixture.database.pool.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, new_value, created_at)
     SELECT $1, $2, gen_random_uuid(), 'feature', gen_random_uuid(), 'user', 'large', 'update',
       jsonb_build_object('text', repeat(n::text || ' ', CASE WHEN n <= 100 THEN 1 ELSE 10000 END)), now() - n * interval '1 minute'
     FROM generate_series(1, 500) AS n`,
    [flag.projectId, await fixture.environmentId('dev')],
  );
  await page.goto(at(webShop, 'dev', 'activity?username=large'));
  await entries(page).first().waitFor();
  // If the server notices in time that the table is gone, it has no snapshots either: 503.
  window.expectProblem(({ text }) => /ERR_INCOMPLETE_CHUNKED_ENCODING|status of 50[13]/.test(text));
  await exportsAs(page, 'JSON');
  await page.getByRole('button', { name: /^Cancel export \([1-9]/ }).waitFor();
  await fixture.database.pool.query('ALTER TABLE audit_log RENAME TO lost_log');
  await page.getByText(en.activity.exportFailed).waitFor();
  await fixture.database.pool.query('ALTER TABLE lost_log RENAME TO audit_log');
});

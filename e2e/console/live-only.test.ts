import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { builtPagesDir } from '../../packages/console/server/console-files.js';
import { en } from '../../packages/console/src/i18n/en.js';
import { sign } from '../../packages/server/test/access-tokens.js';
import { createTestDatabase, type TestDatabase } from '../../packages/server/test/database.js';
import { startTestServer, type TestServer, testSecret } from '../../packages/server/test/server.js';
import { findAxeViolations } from './accessibility.js';
import { ConsoleWindow, sharedChromium } from './console-window.js';
import { button, visit } from './screen.js';
import { at } from './console-fixture.js';

let database: TestDatabase;
let server: TestServer;
let window: ConsoleWindow;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'none' });
  await database.pool.query(`
    CREATE TABLE changes (
      id bigserial PRIMARY KEY, team text, flag text, verb text, author text, at timestamptz NOT NULL DEFAULT now()
    );
    CREATE VIEW v_realtime_events AS
      SELECT 'audit' AS source, id AS event_id, team AS project_id, 'live' AS environment_id,
        'prod' AS environment_key, 'feature' AS entity, flag AS entity_id, verb AS action, at AS created_at,
        author AS actor
      FROM changes`);
  server = await startTestServer(database.url, {
    console: { pagesDir: builtPagesDir },
    database: { view: 'v_realtime_events', pollIntervalMs: 50, overlapMs: 45_000 },
    auth: {
      secret: testSecret,
      authorize: (userIds) =>
        Promise.resolve(
          userIds.map((userId) => ({
            userId,
            projectId: 'checkout-team',
            environmentId: 'live',
            environmentKey: 'prod',
            projectName: 'Checkout',
          })),
        ),
    },
  });
});

afterEach(async () => {
  expect(await window.close(), 'problems reported by the browser').toEqual([]);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function open(): Promise<ConsoleWindow> {
  const claims = { sub: 'ada', exp: Math.floor(Date.now() / 1_000) + 600 };
  const token = await sign(claims, Buffer.from(testSecret));
  window = await ConsoleWindow.open(await sharedChromium(), server.httpUrl, token);
  // Chromium reports these responses in its console.
  window.expectRefusal(501, '/api/');
  return window;
}

async function change(flag: string, verb = 'updated'): Promise<void> {
  await database.pool.query(
    `INSERT INTO changes (team, flag, verb, author) VALUES ('checkout-team', $1, $2, 'grace')`,
    [flag, verb],
  );
}

it('every page says that the database has live events only, with what guarantee, and shows the events', async () => {
  const { page } = await open();
  const requested: string[] = [];
  page.on('request', (request) => {
    const { pathname, searchParams } = new URL(request.url());
    // Ignores the requests of the chart.
    if (!searchParams.has('since')) requested.push(pathname);
  });
  const link = (name: string) => page.getByRole('navigation').getByRole('link', { name }).first();
  const notice = page.getByText(en.liveOnly.title, { exact: true });

  await page.goto(at('checkout-team', 'prod', 'features'));
  await notice.waitFor();
  expect(await findAxeViolations(page)).toEqual([]);
  await link(en.shell.approvals).click();
  await page.getByRole('heading', { name: en.shell.approvals, level: 1 }).waitFor();
  await notice.waitFor();
  await page.getByRole('link', { name: en.liveOnly.activity, exact: true }).click();
  await page.getByRole('heading', { name: en.shell.activity, level: 1 }).waitFor();
  await page.getByText(en.liveOnly.sinceOpened).waitFor();

  for (let count = 1; count <= 8; count += 1) {
    await change(`flag-${count}`, count === 8 ? 'deleted' : 'updated');
    const line = page.getByRole('listitem').filter({ hasText: `flag-${count}` });
    await line.getByText('grace', { exact: true }).waitFor();
    await line.getByText(count === 8 ? en.actions.deleted : en.actions.updated).waitFor();
  }
  expect(await findAxeViolations(page)).toEqual([]);
  expect(await page.getByRole('alert').count()).toBe(0);
  expect(await page.getByRole('status').getByText(/./).count()).toBe(0);
  expect(await page.getByRole('status', { name: en.shell.loading }).count()).toBe(0);
  // The page repeats neither refused requests nor the empty snapshots of the channel and the approvals.
  const times = (path: string): number => requested.filter((each) => each === path).length;
  expect(times('/api/snapshot')).toBe(2);
  expect(times('/api/audit')).toBe(1);

  const note = en.freshness.overlapNote(45);
  await button(page, en.freshness.chip(`${en.freshness.states.live} ${note}`)).click();
  const drawer = page.getByRole('dialog', { name: en.freshness.title });
  const { overlap, reasons } = en.freshness;
  await drawer.getByText(`${overlap(45)} ${reasons.view}`, { exact: true }).waitFor();

  await visit(page, at('checkout-team', 'prod', 'features/flag-1'));
  await notice.waitFor();
});

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from '../packages/server/test/database.js';
import { createUser, startTestServer, type TestServer } from '../packages/server/test/server.js';
import { sharedChromium } from './console/console-window.js';

/** A page that shows the events and the status of a channel. */
const pageScript = `
import { createClient } from '@flagcast/client';
import { sharedTabs } from '@flagcast/client/tabs';

const { token, userId, projectId } = Object.fromEntries(new URLSearchParams(location.search));
const client = createClient({ url: '/', getToken: () => token, shareTabs: sharedTabs({ userId }) });
const channel = client.channel({ projectId, env: 'prod' });
const show = () => (document.querySelector('output').textContent = channel.getState().status.state);
channel.subscribe(show);
channel.onEvent(({ entity_id }) => {
  document.querySelector('ol').append(Object.assign(document.createElement('li'), { textContent: entity_id }));
});
`;

let browser: Browser;
let database: TestDatabase;
let server: TestServer;
let script: string;
let project: SeededProject;
/** Number of open connections of the server. */
let open = 0;
/** Number of connections since the start. */
let opened = 0;

beforeAll(async () => {
  [browser, database] = await Promise.all([sharedChromium(), createTestDatabase({ schema: 'tables' })]);
  server = await startTestServer(database.url);
  server.flagcast.lifecycle.on('connection:opened', () => {
    open += 1;
    opened += 1;
  });
  server.flagcast.lifecycle.on('connection:closed', () => (open -= 1));
  project = await seedProject(database.pool);
  const bundle = await build({
    stdin: { contents: pageScript, resolveDir: path.dirname(fileURLToPath(import.meta.url)) },
    bundle: true,
    format: 'esm',
    write: false,
  });
  script = bundle.outputFiles[0]?.text ?? '';
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

/** Opens a browser context in which the server's origin serves the page. */
async function openBrowser(): Promise<BrowserContext> {
  const context = await browser.newContext({ baseURL: server.httpUrl });
  onTestFinished(async () => await context.close());
  await context.route('**/page?*', async (route) => {
    const body = `<!doctype html><title>page</title><output></output><ol></ol><script type="module" src="/page.js"></script>`;
    await route.fulfill({ contentType: 'text/html', body });
  });
  await context.route('**/page.js', async (route) => {
    await route.fulfill({ contentType: 'text/javascript', body: script });
  });
  return context;
}

async function openTab(context: BrowserContext, token: string, userId: string): Promise<Page> {
  const page = await context.newPage();
  const { projectId } = project;
  await page.goto(`/page?${new URLSearchParams({ token, userId, projectId }).toString()}`);
  await page.getByText('live', { exact: true }).waitFor();
  return page;
}

/** Writes an event, and waits until the page shows it. */
async function writeEvent(...pages: readonly Page[]): Promise<string> {
  const { entityId } = await insertAudit(database.pool, {
    projectId: project.projectId,
    environmentId: project.environments.prod,
  });
  for (const page of pages) await page.getByText(entityId).waitFor();
  return entityId;
}

it('the tabs of a browser share one connection, and another tab takes over when the leading one is closed', async () => {
  const { token } = await createUser(database.pool, 'erin', { superuser: true, ttlMs: 600_000 });
  const context = await openBrowser();
  const before = opened;
  const first = await openTab(context, token, 'erin');
  const second = await openTab(context, token, 'erin');
  const third = await openTab(context, token, 'erin');
  expect(opened - before).toBe(1);
  const events = [await writeEvent(first, second, third), await writeEvent(first, second, third)];

  await first.close();
  // Every event written during the takeover arrives once.
  for (let count = 0; count < 5; count += 1) events.push(await writeEvent());
  events.push(await writeEvent(second, third));
  await second.close();
  events.push(await writeEvent(third));
  expect(await third.getByRole('listitem').allTextContents()).toEqual(events);
  expect(opened - before).toBe(3);
  expect(open).toBe(1);
});

it('tabs of different users do not share a connection', async () => {
  const { token } = await createUser(database.pool, 'frank', { superuser: true, ttlMs: 600_000 });
  const { token: other } = await createUser(database.pool, 'grace', { superuser: true, ttlMs: 600_000 });
  const context = await openBrowser();
  const before = opened;
  const tabs = [await openTab(context, token, 'frank'), await openTab(context, other, 'grace')];
  expect(opened - before).toBe(2);
  await writeEvent(...tabs);
});

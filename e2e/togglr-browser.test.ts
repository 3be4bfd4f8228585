import { builtPagesDir } from '../packages/console/server/console-files.js';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from '../packages/server/test/database.js';
import { createUser, startTestServer, type TestServer, testSecret } from '../packages/server/test/server.js';
import { sharedChromium } from './console/console-window.js';

let browser: Browser;
let database: TestDatabase;
let server: TestServer;
let page: Page;
let project: SeededProject;
let token: string;

beforeAll(async () => {
  [browser, database] = await Promise.all([sharedChromium(), createTestDatabase({ schema: 'tables' })]);
  server = await startTestServer(database.url, {
    console: { pagesDir: builtPagesDir },
    eventTypes: 'togglr',
    auth: { secret: testSecret, allowQueryToken: true },
    database: { pollIntervalMs: 50 },
  });
  project = await seedProject(database.pool);
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  page = await browser.newPage();
  await page.goto(server.httpUrl);
});

afterAll(async () => {
  await page.close();
  await server.close();
  await database.drop();
});

interface Attempt {
  /** The first message, or the close. */
  readonly outcome: string;
  /** The selected subprotocol. */
  readonly protocol: string;
}

/** Opens a WebSocket in the page and writes an event. */
async function attempt(query: Record<string, string>, protocols: string[]): Promise<Attempt> {
  const channel = { project_id: project.projectId, env_id: project.environments.prod, ...query };
  const url = `${server.wsUrl}?${new URLSearchParams(channel).toString()}`;
  await page.evaluate(
    ([address, offered]) => {
      const socket = new WebSocket(address, offered);
      const outcome = new Promise<string>((resolve) => {
        socket.onmessage = ({ data }) => resolve(String(data));
        socket.onclose = ({ code }) => resolve(`closed with ${code}`);
      });
      const opened = new Promise<void>((resolve) => {
        socket.onopen = () => resolve();
        socket.onerror = () => resolve();
      });
      Object.assign(globalThis, { attempt: { socket, outcome, opened } });
    },
    [url, protocols] as const,
  );
  await page.evaluate('attempt.opened');
  await insertAudit(database.pool, {
    projectId: project.projectId,
    environmentId: project.environments.prod,
  });
  const result = await page.evaluate<Attempt>(
    'attempt.outcome.then((outcome) => ({ outcome, protocol: attempt.socket.protocol }))',
  );
  await page.evaluate('attempt.socket.close()');
  return result;
}

const event = expect.stringContaining('"type":"feature_update"') as string;

it("a browser connects with its token in the query string, like Togglr's web client", async () => {
  expect(await attempt({ token }, [])).toStrictEqual({ outcome: event, protocol: '' });
});

it.each(['token', 'bearer'])('a browser connects with flagcast.plain and %s.<token>', async (name) => {
  const offered = ['flagcast.plain', `${name}.${token}`];
  expect(await attempt({}, offered)).toStrictEqual({ outcome: event, protocol: 'flagcast.plain' });
});

it('a browser that offers only its token fails, because the server does not select a token as the subprotocol', async () => {
  expect(await attempt({}, [`token.${token}`])).toStrictEqual({ outcome: 'closed with 1006', protocol: '' });
});

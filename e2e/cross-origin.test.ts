import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Browser, Page, Request } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from '../packages/server/test/database.js';
import { createUser, startTestServer, type TestServer } from '../packages/server/test/server.js';
import { sharedChromium } from './console/console-window.js';

/** A page that uses the client like its README, on another web server than Flagcast. */
const pageScript = `
import { createClient } from '@flagcast/client';

const params = new URLSearchParams(location.search);
const [url, token] = [params.get('url'), params.get('token')];
const client = createClient({ url, getToken: () => token });
for (const projectId of params.getAll('projectId')) {
  const output = document.body.appendChild(document.createElement('output'));
  const channel = client.channel({ projectId, env: 'prod' });
  channel.subscribe(() => {
    const { status, features } = channel.getState();
    const lines = [...features.values()].map(({ key, enabled }) => key + ': ' + (enabled ? 'on' : 'off'));
    output.textContent = [status.state, ...lines].join(', ');
  });
}
`;
const pageText = '<!doctype html><title>page</title><body><script type="module" src="/page.js"></script>';

let browser: Browser;
let database: TestDatabase;
let server: TestServer;
let project: SeededProject;
let token: string;
/** Two web servers of the same page: one origin is allowed, the other is not. */
const hosts: Server[] = [];
let allowedOrigin: string;
let otherOrigin: string;

beforeAll(async () => {
  [browser, database] = await Promise.all([sharedChromium(), createTestDatabase({ schema: 'tables' })]);
  const bundle = await build({
    stdin: { contents: pageScript, resolveDir: path.dirname(fileURLToPath(import.meta.url)) },
    bundle: true,
    format: 'esm',
    write: false,
  });
  const script = bundle.outputFiles[0]?.text ?? '';
  const serve = async (): Promise<string> => {
    const host = createServer(({ url }, response) => {
      response.setHeader(
        'Content-Security-Policy',
        `connect-src ${server.httpUrl} ${new URL(server.wsUrl).origin}`,
      );
      response.setHeader('Content-Type', url === '/page.js' ? 'text/javascript' : 'text/html');
      response.end(url === '/page.js' ? script : pageText);
    });
    hosts.push(host);
    await once(host.listen(0, '127.0.0.1'), 'listening');
    return `http://127.0.0.1:${(host.address() as AddressInfo).port}`;
  };
  [allowedOrigin, otherOrigin] = await Promise.all([serve(), serve()]);
  server = await startTestServer(database.url, { network: { allowedOrigins: [allowedOrigin] } });
  project = await seedProject(database.pool);
  ({ token } = await createUser(database.pool, 'erin', { superuser: true, ttlMs: 600_000 }));
});

afterAll(async () => {
  await server.close();
  for (const host of hosts) {
    host.closeAllConnections();
    host.close();
  }
  await database.drop();
});

async function createFeature(key: string, projectId = project.projectId): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     VALUES (gen_random_uuid(), $1, $2, 'A', 'simple') RETURNING id::text`,
    [projectId, key],
  );
  return String(rows[0]?.id);
}

/** Opens a blank page; without WebSockets the client uses server-sent events. */
async function openPage(transport: string): Promise<Page> {
  const page = await browser.newPage();
  onTestFinished(async () => await page.close());
  if (transport === 'server-sent events') await page.addInitScript('delete globalThis.WebSocket');
  return page;
}

function addressOn(origin: string, projectIds = [project.projectId]): string {
  const query = new URLSearchParams([
    ['url', server.httpUrl],
    ['token', token],
    ...projectIds.map((id) => ['projectId', id]),
  ]);
  return `${origin}/?${query.toString()}`;
}

/** Returns the status of a request of the page, or its error. */
async function read(page: Page, address: string): Promise<string> {
  return await page.evaluate(
    async ([url, bearer]) => {
      try {
        const response = await fetch(String(url), { headers: { Authorization: `Bearer ${bearer}` } });
        return String(response.status);
      } catch (error) {
        return String(error);
      }
    },
    [server.httpUrl + address, token],
  );
}

describe.each(['WebSocket', 'server-sent events'])('over %s', (transport) => {
  it('a page of an allowed origin gets a snapshot and live events', async () => {
    const key = `followed-by-${transport.replace(' ', '-')}`;
    const featureId = await createFeature(key);
    onTestFinished(async () => void (await database.pool.query('DELETE FROM features')));
    const page = await openPage(transport);
    await page.goto(addressOn(allowedOrigin));
    await page.getByText(`live, ${key}: off`, { exact: true }).waitFor();

    await database.pool.query('UPDATE feature_params SET enabled = true WHERE feature_id = $1', [featureId]);
    await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
      featureId,
    });
    await page.getByText(`live, ${key}: on`, { exact: true }).waitFor();

    expect(await read(page, `/api/features?project_id=${project.projectId}&env=prod`)).toBe('200');
    // The page can read errors as well.
    expect(await read(page, '/api/snapshot')).toBe('400');
  });

  it('the same page of another origin gets nothing', async () => {
    const page = await openPage(transport);
    const failed =
      transport === 'WebSocket'
        ? page.waitForEvent('websocket').then(async (socket) => await socket.waitForEvent('socketerror'))
        : page.waitForEvent('requestfailed', (request) => request.url().startsWith(server.httpUrl));
    await page.goto(addressOn(otherOrigin));
    await failed;
    for (const address of ['/api/snapshot', '/api/projects', '/api/openapi.json', '/api/auth/mode']) {
      expect(await read(page, address)).toBe('TypeError: Failed to fetch');
    }
    expect(await page.locator('output').textContent()).toMatch(/^(connecting)?$/);
  });
});

it('a page without WebSockets follows seven channels over one stream, and its other requests are answered', async () => {
  const projects: SeededProject[] = [];
  while (projects.length < 7) projects.push(await seedProject(database.pool));
  const page = await openPage('server-sent events');
  let open = 0;
  const count = (change: number) => (request: Request) => {
    if (request.url().endsWith('/api/events') && request.method() === 'POST') open += change;
  };
  page.on('request', count(1));
  page.on('requestfinished', count(-1));
  page.on('requestfailed', count(-1));
  await page.goto(
    addressOn(
      allowedOrigin,
      projects.map(({ projectId }) => projectId),
    ),
  );
  const live = page.locator('output', { hasText: 'live' });
  await live.nth(6).waitFor();
  expect(open).toBe(1);
  expect(await read(page, '/api/projects')).toBe('200');
  for (const { projectId, environments } of projects) {
    const featureId = await createFeature(`seventh-of-${projectId}`, projectId);
    await insertAudit(database.pool, { projectId, environmentId: environments.prod, featureId });
    await page.getByText(`live, seventh-of-${projectId}: off`, { exact: true }).waitFor();
  }
});

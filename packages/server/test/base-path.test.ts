import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { flagcastConsole } from '@flagcast/console';
import express from 'express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { createFlagcast } from '../src/flagcast.js';
import type { Flagcast } from '../src/flagcast-options.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { builtPagesDir } from '../../console/server/console-files.js';
import { createUser, startTestServer, testSecret } from './server.js';

const basePath = '/flagcast';
const closing: (() => Promise<unknown>)[] = [];
let database: TestDatabase;
let project: SeededProject;
let token: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool);
  ({ token } = await createUser(database.pool, 'ada', { superuser: true }));
});

afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await database.drop();
});

/** A host that has other routes, and serves Flagcast as `mount` says. Returns its URL. */
async function startHost(mount: (app: express.Express, flagcast: Flagcast) => unknown): Promise<string> {
  const flagcast = createFlagcast({
    database: { url: database.url },
    auth: { secret: testSecret },
    console: flagcastConsole(),
    network: { basePath },
  });
  const app = express();
  mount(app, flagcast);
  app.use((request, response) => void response.status(404).send(`The host has no ${request.url}`));
  const server = createServer(app);
  flagcast.attach(server);
  await Promise.all([flagcast.ready(), once(server.listen(0, '127.0.0.1'), 'listening')]);
  closing.push(async () => {
    await flagcast.close();
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function startOwn(): Promise<string> {
  const server = await startTestServer(database.url, {
    console: { pagesDir: builtPagesDir },
    network: { basePath },
  });
  closing.push(async () => await server.close());
  return server.httpUrl;
}

describe.each([
  ['its own server', startOwn],
  [
    'a router of Express',
    async () => await startHost((app, { requestListener }) => app.use(basePath, requestListener)),
  ],
  ['the middleware of Express', async () => await startHost((app, { middleware }) => app.use(middleware))],
])('a base path in %s', (name, start) => {
  it('is that of the API, streams and WebSockets', async () => {
    const url = (await start()) + basePath;
    const headers = { Authorization: `Bearer ${token}` };
    expect((await fetch(`${url}/api/projects`, { headers })).status).toBe(200);
    const query = { project_id: project.projectId, env: 'prod' };
    const wsUrl = url.replace('http', 'ws');
    const plain = await PlainClient.connect(`${wsUrl}/api/ws`, query, { token });
    const stream = await EventStreamClient.open(url, query, headers);
    const { entityId } = await insertAudit(database.pool, {
      projectId: project.projectId,
      environmentId: project.environments.prod,
    });
    await plain.received(({ entity_id: id }) => id === entityId);
    await stream.event(entityId);
    await plain.close();
    stream.response.destroy();
    const { origin } = new URL(wsUrl);
    expect(await handshake(`${origin}/api/ws`, `project_id=${project.projectId}&env=prod`)).toMatchObject({
      status: 404,
    });
  });

  it('leaves other paths to the host', async () => {
    const url = await start();
    const ask = async (path: string) => await fetch(url + path, { redirect: 'manual' });
    const middleware = name.startsWith('the middleware');
    const own = name === 'its own server';
    expect((await ask(`${basePath}x/api/projects`)).status).toBe(404);
    // Probes of its own server need no base path.
    expect((await ask('/readyz')).status).toBe(own ? 200 : 404);
    if (middleware) return;
    expect((await ask(`${basePath}/p/x/prod`)).status).toBe(200);
    const slash = await ask(`${basePath}?q=1`);
    expect([slash.status, slash.headers.get('location')]).toEqual([308, `${basePath}/?q=1`]);
  });
});

it.each(['flagcast', '/flagcast/', '/', '/a//b', '/a/../b', '/a?b', '//host/path'])(
  'a base path %s is refused',
  (wrong) => {
    const options = { database: { url: database.url }, auth: { secret: testSecret } };
    expect(() => createFlagcast({ ...options, network: { basePath: wrong } })).toThrow(/The base path/);
  },
);

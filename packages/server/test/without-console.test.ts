import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type SeededProject, seedProject, type TestDatabase } from './database.js';
import { send } from './rest-fixture.js';
import { createUser, startTestServer, type TestServer, type TestUser } from './server.js';

let database: TestDatabase;
let server: TestServer;
let project: SeededProject;
let user: TestUser;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool);
  user = await createUser(database.pool, 'root', { superuser: true });
  server = await startTestServer(database.url, { console: null });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

const ask = async (method: string, path: string) =>
  await send(server.httpUrl, method, path, method === 'GET' ? undefined : {}, {
    Authorization: `Bearer ${user.token}`,
    Accept: 'text/html',
  });

it.each([
  ['GET', '/'],
  ['GET', '/approvals'],
  ['GET', '/p/any/dev'],
  ['GET', '/api/auth/mode'],
  ['POST', '/api/auth/login'],
  ['GET', '/api/features'],
  ['PATCH', '/api/features/any'],
  ['POST', '/api/pending-changes/any/approve'],
  ['PATCH', '/api/environments/1'],
  ['GET', '/api/audit/export'],
])('%s %s without the console is 404 not_found, and says how to install it', async (method, path) => {
  const { status, body } = await ask(method, path);
  expect(status).toBe(404);
  expect(body.code).toBe('not_found');
  expect(body.message).toContain('npm install @flagcast/console');
});

it('another unknown path says nothing about the console', async () => {
  const { body } = await ask('GET', '/api/feature');
  expect(body).toStrictEqual({ code: 'not_found', message: 'There is nothing at /api/feature' });
});

it('a server without the console has snapshots and projects', async () => {
  expect(await ask('GET', `/api/snapshot?project_id=${project.projectId}&env=prod`)).toMatchObject({
    status: 200,
    body: { project_id: project.projectId, features: [] },
  });
  expect(await ask('GET', '/api/projects')).toMatchObject({ status: 200 });
});

it('/api/openapi.json describes only reads and streams, and handles() takes only those', async () => {
  const { body } = await ask('GET', '/api/openapi.json');
  const operations = Object.entries(body['paths'] as Record<string, object>).map(
    ([path, methods]) => `${Object.keys(methods).join(' ')} ${path}`,
  );
  expect(operations).toEqual([
    'get /healthz',
    'get /readyz',
    'get /metrics',
    'get /api/projects',
    'get /api/snapshot',
    'get post /api/events',
    'get /api/ws',
    'get /api/openapi.json',
  ]);
  expect(server.flagcast.handles({ url: '/api/features' })).toBe(false);
  expect(server.flagcast.handles({ url: '/api/snapshot?project_id=1' })).toBe(true);
});

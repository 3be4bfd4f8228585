import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, seedProject, type TestDatabase } from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { createUser, startTestServer, type TestServer } from './server.js';

const listed = 'https://console.example.com';
const foreign = 'https://evil.example';

let database: TestDatabase;
/** One origin listed; `null` and nothing else; every origin. */
let server: TestServer;
let framed: TestServer;
let open: TestServer;
let channel: string;
let token: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId } = await seedProject(database.pool);
  channel = `project_id=${projectId}&env=prod`;
  [server, framed, open] = (await Promise.all(
    [[listed], ['null'], ['*']].map(
      async (allowedOrigins) => await startTestServer(database.url, { network: { allowedOrigins } }),
    ),
  )) as [TestServer, TestServer, TestServer];
});

afterAll(async () => {
  await Promise.all([server.close(), framed.close(), open.close()]);
  await database.drop();
});

interface Asked {
  readonly origin?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly url?: string;
}

async function ask(
  path: string,
  { origin = listed, method = 'GET', headers, url }: Asked = {},
): Promise<Response> {
  return await fetch((url ?? server.httpUrl) + path, { method, headers: { Origin: origin, ...headers } });
}

/** The preflight that a browser sends before a request that a form could not send. */
async function preflight(path: string, asked: Asked = {}): Promise<Response> {
  const headers = {
    'Access-Control-Request-Method': 'PATCH',
    'Access-Control-Request-Headers': 'authorization,content-type',
    ...asked.headers,
  };
  return await ask(path, { ...asked, method: 'OPTIONS', headers });
}

/** The names of the CORS headers. */
function lettingIn({ headers }: Response): string[] {
  return [...headers.keys()].filter((name) => name.startsWith('access-control-'));
}

const paths: [string, number][] = [
  ['/api/openapi.json', 200],
  ['/api/auth/mode', 200],
  ['/api/snapshot', 400],
  ['/api/projects', 401],
  ['/api/features', 401],
  ['/api/nothing', 404],
  ['/api/ws', 426],
];

describe('a page of a listed origin', () => {
  it.each(paths)('may read every response: %s', async (path, status) => {
    const { status: answered, headers } = await ask(path);
    expect(answered).toBe(status);
    expect(headers.get('access-control-allow-origin')).toBe(listed);
    expect(headers.get('access-control-expose-headers')).toBe('Retry-After');
    // Tokens are sent in a header, so the browser's credentials (cookies) are never needed.
    expect(headers.get('access-control-allow-credentials')).toBe(null);
    expect(headers.get('vary')).toBe('Origin');
  });

  it('may read a stream, and the refusal of one', async () => {
    const headers = { Origin: listed, Authorization: `Bearer ${token}` };
    const stream = await EventStreamClient.open(server.httpUrl, channel, headers);
    expect(stream.response.headers).toMatchObject({
      'access-control-allow-origin': listed,
      'access-control-expose-headers': 'Retry-After',
      vary: 'Origin',
      'x-content-type-options': 'nosniff',
    });
    stream.response.destroy();
    const refused = EventStreamClient.open(server.httpUrl, channel, { Origin: listed });
    await expect(refused).rejects.toMatchObject({
      status: 401,
      headers: { 'access-control-allow-origin': listed },
    });
  });

  it.each(['/api/features/1', '/api/events', '/api/nothing'])(
    'gets the allowed methods and headers in a preflight: %s',
    async (path) => {
      const response = await preflight(path);
      expect(response.status).toBe(204);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'access-control-allow-origin': listed,
        'access-control-allow-methods': 'GET, POST, PATCH, DELETE',
        'access-control-allow-headers': 'Authorization, Content-Type, Last-Event-ID',
        'access-control-max-age': '7200',
        vary: 'Origin',
      });
      expect(await response.text()).toBe('');
    },
  );

  it('may send every method that the API has', async () => {
    const document = (await (await ask('/api/openapi.json')).json()) as { paths: Record<string, object> };
    const methods = new Set(Object.values(document.paths).flatMap((path) => Object.keys(path)));
    const allowed = (await preflight('/api/features')).headers.get('access-control-allow-methods') ?? '';
    expect(allowed.toLowerCase().split(', ').sort()).toStrictEqual([...methods].sort());
  });

  it('may read only the API', async () => {
    for (const path of ['/healthz', '/metrics', '/nothing'])
      expect(lettingIn(await ask(path))).toStrictEqual([]);
    expect((await preflight('/')).status).toBe(404);
  });
});

describe('a page of any other origin', () => {
  it.each([
    foreign,
    `${listed}.evil.example`,
    'http://console.example.com',
    `${listed}:8443`,
    'null',
    'junk',
  ])('gets no CORS headers: %s', async (origin) => {
    for (const [path] of paths) {
      const [asked, before] = await Promise.all([ask(path, { origin }), preflight(path, { origin })]);
      expect(lettingIn(asked)).toStrictEqual([]);
      // A response that depends on the origin must not be cached for another one.
      expect(asked.headers.get('vary')).toBe('Origin');
      expect(before.status).toBeGreaterThanOrEqual(400);
      expect(lettingIn(before)).toStrictEqual([]);
    }
    const stream = EventStreamClient.open(server.httpUrl, channel, {
      Origin: origin,
      Authorization: `Bearer ${token}`,
    });
    await expect(stream).rejects.toMatchObject({ status: 403, body: { code: 'origin_forbidden' } });
  });

  it('gets no CORS headers if only its own origin is listed', async () => {
    const own = framed.httpUrl.replace('http:', 'https:');
    for (const origin of [framed.httpUrl, own, foreign]) {
      expect(lettingIn(await ask('/api/auth/mode', { url: framed.httpUrl, origin }))).toStrictEqual([]);
    }
  });
});

it('a page without an origin may read responses if `null` is listed', async () => {
  const { headers } = await ask('/api/auth/mode', { url: framed.httpUrl, origin: 'null' });
  expect(headers.get('access-control-allow-origin')).toBe('null');
});

it('every page may read responses if `*` is listed', async () => {
  for (const origin of [foreign, 'null', 'junk', open.httpUrl]) {
    const { status, headers } = await ask('/api/auth/mode', { url: open.httpUrl, origin });
    expect([status, headers.get('access-control-allow-origin')]).toStrictEqual([200, '*']);
  }
  expect((await preflight('/api/events', { url: open.httpUrl, origin: foreign })).status).toBe(204);
});

it('an OPTIONS request that is not a preflight gets 404', async () => {
  const { status, headers } = await ask('/api/openapi.json', { method: 'OPTIONS' });
  expect([status, headers.get('access-control-allow-origin')]).toStrictEqual([404, listed]);
});

it('an embedding server sends the same headers together with its own', async () => {
  const { middleware } = server.flagcast;
  const host = createServer((request, response) => {
    response.setHeader('Vary', 'Accept-Encoding');
    middleware(request, response, () => response.writeHead(418).end());
  });
  await once(host.listen(0, '127.0.0.1'), 'listening');
  try {
    const url = `http://127.0.0.1:${(host.address() as AddressInfo).port}`;
    expect((await preflight('/api/features', { url })).status).toBe(204);
    const { headers } = await ask('/api/auth/mode', { url });
    expect(headers.get('access-control-allow-origin')).toBe(listed);
    expect(headers.get('vary')).toBe('Accept-Encoding, Origin');
    const other = await preflight('/api/of-the-host', { url });
    expect([other.status, lettingIn(other)]).toStrictEqual([418, []]);
  } finally {
    host.closeAllConnections();
    host.close();
  }
});

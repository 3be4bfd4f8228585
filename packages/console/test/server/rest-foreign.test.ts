import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { flagcastConsole } from '@flagcast/console';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AuthorizedChannel } from '../../../server/src/auth/host-callbacks.js';
import type { FlagcastOptions } from '../../../server/src/flagcast-options.js';
import { createFlagcast } from '../../../server/src/flagcast.js';
import { sign } from '../../../server/test/access-tokens.js';
import { createTestDatabase, type TestDatabase } from '../../../server/test/database.js';
import { type Answer, send, setPassword } from '../../../server/test/rest-fixture.js';
import { createUser, nextEvent, testSecret } from '../../../server/test/server.js';

const auth = { secret: testSecret };
const channels = [
  { userId: 'ada', projectId: 'web shop/eu', environmentId: 'live', environmentKey: 'prod' },
] satisfies AuthorizedChannel[];
const undo: (() => Promise<void>)[] = [];
let foreign: TestDatabase;

beforeAll(async () => {
  foreign = await createTestDatabase({ schema: 'none' });
});

afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await foreign.drop();
});

/** A server that answers HTTP; the live events are not read. */
async function open(databaseUrl: string, options: Partial<FlagcastOptions> = {}) {
  const flagcast = createFlagcast({
    database: { url: databaseUrl },
    auth,
    console: flagcastConsole(),
    ...options,
  });
  const http = createServer(flagcast.requestListener).listen(0, '127.0.0.1');
  await once(http, 'listening');
  undo.push(async () => {
    await flagcast.close();
    http.closeAllConnections();
    http.close();
  });
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const Authorization = `Bearer ${await sign({ sub: 'ada', exp: Math.floor(Date.now() / 1_000) + 600 }, Buffer.from(testSecret))}`;
  return {
    flagcast,
    ask: async (method: string, path: string, body?: unknown): Promise<Answer> =>
      await send(url, method, path, body, { Authorization }),
  };
}

const authorize = async (): Promise<AuthorizedChannel[]> => await Promise.resolve(channels);

describe('a database with other tables', () => {
  it('has projects, users and sign-in methods', async () => {
    const { ask } = await open(foreign.url, { auth: { secret: testSecret, authorize } });
    expect(await ask('GET', '/api/projects')).toMatchObject({
      status: 200,
      body: {
        projects: [
          {
            id: 'web shop/eu',
            name: 'web shop/eu',
            environments: [{ id: 'live', key: 'prod', name: 'prod', guarded: false }],
          },
        ],
      },
    });
    expect(await ask('GET', '/api/auth/me')).toMatchObject({
      status: 200,
      body: {
        user: { id: 'ada', username: 'ada', is_superuser: false },
        projects: [{ id: 'web shop/eu', permissions: ['project.view'] }],
        writes: false,
      },
    });
    expect(await ask('GET', '/api/auth/mode')).toMatchObject({ status: 200, body: { sign_in: 'token' } });
    expect(await ask('POST', '/api/auth/login', { username: 'ada', password: 'x' })).toMatchObject({
      status: 404,
      body: { code: 'login_elsewhere' },
    });
  });

  const channel = 'project_id=web%20shop%2Feu&env=prod';
  it.each([
    [`/api/features?${channel}`],
    [`/api/features/${randomUUID()}?env=prod`],
    ['/api/pending-changes'],
    [`/api/audit?${channel}`],
  ])('responds with 501 to %s, as the OpenAPI document says', async (path) => {
    const { ask, flagcast } = await open(foreign.url, { auth: { secret: testSecret, authorize } });
    const failures: unknown[] = [];
    flagcast.lifecycle.on('access:failed', (failure) => failures.push(failure));
    const { status, body, headers } = await ask('GET', path);
    expect(status).toBe(501);
    expect(headers.get('cache-control')).toBe('no-store');
    expect(body).toStrictEqual({
      code: 'not_available',
      message: expect.stringMatching(
        /^This needs Togglr's tables, .*\(relation "public\.\w+" does not exist\): use the application that manages the flags, or grant SELECT$/,
      ) as string,
    });
    expect(failures).toStrictEqual([]);
    const { body: document } = await ask('GET', '/api/openapi.json');
    const [route = ''] = path.replace(/features\/[^?]+/, 'features/{id}').split('?');
    expect(document).toMatchObject({ paths: { [route]: { get: { responses: { 501: {} } } } } });
  });

  it.each([
    ['of another shape', 'CREATE TABLE public.features (id uuid, project_id text, title text)'],
    [
      'that the role may not read',
      'ALTER TABLE public.features RENAME TO others; CREATE TABLE public.features (id uuid); REVOKE ALL ON public.features FROM PUBLIC',
    ],
  ])('responds with 501 also if it has tables of those names %s', async (_, sql) => {
    await foreign.pool.query(sql);
    const reader = await createRole(foreign);
    const { ask } = await open(reader.url, { auth: { secret: testSecret, authorize } });
    expect(await ask('GET', `/api/features?${channel}`)).toMatchObject({
      status: 501,
      body: { code: 'not_available' },
    });
  });

  it('without permissions tables is an error: the response is 503 and the log has it', async () => {
    const { ask, flagcast } = await open(foreign.url);
    const failed = nextEvent(flagcast.lifecycle, 'access:failed');
    expect(await ask('GET', `/api/features?${channel}`)).toMatchObject({
      status: 503,
      body: { code: 'unavailable' },
    });
    expect((await failed).error.message).toContain('public.users');
  });
});

describe('passwords that cannot be checked', () => {
  const login = { username: 'carol', password: 'x' };
  const elsewhere = {
    status: 404,
    body: { code: 'login_elsewhere', message: /cannot be checked here.*token$/ },
  };

  async function expectElsewhere({ ask }: Awaited<ReturnType<typeof open>>): Promise<void> {
    expect(await ask('GET', '/api/auth/mode')).toMatchObject({ status: 200, body: { sign_in: 'token' } });
    for (const username of ['carol', 'nobody']) {
      const { status, body } = await ask('POST', '/api/auth/login', { ...login, username });
      expect({ status, code: body.code }).toStrictEqual({
        status: elsewhere.status,
        code: elsewhere.body.code,
      });
      expect(body.message).toMatch(elsewhere.body.message);
    }
  }

  it('of another hash format: existing and unknown names get the same response', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    undo.push(async () => await database.drop());
    await createUser(database.pool, 'carol');
    await database.pool.query(`UPDATE users SET password_hash = '$2a$10$abcdefghijklmnopqrstuv'`);
    await expectElsewhere(await open(database.url));
  });

  it('because the role may not read the column', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    undo.push(async () => await database.drop());
    await createUser(database.pool, 'carol');
    await setPassword(database.pool, 'carol', 'x');
    const owner = await open(database.url);
    expect(await owner.ask('POST', '/api/auth/login', login)).toMatchObject({ status: 200 });
    const reader = await createRole(database);
    await database.pool.query(
      `GRANT SELECT (id, username, is_active, is_superuser) ON users TO ${reader.name}`,
    );
    await expectElsewhere(await open(reader.url));
  });

  it('still after the database has stopped responding', async () => {
    const database = await createTestDatabase({ schema: 'tables' });
    undo.push(async () => await database.drop());
    await createUser(database.pool, 'carol');
    await database.pool.query(`UPDATE users SET password_hash = '$2a$10$abcdefghijklmnopqrstuv'`);
    const reader = await createRole(database);
    await database.pool.query(`GRANT SELECT ON users TO ${reader.name}`);
    const server = await open(reader.url);
    await expectElsewhere(server);
    await database.pool.query(`ALTER ROLE ${reader.name} NOLOGIN`);
    await database.pool.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [
      reader.name,
    ]);
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 30_000);
    try {
      await expectElsewhere(server);
    } finally {
      clock.mockRestore();
    }
  });

  it('because the database does not respond: 503', async () => {
    const { ask } = await open('postgresql://nobody@127.0.0.1:1/nothing');
    expect(await ask('GET', '/api/auth/mode')).toMatchObject({ status: 200, body: { sign_in: 'password' } });
    expect(await ask('POST', '/api/auth/login', login)).toMatchObject({ status: 503 });
  });
});

/** A role of the cluster that may log in and nothing else. */
async function createRole({ url, pool }: TestDatabase): Promise<{ name: string; url: string }> {
  const name = `reader_${randomBytes(4).toString('hex')}`;
  await pool.query(`CREATE ROLE ${name} LOGIN PASSWORD 'secret'`);
  undo.push(async () => {
    await pool.query(`DROP OWNED BY ${name}; DROP ROLE ${name}`);
  });
  const own = new URL(url);
  own.username = name;
  own.password = 'secret';
  return { name, url: own.toString() };
}

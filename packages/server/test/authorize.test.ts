import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { AuthorizedChannel } from '../src/auth/host-callbacks.js';
import { CallbackAuthorization, functionSource } from '../src/auth/callback-authorization.js';
import { Lifecycle } from '../src/lifecycle.js';
import { sign } from './access-tokens.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { PlainClient, Refused } from './plain-client.js';
import { setPassword } from './rest-fixture.js';
import { nextEvent, startTestServer, type TestServer, testSecret } from './server.js';
import { V1Client } from './v1-client.js';

const unguarded = { guarded: false, guarded_by: null, guarded_at: null };

let database: TestDatabase;
let server: TestServer;
let shop: SeededProject;
let billing: SeededProject;
/** The results of the host's authorize(), and the users of its calls. */
let list: unknown[] = [];
let fault: (() => Promise<never>) | null = null;
let asked: (readonly string[])[] = [];
/** Those that a test has opened. */
const opened: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  shop = await seedProject(database.pool, { name: 'Shop' });
  billing = await seedProject(database.pool, { name: 'Billing' });
  server = await startTestServer(database.url, {
    auth: {
      secret: testSecret,
      authorize: async (userIds) => {
        asked.push(userIds);
        if (fault !== null) return await fault();
        return list as AuthorizedChannel[];
      },
    },
    database: { pollIntervalMs: 50 },
    timeouts: { recheckIntervalMs: 50, recheckTimeoutMs: 1_500 },
  });
});

afterEach(async () => {
  for (const client of opened.splice(0)) await client.close();
});

beforeEach(() => {
  fault = null;
  asked = [];
  list = [may('ada@example.com', shop, 'prod'), may('42', shop, 'prod'), may('42', billing, 'dev')];
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

type Key = keyof SeededProject['environments'];

function may(userId: string, { projectId, environments }: SeededProject, key: Key): AuthorizedChannel {
  return { userId, projectId, environmentId: environments[key], environmentKey: key };
}

async function tokenOf(claims: Record<string, unknown>): Promise<string> {
  return await sign({ exp: Math.floor(Date.now() / 1_000) + 600, ...claims }, Buffer.from(testSecret));
}

async function plain(
  sub: string,
  { projectId }: { projectId: string },
  environment: Record<string, string> = { env: 'prod' },
): Promise<PlainClient> {
  const query = { project_id: projectId, ...environment };
  const client = await PlainClient.connect(server.wsUrl, query, { token: await tokenOf({ sub }) });
  opened.push(client);
  return client;
}

async function refusal(connecting: Promise<PlainClient>): Promise<string> {
  const error: unknown = await connecting.then(
    () => 'let in',
    (reason: unknown) => reason,
  );
  return error instanceof Refused ? `${error.status} ${error.body.code ?? ''}` : String(error);
}

async function get(
  path: string,
  claims: Record<string, unknown>,
): Promise<{ status: number; body: unknown }> {
  const headers = { Authorization: `Bearer ${await tokenOf(claims)}` };
  const response = await fetch(`${server.httpUrl}${path}`, { headers });
  return { status: response.status, body: await response.json() };
}

async function write(project: SeededProject, key: Key = 'prod'): Promise<string> {
  const { projectId, environments } = project;
  return (await insertAudit(database.pool, { projectId, environmentId: environments[key] })).entityId;
}

describe('a channel that authorize() returns', () => {
  it('is open to its user, who is in no table, by key and by id, with one call for that user', async () => {
    const byKey = await plain('ada@example.com', shop);
    const byId = await plain('42', billing, { env_id: billing.environments.dev });
    expect(asked[0]).toStrictEqual(['ada@example.com']);
    expect(asked).toContainEqual(['42']);
    const [first, second] = [await write(shop), await write(billing, 'dev')];
    await byKey.received(({ entity_id: id }) => id === first);
    await byId.received(({ entity_id: id }) => id === second);
    expect([byKey.messages.length, byId.messages.length]).toStrictEqual([1, 1]);
  });

  it.each<[string, Record<string, unknown>]>([
    ['userId, a number', { userId: 42 }],
    ['userId, a text', { userId: '42', sub: 'another user' }],
    ['sub', { sub: '42', username: 'another user' }],
    ['username', { username: '42' }],
  ])('is found by the claim %s', async (_, claims) => {
    const { status, body } = await get('/api/auth/me', claims);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      user: { id: '42' },
      projects: [{ id: billing.projectId }, { id: shop.projectId }].sort((one, other) =>
        one.id < other.id ? -1 : 1,
      ),
    });
  });

  it('is refused to a token without a user', async () => {
    expect(await get('/api/projects', {})).toMatchObject({ status: 401, body: { code: 'token_invalid' } });
  });
});

describe('a channel that authorize() does not return', () => {
  it('is refused, and only users who may view the project learn that it exists', async () => {
    const unknown = { projectId: 'there-is-no-such-project' };
    for (const project of [billing, unknown, { projectId: 'a\0b' }, { projectId: '__proto__' }]) {
      expect(await refusal(plain('ada@example.com', project))).toBe('403 forbidden');
    }
    expect(await refusal(plain('ada@example.com', shop, { env: 'dev' }))).toBe('404 unknown_environment');
    expect(await refusal(plain('ada@example.com', shop, { env_id: shop.environments.dev }))).toBe(
      '404 unknown_environment',
    );
    expect(await refusal(plain('nobody', shop))).toBe('403 forbidden');
  });

  it('is refused even if the host returns channels of other users', async () => {
    list = [may('root', billing, 'prod'), may('ada@example.com', shop, 'prod')];
    expect(await refusal(plain('ada@example.com', billing))).toBe('403 forbidden');
  });

  it('is refused over flagcast.v1 and server-sent events, too', async () => {
    const token = await tokenOf({ sub: 'ada@example.com' });
    const client = await V1Client.connect(server.wsUrl, { token });
    opened.push(client);
    const refused = await client.subscribe({
      projectId: billing.projectId,
      environmentId: billing.environments.dev,
    });
    expect(refused).toMatchObject({ type: 'error', code: 'forbidden', project_id: billing.projectId });
    await client.caughtUp({ projectId: shop.projectId, environmentId: shop.environments.prod });
    const query = `project_id=${billing.projectId}&env=dev`;
    expect(await get(`/api/events?${query}`, { sub: 'ada@example.com' })).toMatchObject({ status: 403 });
    expect(await get(`/api/snapshot?${query}`, { sub: 'ada@example.com' })).toMatchObject({ status: 403 });
    expect(await get(`/api/snapshot?${query}`, { sub: '42' })).toMatchObject({ status: 200 });
  });

  it('is not in responses of the REST API, although it is in the same tables', async () => {
    const featureId = '5f0c8a52-0000-4000-8000-000000000001';
    await database.pool.query(
      `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, 'dark-mode', 'Dark', 'simple')`,
      [featureId, shop.projectId],
    );
    for (const environmentId of [shop.environments.prod, shop.environments.dev]) {
      await database.pool.query(
        `WITH c AS (INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
           VALUES ($1, $2, 'ada', '{}') RETURNING id)
         INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
         SELECT id, 'feature', gen_random_uuid() FROM c`,
        [shop.projectId, environmentId],
      );
    }
    // The token of another user in Togglr's table, who has every right.
    await database.pool.query(
      `INSERT INTO users (id, username, email, password_hash, is_superuser) VALUES (42, 'root', 'r', '', true)`,
    );
    const path = `/api/features/${featureId}?env=`;
    expect(await get(`${path}prod`, { sub: '42' })).toMatchObject({ status: 200 });
    expect(await get(`${path}dev`, { sub: '42' })).toMatchObject({
      status: 404,
      body: { code: 'unknown_environment' },
    });
    expect(await get(`${path}prod`, { sub: 'nobody' })).toMatchObject({ status: 403 });
    const { body } = await get('/api/pending-changes', { sub: '42' });
    expect((body as { pending_changes: object[] }).pending_changes).toMatchObject([
      { environment_id: shop.environments.prod, may_decide: false },
    ]);
  });
});

describe('a password', () => {
  it("of Togglr's table gives no token, because its user id may be another user's in authorize()", async () => {
    const username = 'tim';
    await database.pool.query(`INSERT INTO users (username, email, password_hash) VALUES ('tim', 'tim', '')`);
    await setPassword(database.pool, username, 'correct horse');
    const response = await fetch(`${server.httpUrl}/api/auth/login`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ username, password: 'correct horse' }),
    });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: 'login_elsewhere' });
  });
});

describe('the projects', () => {
  it('are those that authorize() returns, by name, with their environments', async () => {
    list = [
      { ...may('ada@example.com', shop, 'prod'), projectName: 'Zebra', environmentName: 'Production' },
      { ...may('ada@example.com', shop, 'prod'), projectName: 'twice' },
      { ...may('ada@example.com', shop, 'dev'), environmentName: null },
      { ...may('ada@example.com', billing, 'dev'), projectName: 'Antelope' },
      { userId: 'ada@example.com', projectId: '__proto__', environmentId: 'e', environmentKey: 'prod' },
    ];
    const { body } = await get('/api/projects', { sub: 'ada@example.com' });
    expect(body).toStrictEqual({
      projects: [
        {
          id: billing.projectId,
          name: 'Antelope',
          environments: [{ id: billing.environments.dev, key: 'dev', name: 'dev', ...unguarded }],
        },
        {
          id: shop.projectId,
          name: 'Zebra',
          environments: [
            { id: shop.environments.prod, key: 'prod', name: 'Production', ...unguarded },
            { id: shop.environments.dev, key: 'dev', name: 'dev', ...unguarded },
          ],
        },
        {
          id: '__proto__',
          name: '__proto__',
          environments: [{ id: 'e', key: 'prod', name: 'prod', ...unguarded }],
        },
      ],
    });
    const me = await get('/api/auth/me', { sub: 'ada@example.com' });
    expect(me.body).toMatchObject({
      user: { id: 'ada@example.com', username: 'ada@example.com', is_superuser: false },
      projects: [
        { id: billing.projectId, permissions: ['project.view'] },
        { id: shop.projectId, permissions: ['project.view'] },
        { id: '__proto__', permissions: ['project.view'] },
      ],
      writes: false,
      sign_in: 'token',
    });
  });
});

describe('a right that is revoked', () => {
  it('G3: is read by one call for concurrent users, and each user gets their own rights', async () => {
    const calls: (readonly string[])[] = [];
    const source = functionSource(async (userIds) => {
      calls.push(userIds);
      return await Promise.resolve(
        userIds.flatMap((userId) => [may(userId, Number(userId) % 2 === 0 ? shop : billing, 'prod')]),
      );
    });
    const authorization = new CallbackAuthorization(source, new Lifecycle());
    const users = Array.from({ length: 20 }, (_, index) => String(index));
    const opened = await Promise.all(
      users.flatMap((userId) =>
        [shop, billing].map(
          async ({ projectId }) =>
            await authorization.openChannel(userId, { projectId, environmentKey: 'prod' }),
        ),
      ),
    );
    expect(calls).toStrictEqual([users]);
    const inShop = { projectId: shop.projectId, environmentId: shop.environments.prod };
    const inBilling = { projectId: billing.projectId, environmentId: billing.environments.prod };
    expect(opened).toMatchObject(
      users.flatMap((userId) =>
        Number(userId) % 2 === 0 ? [inShop, 'forbidden'] : ['forbidden', inBilling],
      ),
    );
  });

  it('G9: ends only its channel, and one call checks all users', async () => {
    const ada = await plain('ada@example.com', shop);
    const client = await V1Client.connect(server.wsUrl, { token: await tokenOf({ sub: '42' }) });
    opened.push(client);
    await client.caughtUp({ projectId: shop.projectId, environmentId: shop.environments.prod });
    await client.caughtUp({ projectId: billing.projectId, environmentId: billing.environments.dev });
    await nextEvent(server.flagcast.lifecycle, 'access:rechecked', ({ connections }) => connections === 2);
    expect([...(asked.at(-1) ?? [])].sort()).toStrictEqual(['42', 'ada@example.com']);
    // Another environment of the same project remains.
    list = [may('42', shop, 'dev'), may('42', billing, 'dev')];
    expect((await ada.closed).code).toBe(4503);
    expect(await client.control('error')).toMatchObject({ code: 'forbidden', project_id: shop.projectId });
    const [hidden, shown] = [await write(shop), await write(billing, 'dev')];
    await client.event(shown);
    expect(client.events.map(({ entity_id: id }) => id)).not.toContain(hidden);
  });
});

describe('a host that fails', () => {
  it.each<[string, () => Promise<never>, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('the directory is down');
      },
      /^authorize\(\) failed: the directory is down$/,
    ],
    [
      'rejects without a message',
      async () => await Promise.reject(new RangeError()),
      /^authorize\(\) failed: RangeError$/,
    ],
    [
      'does not return a list',
      async () => await Promise.resolve('all' as never),
      /^authorize\(\) did not return a list of channels$/,
    ],
  ])('that %s: the response is 503, and the log has the reason', async (_, failing, text) => {
    const failed = nextEvent(server.flagcast.lifecycle, 'access:failed');
    fault = failing;
    expect(await refusal(plain('ada@example.com', shop))).toBe('503 unavailable');
    expect((await failed).error.message).toMatch(text);
    expect(await get('/api/projects', { sub: '42' })).toMatchObject({
      status: 503,
      body: { code: 'unavailable' },
    });
    fault = null;
    await plain('ada@example.com', shop);
  });

  it('keeps open connections for a limited time, then closes them for a reconnect', async () => {
    const client = await plain('ada@example.com', shop);
    const failed = nextEvent(server.flagcast.lifecycle, 'access:failed');
    fault = async () => await Promise.reject(new Error('down'));
    await failed;
    const entityId = await write(shop);
    await client.received(({ entity_id: id }) => id === entityId);
    expect(await client.closed).toStrictEqual({ code: 4005, reason: 'unavailable' });
  });

  it('may return invalid channels: they are skipped with one warning', async () => {
    const ignored: object[] = [];
    server.flagcast.lifecycle.on('access:rows-ignored', (payload) => ignored.push(payload));
    const { userId, ...nobody } = may('ada@example.com', shop, 'dev');
    list = [
      null,
      'x',
      7,
      [],
      {},
      nobody,
      { ...nobody, userId, environmentId: 3 },
      { ...nobody, userId, environmentKey: '' },
      may('ada@example.com', shop, 'prod'),
    ];
    await plain('ada@example.com', shop);
    expect(await refusal(plain('ada@example.com', shop, { env: 'dev' }))).toBe('404 unknown_environment');
    expect(ignored).toStrictEqual([{ source: 'authorize()', rows: 8 }]);
  });
});

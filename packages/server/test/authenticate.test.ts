import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Authenticate, type AuthenticatedUser, withTimeout } from '../src/auth/host-callbacks.js';
import { describeError } from '../src/describe.js';
import { createTestDatabase, seedProject, type SeededProject, type TestDatabase } from './database.js';
import { handshake, PlainClient, Refused } from './plain-client.js';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  testSecret,
  type TestUser,
} from './server.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
/** Only the host's own check; and that before the token. */
let own: TestServer;
let both: TestServer;
let project: SeededProject;
let alice: TestUser;
let bob: TestUser;
/** The results of the host's authenticate(), by cookie. */
const sessions = new Map<string, () => unknown>();
let calls = 0;
const opened: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool);
  alice = await createUser(database.pool, 'alice');
  bob = await createUser(database.pool, 'bob');
  for (const { id } of [alice, bob]) await addMember(database.pool, project.projectId, id, 'project_viewer');
  const authenticate: Authenticate = async ({ headers }) => {
    calls += 1;
    return ((await sessions.get(headers.cookie ?? '')?.()) as AuthenticatedUser | undefined) ?? null;
  };
  const timing = { checkIntervalMs: 50 };
  both = await startTestServer(database.url, {
    auth: { secret: testSecret, authenticate },
    timeouts: timing,
  });
  own = await startTestServer(database.url, {
    auth: { authenticate },
    timeouts: timing,
    network: { allowedOrigins: ['https://a.example'] },
  });
  sessions.set('s=alice', () => ({ id: alice.id, username: 'alice' }));
  sessions.set('s=nobody', () => ({ id: '999999', username: 'ghost' }));
});

afterEach(async () => {
  for (const client of opened.splice(0)) await client.close();
});

afterAll(async () => {
  await own.close();
  await both.close();
  await database.drop();
});

async function connect(
  server: TestServer,
  headers: Record<string, string>,
  token?: string,
): Promise<PlainClient> {
  const client = await PlainClient.connect(
    server.wsUrl,
    { project_id: project.projectId, env: 'prod' },
    { headers, ...(token === undefined ? {} : { token }) },
  );
  opened.push(client);
  return client;
}

async function refusal(connecting: Promise<PlainClient>): Promise<string> {
  const error: unknown = await connecting.catch((reason: unknown) => reason);
  return error instanceof Refused ? `${error.status} ${error.body.code ?? ''}` : String(error);
}

it('users that authenticate() returns connect by WebSocket and HTTP with their rights in the tables', async () => {
  const beforeMs = Date.now();
  await connect(own, { Cookie: 's=alice' });
  const client = await V1Client.connect(own.wsUrl, { headers: { Cookie: 's=alice' } });
  opened.push(client);
  const hello = await client.control('hello');
  expect(hello).toMatchObject({ user_id: alice.id, username: 'alice' });
  // The default is one hour.
  const hourMs = 3_600_000;
  expect(Date.parse(hello.token_expires_at)).toBeGreaterThanOrEqual(beforeMs + hourMs);
  expect(Date.parse(hello.token_expires_at)).toBeLessThanOrEqual(Date.now() + hourMs);
  await client.caughtUp({ projectId: project.projectId, environmentId: project.environments.prod });
  const me = await fetch(`${own.httpUrl}/api/auth/me`, { headers: { Cookie: 's=alice' } });
  expect(await me.json()).toMatchObject({ user: { id: alice.id }, sign_in: 'token' });
});

it('requests without a session, and sessions of users that do not exist, are refused', async () => {
  expect(await refusal(connect(own, {}))).toBe('401 not_signed_in');
  expect(await refusal(connect(own, { Cookie: 's=unknown' }, alice.token))).toBe('401 not_signed_in');
  expect(await refusal(connect(own, { Cookie: 's=nobody' }))).toBe('401 unknown_user');
  const client = await V1Client.connect(own.wsUrl);
  expect(await client.closed).toStrictEqual({ code: 4501, reason: 'not_signed_in' });
  expect((await fetch(`${own.httpUrl}/api/projects`)).status).toBe(401);
});

it('authenticate() takes precedence over a token; if it returns null, the token is used', async () => {
  const who = async (headers: Record<string, string>): Promise<unknown> => {
    const response = await fetch(`${both.httpUrl}/api/auth/me`, { headers });
    const { user, code } = (await response.json()) as { user?: { username: string }; code?: string };
    return user?.username ?? code;
  };
  const Authorization = `Bearer ${bob.token}`;
  expect(await who({ Cookie: 's=alice', Authorization })).toBe('alice');
  expect(await who({ Cookie: 's=unknown', Authorization })).toBe('bob');
  expect(await who({ Cookie: 's=unknown' })).toBe('token_missing');
});

it('authenticate() is not called for a page of another origin', async () => {
  const before = calls;
  const query = `project_id=${project.projectId}&env=prod`;
  const stranger = { Cookie: 's=alice', Origin: 'https://evil.example' };
  expect((await handshake(own.wsUrl, query, stranger)).status).toBe(403);
  expect(
    (await handshake(own.wsUrl, query, { ...stranger, 'Sec-WebSocket-Protocol': 'flagcast.v1' })).status,
  ).toBe(403);
  for (const path of ['projects', 'auth/me', `snapshot?${query}`, `events?${query}`]) {
    expect((await fetch(`${own.httpUrl}/api/${path}`, { headers: stranger })).status).toBe(403);
  }
  expect(calls).toBe(before);
  const listed = await handshake(own.wsUrl, query, { ...stranger, Origin: 'https://a.example' });
  expect(listed.status).toBe(101);
  listed.socket?.destroy();
});

it('a connection is closed with 4001 when the session of the host expires', async () => {
  sessions.set('s=brief', () => ({ id: alice.id, username: 'alice', expiresAtMs: Date.now() + 1_500 }));
  const client = await connect(own, { Cookie: 's=brief' });
  expect((await client.closed).code).toBe(4001);
});

it('an auth message is answered with an error if there are no tokens, and the connection stays open', async () => {
  const client = await V1Client.connect(own.wsUrl, { headers: { Cookie: 's=alice' } });
  opened.push(client);
  expect(await client.ask({ type: 'auth', token: alice.token }, 'error', 'authenticated')).toMatchObject({
    type: 'error',
    code: 'not_available',
    message: expect.stringContaining('takes no tokens') as string,
  });
  await client.caughtUp({ projectId: project.projectId, environmentId: project.environments.prod });

  const other = await V1Client.connect(both.wsUrl, { headers: { Cookie: 's=alice' } });
  opened.push(other);
  expect(await other.ask({ type: 'auth', token: alice.token }, 'error', 'authenticated')).toMatchObject({
    type: 'authenticated',
  });
});

it.each<[string, () => unknown, RegExp]>([
  [
    'throws',
    () => {
      throw new Error('no sessions: redis://u:hunter2@cache is down');
    },
    /^authenticate\(\) failed: no sessions/,
  ],
  ['rejects', async () => await Promise.reject(new Error('down')), /^authenticate\(\) failed: down$/],
  ['returns true', () => true, /^authenticate\(\) returned neither null nor a user/],
  ['returns no id', () => ({ username: 'alice' }), /returned neither/],
  ['returns an empty id', () => ({ id: '', username: 'alice' }), /returned neither/],
  ['returns a number', () => ({ id: 1, username: 'alice' }), /returned neither/],
  [
    'returns an invalid expiresAtMs',
    () => ({ id: '1', username: 'a', expiresAtMs: Infinity }),
    /returned neither/,
  ],
])('a host that %s: the response is 503, and the log has the reason', async (_, answer, text) => {
  sessions.set('s=faulty', answer);
  const failed = nextEvent(own.flagcast.lifecycle, 'access:failed');
  expect(await refusal(connect(own, { Cookie: 's=faulty' }))).toBe('503 unavailable');
  const { error } = await failed;
  expect(error.message).toMatch(text);
  expect(describeError(error)).not.toContain('hunter2');
  const client = await V1Client.connect(own.wsUrl, { headers: { Cookie: 's=faulty' } });
  expect((await client.closed).code).toBe(4005);
  const response = await fetch(`${own.httpUrl}/api/projects`, { headers: { Cookie: 's=faulty' } });
  expect(response.status).toBe(503);
  await connect(own, { Cookie: 's=alice' });
});

it('a call of a host that never resolves ends with a time-out after 5 s', async () => {
  vi.useFakeTimers();
  try {
    const answer = withTimeout('authenticate()', async () => await new Promise(() => undefined));
    const refused = expect(answer).rejects.toThrow('authenticate() failed: no answer within 5000 ms');
    await vi.advanceTimersByTimeAsync(4_999);
    const state = await Promise.race([answer.catch(() => 'given up'), Promise.resolve('waiting')]);
    expect(state).toBe('waiting');
    await vi.advanceTimersByTimeAsync(1);
    await refused;
  } finally {
    vi.useRealTimers();
  }
});

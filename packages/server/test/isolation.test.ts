import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signToken } from '../src/auth/sign-token.js';
import { Lifecycle } from '../src/lifecycle.js';
import { createLogger, logLifecycle } from '../src/operations/log.js';
import { encode, sign } from './access-tokens.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { addMember, createUser, startTestServer, type TestServer, testSecret } from './server.js';

const listedOrigin = 'https://console.example.com';
const people = ['alice', 'bob', 'carol', 'dave', 'root', 'idle'] as const;
type Person = (typeof people)[number];

let database: TestDatabase;
/** The default server: only its own origin, no token in the query string. */
let server: TestServer;
/** A server with `allowQueryToken` and one allowed origin. */
let lenient: TestServer;
let own: SeededProject;
let other: SeededProject;
const userIds = new Map<Person, string>();
/** Every token that was sent in this file, by name. */
const tokens = new Map<string, string>();
/** The payloads of all lifecycle events of the servers. */
const payloads: unknown[] = [];
const logLines: string[] = [];

function tokenOf(name: string): string {
  const token = tokens.get(name);
  if (token === undefined) throw new Error(`no token ${name}`);
  return token;
}

function recorded(): Lifecycle {
  const lifecycle = new Lifecycle();
  const emit = lifecycle.emit.bind(lifecycle);
  lifecycle.emit = (name, ...payload) => {
    payloads.push({ name, payload });
    return emit(name, ...payload);
  };
  const logger = createLogger({ human: false, output: { write: (line) => logLines.push(line) } });
  logLifecycle(logger, lifecycle);
  return lifecycle;
}

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { pool } = database;
  own = await seedProject(pool);
  other = await seedProject(pool);
  for (const name of people) {
    const options = { superuser: name === 'root', active: name !== 'idle' };
    const { id, token } = await createUser(pool, name, { ...options, ttlMs: 600_000 });
    userIds.set(name, id);
    tokens.set(name, token);
  }
  const removed = await createUser(pool, 'removed', { ttlMs: 600_000 });
  await addMember(pool, own.projectId, removed.id, 'project_owner');
  await pool.query('DELETE FROM users WHERE id = $1', [removed.id]);
  const member = async (name: Person, { projectId }: SeededProject, role: string): Promise<void> =>
    await addMember(pool, projectId, userIds.get(name) ?? '', role);
  await member('alice', own, 'project_owner');
  await member('bob', own, 'project_member');
  await member('carol', own, 'project_viewer');
  await member('idle', own, 'project_owner');
  await member('dave', other, 'project_owner');

  const key = Buffer.from(testSecret);
  const claims = { userId: Number(userIds.get('alice')), username: 'alice', type: 'access' };
  const nowS = Math.floor(Date.now() / 1_000);
  const good = { ...claims, exp: nowS + 600 };
  tokens.set('removed user', removed.token);
  tokens.set('expired', await sign({ ...claims, exp: nowS - 60 }, key));
  tokens.set('without expiry', await sign(claims, key));
  tokens.set('wrong key', await sign(good, Buffer.from('another secret that is long enough!')));
  tokens.set('alg none', `${encode({ alg: 'none', typ: 'JWT' })}.${encode(good)}.`);
  tokens.set('refresh', await sign({ ...good, type: 'refresh' }, key));
  tokens.set(
    'unknown user',
    await signToken({ secret: testSecret, userId: '999999', username: 'alice', ttlMs: 600_000 }),
  );
  tokens.set(
    'claims superuser',
    await sign({ ...good, userId: Number(userIds.get('dave')), isSuperuser: true }, key),
  );
  tokens.set('cut', tokenOf('alice').slice(0, -9));
  tokens.set('junk', 'not-a-token-at-all');

  server = await startTestServer(database.url, { lifecycle: recorded() });
  lenient = await startTestServer(database.url, {
    lifecycle: recorded(),
    auth: { secret: testSecret, allowQueryToken: true },
    network: { allowedOrigins: [listedOrigin] },
  });
});

afterAll(async () => {
  await server.close();
  await lenient.close();
  await database.drop();
});

/** `101` for an open socket, `<status> <code>` for a refusal, whose message must be one clear line. */
async function connectionResult(
  query: string,
  headers: Record<string, string> = {},
  at: TestServer = server,
): Promise<string> {
  const { status, headers: answered, body, socket } = await handshake(at.wsUrl, query, headers);
  socket?.destroy();
  expect(answered['sec-websocket-protocol']).toBeUndefined();
  if (status === 101) return '101';
  const refusal = JSON.parse(body) as Record<string, string>;
  expect(Object.keys(refusal)).toStrictEqual(['code', 'message']);
  expect(refusal['message']).toMatch(/^[A-Z][^\n]{10,}$/);
  expect(answered['content-type']).toBe('application/json; charset=utf-8');
  expect(answered['www-authenticate']).toBe(status === 401 ? 'Bearer' : undefined);
  return `${status} ${refusal['code'] ?? ''}`;
}

function asUser(name: string): Record<string, string> {
  return { Authorization: `Bearer ${tokenOf(name)}` };
}

function prodOf({ projectId }: SeededProject): string {
  return `project_id=${projectId}&env=prod`;
}

describe('who may open a channel', () => {
  const noSuchProject = '404 unknown_project';
  const noSuchEnvironment = '404 unknown_environment';
  it.each([
    //  user,   own project, other project,   unknown project,      environment unknown in own, in other
    ['alice', '101', '403 forbidden', noSuchProject, noSuchEnvironment, '403 forbidden'],
    ['bob', '101', '403 forbidden', noSuchProject, noSuchEnvironment, '403 forbidden'],
    ['carol', '101', '403 forbidden', noSuchProject, noSuchEnvironment, '403 forbidden'],
    ['dave', '403 forbidden', '101', noSuchProject, '403 forbidden', noSuchEnvironment],
    ['claims superuser', '403 forbidden', '101', noSuchProject, '403 forbidden', noSuchEnvironment],
    ['root', '101', '101', noSuchProject, noSuchEnvironment, noSuchEnvironment],
    ['idle', ...Array.from({ length: 5 }, () => '403 user_inactive')],
  ])('%s', async (name, ...expected) => {
    const queries = [
      prodOf(own),
      prodOf(other),
      `project_id=${randomUUID()}&env=prod`,
      `project_id=${own.projectId}&env=qa`,
      `project_id=${other.projectId}&env=qa`,
    ];
    const answers = await Promise.all(
      queries.map(async (query) => await connectionResult(query, asUser(name))),
    );
    expect(answers).toStrictEqual(expected);
  });

  it('may open an environment by its number only in its own project', async () => {
    const { projectId, environments } = own;
    for (const parameter of ['env_id', 'environment_id']) {
      const query = `project_id=${projectId}&${parameter}=`;
      expect(await connectionResult(`${query}${environments.stage}`, asUser('alice'))).toBe('101');
      expect(await connectionResult(`${query}${other.environments.prod}`, asUser('root'))).toBe(
        noSuchEnvironment,
      );
    }
  });
});

describe('malformed parameters of a channel', () => {
  const hostile = [
    `'`,
    `"`,
    `\\`,
    `' OR '1'='1`,
    `'; DROP TABLE users; --`,
    `$1`,
    '\0',
    '\r\n',
    '💥',
    '\u202Eprod',
    'x'.repeat(10_000),
    '0',
    '-1',
    '1e0',
    '99999999999999999999',
    'null',
    '[object Object]',
  ];

  it('match no channel and have no other effect', async () => {
    const { projectId } = own;
    for (const text of hostile) {
      const value = encodeURIComponent(text);
      const queries = {
        [`project_id=${value}&env=prod`]: '404 unknown_project',
        [`project_id=${projectId}${value}&env=prod`]: '404 unknown_project',
        [`project_id=${projectId}&env=${value}`]: '404 unknown_environment',
        [`project_id=${projectId}&env_id=${value}`]: '404 unknown_environment',
      };
      for (const [query, expected] of Object.entries(queries)) {
        expect(`${query}: ${await connectionResult(query, asUser('alice'))}`).toBe(`${query}: ${expected}`);
      }
    }
  });

  it.each([
    ['', '400 missing_parameter'],
    ['env=prod', '400 missing_parameter'],
    ['project_id=&env=prod', '400 missing_parameter'],
    ['project_id=OWN', '400 missing_parameter'],
    ['project_id=OWN&env=', '400 missing_parameter'],
    ['project_id=OWN&env_id=', '400 missing_parameter'],
    ['project_id[]=OWN&env=prod', '400 missing_parameter'],
    ['PROJECT_ID=OWN&env=prod', '400 missing_parameter'],
    ['project_id=OWN&project_id=OTHER&env=prod', '400 repeated_parameter'],
    ['project_id=OWN&env=prod&env=dev', '400 repeated_parameter'],
    ['project_id=OWN&env_id=1&env_id=1', '400 repeated_parameter'],
    ['project_id=OWN&env=prod&env_id=1', '400 conflicting_parameters'],
    ['project_id=OWN&env=&env_id=1', '400 conflicting_parameters'],
    ['project_id=OWN&env_id=1&environment_id=1', '400 conflicting_parameters'],
    ['project_id=%zz&env=%', '404 unknown_project'],
    ['project_id=OWN&env=%ff%fe', '404 unknown_environment'],
    ['project_id=OWN&env=prod&unknown=parameter', '101'],
  ])('%s: %s', async (pattern, expected) => {
    const query = pattern.replace('OWN', own.projectId).replace('OTHER', other.projectId);
    expect(await connectionResult(query, asUser('alice'))).toBe(expected);
    // Every client gets the error for malformed input. Other errors need the right to view the project.
    if (expected.startsWith('400')) expect(await connectionResult(query)).toBe(expected);
    else expect(await connectionResult(query)).toBe('401 token_missing');
  });
});

describe('an access token', () => {
  const ways: Record<
    string,
    (token: string) => { headers: Record<string, string>; query: string; at: TestServer }
  > = {
    header: (token) => ({ headers: { Authorization: `Bearer ${token}` }, query: '', at: server }),
    'subprotocol bearer.': (token) => ({
      headers: { 'Sec-WebSocket-Protocol': `chat, bearer.${token}` },
      query: '',
      at: server,
    }),
    'subprotocol token.': (token) => ({
      headers: { 'Sec-WebSocket-Protocol': `token.${token}` },
      query: '',
      at: server,
    }),
    'allowed query': (token) => ({ headers: {}, query: `&token=${token}`, at: lenient }),
    'refused query': (token) => ({ headers: {}, query: `&token=${token}`, at: server }),
  };

  const rows = [
    ['alice', '101'],
    ['expired', '401 token_expired'],
    ['without expiry', '401 token_invalid'],
    ['wrong key', '401 token_invalid'],
    ['alg none', '401 token_invalid'],
    ['cut', '401 token_invalid'],
    ['refresh', '401 token_wrong_type'],
    ['junk', '401 token_malformed'],
    ['unknown user', '401 unknown_user'],
    ['removed user', '401 unknown_user'],
  ] as const;

  it.each(Object.keys(ways))('is accepted or refused with the documented code: %s', async (way) => {
    for (const [name, expected] of rows) {
      const { headers, query, at } = ways[way]?.(tokenOf(name)) ?? {};
      if (at === undefined || headers === undefined) throw new Error(`no way ${way}`);
      const answer = await connectionResult(`${prodOf(own)}${query ?? ''}`, headers, at);
      expect(`${name}: ${answer}`).toBe(
        `${name}: ${way === 'refused query' ? '401 token_missing' : expected}`,
      );
    }
  });

  it.each([
    {},
    { Authorization: 'Basic YWxpY2U6eA==' },
    { Authorization: 'Bearer' },
    { 'Sec-WebSocket-Protocol': 'bearer.' },
  ])('is not found in %j', async (headers) => {
    expect(await connectionResult(prodOf(own), headers)).toBe('401 token_missing');
  });
});

describe('the Origin header', () => {
  it.each([
    ['no Origin', null, '101', '101'],
    ['its own origin', 'OWN', '101', '101'],
    ['a listed origin', listedOrigin, '403 origin_forbidden', '101'],
    ['another origin', 'https://evil.example', '403 origin_forbidden', '403 origin_forbidden'],
    [
      'an origin that starts like a listed one',
      `${listedOrigin}.evil.example`,
      '403 origin_forbidden',
      '403 origin_forbidden',
    ],
    ['null', 'null', '403 origin_forbidden', '403 origin_forbidden'],
  ])('is checked by default and with a list: %s', async (_, origin, byDefault, withList) => {
    for (const [at, expected] of [
      [server, byDefault],
      [lenient, withList],
    ] as const) {
      const headers: Record<string, string> =
        origin === null ? {} : { Origin: origin === 'OWN' ? at.httpUrl : origin };
      expect(await connectionResult(prodOf(own), { ...asUser('alice'), ...headers }, at)).toBe(expected);
      // A page of another origin does not learn whether the token of its user is valid.
      const withoutToken = expected === '101' ? '401 token_missing' : expected;
      expect(await connectionResult(prodOf(own), headers, at)).toBe(withoutToken);
    }
  });
});

describe('events', () => {
  it('G3: reach only the clients of their project and environment', async () => {
    const channels = [own, other].flatMap(({ projectId, environments }) =>
      Object.entries(environments).map(([key, environmentId]) => ({ projectId, environmentId, key })),
    );
    const watchers: { client: PlainClient; projectId: string; key: string }[] = [];
    for (const { projectId, environmentId, key } of channels) {
      const mine = projectId === own.projectId;
      for (const name of mine ? ['alice', 'bob', 'carol', 'root'] : ['dave', 'root']) {
        const environment = name === 'root' ? { env_id: environmentId } : { env: key };
        const query = { project_id: projectId, ...environment };
        const client = await PlainClient.connect(server.wsUrl, query, { token: tokenOf(name) });
        watchers.push({ client, projectId, key });
      }
    }
    const written = new Map(channels.map(({ projectId, key }) => [`${projectId}/${key}`, new Set<string>()]));
    const writeInto = async ({
      projectId,
      environmentId,
      key,
    }: (typeof channels)[number]): Promise<string> => {
      const { entityId } = await insertAudit(database.pool, { projectId, environmentId });
      written.get(`${projectId}/${key}`)?.add(entityId);
      return entityId;
    };
    for (let round = 0; round < 5; round += 1) await Promise.all(channels.map(writeInto));
    const last = new Set(await Promise.all(channels.map(writeInto)));

    for (const { client, projectId, key } of watchers) {
      await client.received(({ entity_id: id }) => last.has(id));
      const ids = client.messages.map((message) => message.entity_id);
      expect([...ids].sort()).toStrictEqual([...(written.get(`${projectId}/${key}`) ?? [])].sort());
      for (const message of client.messages) {
        expect(message).toMatchObject({ project_id: projectId, environment: key });
      }
    }
    await Promise.all(watchers.map(async ({ client }) => await client.close()));
  });
});

describe('secrets', () => {
  it('are not in logs or lifecycle events, not even a part of a token', async () => {
    // The worst case for an error message: the lookup of the token's user itself fails.
    await database.pool.query('ALTER TABLE users RENAME TO users_away');
    expect(await connectionResult(`${prodOf(own)}&token=${tokenOf('alice')}`, {}, lenient)).toBe(
      '503 unavailable',
    );
    await database.pool.query('ALTER TABLE users_away RENAME TO users');

    const payloadTexts = payloads.map((payload) =>
      inspect(payload, { depth: null, maxStringLength: null, maxArrayLength: null, showHidden: true }),
    );
    for (const name of ['connection:opened', 'connection:refused', 'access:failed']) {
      expect(payloadTexts.some((text) => text.includes(name))).toBe(true);
      expect(logLines.some((line) => line.includes(name.replace(':', '_')))).toBe(true);
    }
    const everything = [...payloadTexts, ...logLines].join('\n');
    for (const [name, token] of tokens) {
      // Without the header, which is the same in all tokens and not secret.
      const [, payload = token, signature = ''] = token.split('.');
      for (const part of [payload, signature]) {
        for (let start = 0; start + 8 <= part.length; start += 1) {
          const piece = part.slice(start, start + 8);
          if (everything.includes(piece))
            throw new Error(`a piece of the token "${name}" was found: ${piece}`);
        }
      }
    }
    expect(everything).not.toContain(testSecret);
  });
});

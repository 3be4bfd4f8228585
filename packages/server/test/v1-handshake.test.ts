import { randomUUID } from 'node:crypto';
import type { ClientMessage } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signToken } from '../src/auth/sign-token.js';
import { sign } from './access-tokens.js';
import { createTestDatabase, seedProject, type TestDatabase, withClient } from './database.js';
import { handshake, Refused } from './plain-client.js';
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
let server: TestServer;
let projectId: string;
/** A member of one project. */
let alice: TestUser;
let idle: TestUser;
const tokens = new Map<string, string>();

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ projectId } = await seedProject(database.pool));
  alice = await createUser(database.pool, 'alice', { ttlMs: 600_000 });
  idle = await createUser(database.pool, 'idle', { active: false });
  await addMember(database.pool, projectId, alice.id, 'project_viewer');
  const bob = await createUser(database.pool, 'bob');
  const nowS = Math.floor(Date.now() / 1_000);
  const claims = { userId: Number(alice.id), username: 'alice', type: 'access', exp: nowS + 600 };
  const key = Buffer.from(testSecret);
  tokens.set('good', alice.token);
  tokens.set('of another user', bob.token);
  tokens.set('of an inactive user', idle.token);
  tokens.set('expired', await sign({ ...claims, exp: nowS - 60 }, key));
  tokens.set('forged', await sign(claims, Buffer.from('another secret that is long enough!')));
  tokens.set('for refreshing', await sign({ ...claims, type: 'refresh' }, key));
  tokens.set('junk', 'junk');
  const unknownUser = { secret: testSecret, userId: '999999', username: 'alice', ttlMs: 60_000 };
  tokens.set('of an unknown user', await signToken(unknownUser));
  // What waits for a lock fails then: the database does not answer.
  const { name } = database;
  await database.pool.query(`ALTER DATABASE ${name} SET lock_timeout = '500ms'`);
  server = await startTestServer(database.url, { timeouts: { checkIntervalMs: 20 } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

function tokenOf(name: string): string {
  const token = tokens.get(name);
  if (token === undefined) throw new Error(`no token ${name}`);
  return token;
}

/** A client whose handshake was accepted. */
async function greeted(token = alice.token, at = server): Promise<V1Client> {
  const client = await V1Client.connect(at.wsUrl, { token });
  await client.control('hello');
  return client;
}

describe('hello', () => {
  it('is the first message, sent once, and names the user and the server', async () => {
    const client = await greeted();
    const { exp } = JSON.parse(
      Buffer.from(alice.token.split('.')[1] ?? '', 'base64url').toString('utf8'),
    ) as { exp: number };
    const beforeS = Math.floor(Date.now() / 1_000);
    const pong = await client.ask({ type: 'ping' }, 'pong');
    expect(pong.timestamp).toBeGreaterThanOrEqual(beforeS);
    expect(pong.timestamp).toBeLessThanOrEqual(Date.now() / 1_000);
    expect(Object.keys(pong)).toStrictEqual(['type', 'timestamp']);
    expect(client.withoutHeartbeats).toStrictEqual([
      {
        type: 'hello',
        protocol: 'flagcast.v1',
        server: expect.stringMatching(/^[\w-]{10,}$/) as string,
        user_id: alice.id,
        username: 'alice',
        token_expires_at: new Date(exp * 1_000).toISOString(),
        heartbeat_interval_ms: 13_500,
        max_channels: 32,
        guarantee: 'exact',
        guarantee_reason: 'event_log',
        overlap_ms: null,
        embedded_state: true,
        presence: true,
      },
      pong,
    ]);
    await client.close();
  });

  it('is sent with the subprotocol, which never repeats the token', async () => {
    const offered = `bearer.${alice.token}, chat, flagcast.v1`;
    const { status, headers, socket } = await handshake(server.wsUrl, '', {
      'Sec-WebSocket-Protocol': offered,
    });
    socket?.destroy();
    expect(status).toBe(101);
    expect(headers['sec-websocket-protocol']).toBe('flagcast.v1');
    expect(JSON.stringify(headers)).not.toContain(alice.token.slice(-20));
  });
});

describe('a refusal of a flagcast.v1 client', () => {
  const own = (): string => `project_id=${projectId}&env=prod`;
  const rows: [what: string, token: string | null, query: () => string, code: number, reason: string][] = [
    ['without a token', null, own, 4501, 'token_missing'],
    ['with a token that is junk', 'junk', own, 4501, 'token_malformed'],
    ['with a forged token', 'forged', own, 4501, 'token_invalid'],
    ['with a token for refreshing', 'for refreshing', own, 4501, 'token_wrong_type'],
    ['with a token of an unknown user', 'of an unknown user', own, 4501, 'unknown_user'],
    ['with an expired token', 'expired', own, 4001, 'token_expired'],
    ['of an inactive user', 'of an inactive user', own, 4503, 'user_inactive'],
    ['of a stranger', 'of another user', own, 4503, 'forbidden'],
    ['of an unknown project', 'good', () => `project_id=${randomUUID()}&env=prod`, 4504, 'unknown_project'],
    [
      'of an unknown environment',
      'good',
      () => `project_id=${projectId}&env=qa`,
      4504,
      'unknown_environment',
    ],
    ['of half a channel', 'good', () => `project_id=${projectId}`, 4500, 'missing_parameter'],
    ['of the other half', 'good', () => 'env=prod', 4500, 'missing_parameter'],
    ['of a number alone', 'good', () => 'env_id=1', 4500, 'missing_parameter'],
    ['of a cursor alone', 'good', () => 'cursor=abc', 4500, 'missing_parameter'],
    ['of two environments', 'good', () => `${own()}&env_id=1`, 4500, 'conflicting_parameters'],
    ['of two projects', 'good', () => `${own()}&project_id=x`, 4500, 'repeated_parameter'],
    ['of two cursors', 'good', () => `${own()}&cursor=a&cursor=b`, 4500, 'repeated_parameter'],
  ];
  it.each(rows)('%s (%s) is sent as a close code', async (_, token, query, code, reason) => {
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    const client = await V1Client.connect(server.wsUrl, {
      token: token === null ? undefined : tokenOf(token),
      query: query(),
    });
    expect(await client.closed).toStrictEqual({ code, reason });
    expect((await refused).code).toBe(reason);
    // With a valid token, hello is sent before the channel is refused.
    const types = client.withoutHeartbeats.map((message) => message.type);
    expect(types).toStrictEqual(code === 4504 || reason === 'forbidden' ? ['hello'] : []);
  });

  it('has the code 4003 at the limit of connections, and a closed connection frees its slot', async () => {
    const small = await startTestServer(database.url, { limits: { connectionsPerUser: 2 } });
    const clients = [await greeted(alice.token, small), await greeted(alice.token, small)];
    const third = await V1Client.connect(small.wsUrl, { token: alice.token });
    expect(await third.closed).toStrictEqual({ code: 4003, reason: 'too_many_user' });
    const left = nextEvent(small.flagcast.lifecycle, 'connection:closed');
    await clients[0]?.close();
    await left;
    await greeted(alice.token, small);
    await small.close();
  });

  it('has the code 4005 while the database does not answer', async () => {
    for (const handshakeTimeoutMs of [100, 10_000]) {
      const impatient = await startTestServer(database.url, { timeouts: { handshakeTimeoutMs } });
      const closed = await withClient(database.url, async (client) => {
        await client.query('BEGIN; LOCK TABLE users');
        return await (
          await V1Client.connect(impatient.wsUrl, { token: alice.token })
        ).closed;
      });
      expect(closed).toStrictEqual({ code: 4005, reason: 'unavailable' });
      await impatient.close();
    }
  });

  it('is an HTTP response for a page of another origin, and while the server drains', async () => {
    const refusal = async (at: TestServer, headers: Record<string, string> = {}): Promise<unknown> =>
      await V1Client.connect(at.wsUrl, { token: alice.token, headers }).catch((error: unknown) => error);
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    const foreign = (await refusal(server, { Origin: 'https://evil.example' })) as Refused;
    expect(foreign).toBeInstanceOf(Refused);
    const problem = {
      code: 'origin_forbidden',
      message:
        'Pages of the origin https://evil.example may not use this server: add it to FLAGCAST_ALLOWED_ORIGINS',
    };
    expect([foreign.status, foreign.body]).toStrictEqual([403, problem]);
    // The log has it, too.
    expect(await refused).toMatchObject(problem);

    const leaving = await startTestServer(database.url);
    const client = await greeted(alice.token, leaving);
    const closing = leaving.flagcast.close();
    const late = (await refusal(leaving)) as Refused;
    expect([late.status, late.body.code]).toStrictEqual([503, 'draining']);
    expect(late.headers['retry-after']).toBe('1');
    expect(await client.closed).toStrictEqual({ code: 4000, reason: 'draining' });
    await closing;
    await leaving.close();
  });
});

describe('an auth message', () => {
  it('G9: keeps the connection open after the old token expires', async () => {
    const options = { secret: testSecret, userId: alice.id, username: 'alice' };
    const short = await signToken({ ...options, ttlMs: 4_000 });
    const renewed = await V1Client.connect(server.wsUrl, { token: short });
    const forgetful = await V1Client.connect(server.wsUrl, { token: short });
    const { token_expires_at: before } = await renewed.control('hello');
    const answer = await renewed.ask({ type: 'auth', token: alice.token }, 'authenticated');
    expect(Object.keys(answer)).toStrictEqual(['type', 'token_expires_at']);
    expect(Date.parse(answer.token_expires_at)).toBeGreaterThan(Date.parse(before) + 60_000);
    expect(await forgetful.closed).toStrictEqual({ code: 4001, reason: 'token_expired' });
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(before));
    await renewed.ask({ type: 'ping' }, 'pong');
    await renewed.close();
  });

  it('can shorten the connection', async () => {
    const options = { secret: testSecret, userId: alice.id, username: 'alice' };
    const client = await V1Client.connect(server.wsUrl, { token: alice.token });
    await client.ask({ type: 'auth', token: await signToken({ ...options, ttlMs: 1_000 }) }, 'authenticated');
    expect((await client.closed).code).toBe(4001);
  });

  it.each([
    ['of another user', 4501, 'other_user'],
    ['forged', 4501, 'token_invalid'],
    ['for refreshing', 4501, 'token_wrong_type'],
    ['expired', 4001, 'token_expired'],
    ['of an inactive user', 4503, 'user_inactive'],
  ])('with a token %s closes the connection with %i', async (name, code, reason) => {
    const client = await greeted();
    client.send({ type: 'auth', token: tokenOf(name) });
    expect(await client.closed).toStrictEqual({ code, reason });
    expect(client.texts.join()).not.toContain(tokenOf(name));
  });

  it('does not end the old token while the database does not answer', async () => {
    const client = await greeted();
    const { code } = await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE users');
      return await client.ask({ type: 'auth', token: alice.token }, 'error');
    });
    expect(code).toBe('unavailable');
    await client.ask({ type: 'auth', token: alice.token }, 'authenticated');
    await client.close();
  });
});

describe('G10: a client that violates the protocol', () => {
  it('gets nine errors, and is closed after the tenth malformed message', async () => {
    const client = await greeted();
    const junk = [
      '',
      'x',
      '[]',
      'null',
      '{}',
      '{"type":"nope"}',
      '{"type":"ping","x":"1"}',
      '"',
      '{',
      '{"type":1}',
    ];
    for (const text of junk) client.socket.send(text);
    expect(await client.closed).toStrictEqual({ code: 4505, reason: 'bad_message' });
    const errors = client.withoutHeartbeats.slice(1);
    expect(errors).toHaveLength(9);
    for (const error of errors) {
      expect(error).toStrictEqual({
        type: 'error',
        code: 'bad_message',
        message: expect.stringMatching(/^[^\n]{10,}$/) as string,
      });
    }
  });

  it('is closed immediately for a binary message', async () => {
    const client = await greeted();
    client.socket.send(Buffer.from('{"type":"ping"}'));
    expect((await client.closed).code).toBe(4505);
    expect(client.withoutHeartbeats).toHaveLength(1);
  });

  it('is closed for more than 100 messages in 10 s', async () => {
    const client = await V1Client.connect(server.wsUrl, { token: alice.token });
    const ping: ClientMessage = { type: 'ping' };
    for (let count = 0; count < 100; count += 1) client.send(ping);
    for (let count = 0; count < 100; count += 1) await client.control('pong', 1 + count);
    client.send(ping);
    expect(await client.closed).toStrictEqual({ code: 4505, reason: 'too_many_messages' });
    expect(client.withoutHeartbeats).toHaveLength(101);
  });

  it('is closed for a message of more than 16,384 bytes', async () => {
    const client = await greeted();
    client.socket.send('{"type":"ping"}'.padEnd(16_384));
    await client.control('pong');
    client.socket.send('{"type":"ping"}'.padEnd(16_385));
    expect((await client.closed).code).toBe(1009);
  });
});

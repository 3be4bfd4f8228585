import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TableAuthorization } from '../src/auth/table-authorization.js';
import type { FlagcastOptions } from '../src/flagcast-options.js';
import { NOW_S, sign, type TestClaims } from './access-tokens.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { send } from './rest-fixture.js';
import { startTestServer, testSecret } from './server.js';

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const issued = { issuer: 'https://id.example', audience: 'flagcast' };
let database: TestDatabase;
let provider: Server;
let jwksUrl: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  await database.pool.query(
    `INSERT INTO users (id, username, email, password_hash, is_superuser)
     VALUES (1, 'root', 'root@example.com', '', true), (77, 'ada', 'ada@example.com', '', false)`,
  );
  const keys = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig' }] };
  provider = createServer((_, response) => void response.end(JSON.stringify(keys))).listen(0, '127.0.0.1');
  await once(provider, 'listening');
  jwksUrl = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/keys`;
});

afterAll(async () => {
  provider.closeAllConnections();
  provider.close();
  await database.drop();
});

/** What GET /api/auth/me answers to a token of the identity provider with these claims. */
async function me(userClaim: string, claims: TestClaims): Promise<string> {
  const auth: FlagcastOptions['auth'] = { ...issued, jwksUrl, userClaim };
  const server = await startTestServer(database.url, { auth });
  try {
    const payload = { iss: issued.issuer, aud: issued.audience, exp: NOW_S + 3_600, ...claims };
    const token = await sign(payload, privateKey, { alg: 'ES256', kid: 'one', typ: 'at+jwt' });
    const { status, body } = await send(server.httpUrl, 'GET', '/api/auth/me', undefined, {
      Authorization: `Bearer ${token}`,
    });
    const user = body['user'] as { username: string } | undefined;
    return `${status} ${user?.username ?? body.code ?? ''}`;
  } finally {
    await server.close();
  }
}

describe('a token of an identity provider', () => {
  const stranger = { sub: '1', email: 'stranger@example.com', preferred_username: 'stranger' };

  it.each([
    ['email:email', stranger, '401 unknown_user'],
    ['preferred_username:username', stranger, '401 unknown_user'],
    ['sub:username', stranger, '401 unknown_user'],
    ['employee:id', stranger, '401 token_invalid'],
    ['employee:id', { ...stranger, userId: 1 }, '401 token_invalid'],
    ['email:email', { sub: '1', email: 'ada@example.com' }, '200 ada'],
    ['email:email', { sub: '1', email: 'ADA@example.com' }, '401 unknown_user'],
    ['email:email', { sub: '1', email: 'ada@example.com', email_verified: false }, '401 token_invalid'],
    ['preferred_username:username', { sub: '1', preferred_username: 'ada' }, '200 ada'],
    ['employee:id', { sub: '1', employee: 77 }, '200 ada'],
    ['sub:id', { sub: '1' }, '200 root'],
    ['sub:id', { sub: '77', iss: 'https://evil.example' }, '401 token_invalid'],
    ['sub:id', { sub: '77', aud: 'another service' }, '401 token_invalid'],
    ['sub:id', { sub: '77', nonce: 'of an ID token' }, '401 token_wrong_type'],
    ['sub:id', { sub: '77', exp: 8.7e12 }, '401 token_invalid'],
  ])('identifies its user only by %s: %j', async (userClaim, claims, expected) => {
    expect(await me(userClaim, claims)).toBe(expected);
  });
});

it('a token with a time beyond the range of Date is refused with 401', async () => {
  const server = await startTestServer(database.url);
  for (const exp of [8.7e12, 9e12]) {
    const token = await sign({ userId: 77, type: 'access', exp }, Buffer.from(testSecret));
    const answer = await send(server.httpUrl, 'GET', '/api/auth/me', undefined, {
      Authorization: `Bearer ${token}`,
    });
    expect(answer).toMatchObject({ status: 401, body: { code: 'token_invalid' } });
  }
  await server.close();
});

describe('the user of a token', () => {
  it('is found by the exact name or address, with any collation of the column', async () => {
    const own = await createTestDatabase({ schema: 'tables' });
    try {
      await own.pool.query(`
        CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        ALTER TABLE users ALTER email TYPE varchar(255) COLLATE any_case;
        ALTER TABLE users ALTER username TYPE varchar(255) COLLATE any_case;
        INSERT INTO users (username, email, password_hash) VALUES ('ada', 'ada@example.com', '')`);
      const there = new TableAuthorization(own.pool);
      expect(await there.findUser({ user: { email: 'ada@example.com' } })).toMatchObject({ username: 'ada' });
      expect(await there.findUser({ user: { email: 'Ada@example.com' } })).toBeNull();
      expect(await there.findUser({ user: { username: 'ADA' } })).toBeNull();
    } finally {
      await own.drop();
    }
  });

  it('is not found by an address that several users have', async () => {
    const own = await createTestDatabase({ schema: 'tables' });
    try {
      await own.pool.query(`
        ALTER TABLE users DROP CONSTRAINT users_email_key;
        INSERT INTO users (username, email, password_hash)
        VALUES ('ada', 'team@example.com', ''), ('eve', 'team@example.com', ''), ('bob', 'bob@example.com', '')`);
      const there = new TableAuthorization(own.pool);
      const found = ['team@example.com', 'bob@example.com', 'team@example.com'].map(
        async (email) => await there.findUser({ user: { email } }),
      );
      expect(await Promise.all(found)).toMatchObject([null, { username: 'bob' }, null]);
    } finally {
      await own.drop();
    }
  });
});

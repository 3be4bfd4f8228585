import { afterEach, describe, expect, it, vi } from 'vitest';
import { signToken } from '../../src/auth/sign-token.js';
import { createTokenVerifier } from '../../src/auth/token-verifier.js';
import { parseUserClaim } from '../../src/auth/user-claim.js';
import { CLAIMS, expectRefused, NOW_S, SECRET, sign } from '../access-tokens.js';
import type { TestClaims } from '../access-tokens.js';

afterEach(() => vi.useRealTimers());

describe('a verifier', () => {
  const verifier = createTokenVerifier({ secret: SECRET });

  it.each(['JWT', 'jwt', 'at+jwt', 'application/at+jwt'])('accepts the header typ %s', async (typ) => {
    await verifier.verify(await sign(CLAIMS, Buffer.from(SECRET), { alg: 'HS256', typ }));
  });

  it.each(['dpop+jwt', 'logout+jwt', 'secevent+jwt', 'ID', '', 7, null, ['JWT']])(
    'refuses the header typ %j',
    async (typ) => {
      const token = await sign(CLAIMS, Buffer.from(SECRET), { alg: 'HS256', typ });
      await expectRefused(verifier, token, 'token_wrong_type');
    },
  );

  it.each<TestClaims>([{ typ: 'Bearer' }, { typ: 'at+jwt' }, { token_use: 'access' }])(
    "accepts an identity provider's access token with %j",
    async (claims) => {
      await verifier.verify(await sign({ ...CLAIMS, ...claims }));
    },
  );

  it.each<[string, TestClaims]>([
    ['the ID token of OpenID Connect, by its nonce', { nonce: 'n-0S6_WzA2Mj' }],
    ['the ID token of OpenID Connect, by at_hash', { at_hash: 'MTIzNDU2Nzg5MDEyMzQ1Ng' }],
    ['the ID token of OpenID Connect, by c_hash', { c_hash: 'MTIzNDU2Nzg5MDEyMzQ1Ng' }],
    ['a security event', { events: {} }],
    ["Keycloak's ID token", { typ: 'ID' }],
    ["Keycloak's refresh token", { typ: 'Refresh' }],
    ["Keycloak's offline token", { typ: 'Offline' }],
    ["Cognito's ID token", { token_use: 'id' }],
    ['a token with the use null', { token_use: null }],
    ['a token that is bound to a key', { cnf: { jkt: 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs' } }],
  ])('refuses %s', async (_, claims) => {
    const token = await sign({ ...CLAIMS, ...claims });
    const error = await expectRefused(verifier, token, 'token_wrong_type');
    expect(error.message).toMatch(/: send /);
  });

  it.each([8.64e12, 9e12, 1e300])('refuses exp %d, which is beyond the range of Date', async (exp) => {
    // The latest Date of JavaScript is 8.64e12 s.
    await expectRefused(verifier, await sign({ ...CLAIMS, exp: exp + 1 }), 'token_invalid');
  });

  it.each<[string, TestClaims]>([
    ['counted from iat', { iat: NOW_S - 3_600, exp: NOW_S + 82_801 + 60 }],
    ['counted from now where iat is missing', { exp: NOW_S + 86_400 + 3_600 }],
    ['counted from now where iat is in the future', { iat: NOW_S + 900_000, exp: NOW_S + 900_060 }],
    ['issued before the range of Date', { iat: -1e300, exp: NOW_S + 3_600 }],
  ])('refuses a token that lasts longer than a day, %s', async (_, claims) => {
    const error = await expectRefused(verifier, await sign({ ...CLAIMS, ...claims }), 'token_invalid');
    expect(error.message).toBe(
      'The token lasts longer than the 86400 s that this server accepts: send one that expires sooner',
    );
  });

  it('accepts a token that lasts a day, and longer ones if it is configured to', async () => {
    await verifier.verify(await sign({ ...CLAIMS, iat: NOW_S - 600, exp: NOW_S + 85_800 }));
    const patient = createTokenVerifier({ secret: SECRET, maxTokenAgeMs: 7 * 86_400_000 });
    await patient.verify(await sign({ ...CLAIMS, exp: NOW_S + 6 * 86_400 }));
    const strict = createTokenVerifier({ secret: SECRET, maxTokenAgeMs: 900_000 });
    await expectRefused(strict, await sign({ ...CLAIMS, exp: NOW_S + 3_600 }), 'token_invalid');
  });
});

describe('the claim of the user', () => {
  it.each<[string, TestClaims, object]>([
    ['sub:id', { sub: '42', userId: 7 }, { id: '42' }],
    ['sub:id', { sub: 42 }, { id: '42' }],
    ['userId:id', { sub: '42', userId: 7 }, { id: '7' }],
    ['sub:username', { sub: '42' }, { username: '42' }],
    ['preferred_username:username', { sub: '1', preferred_username: 'ada' }, { username: 'ada' }],
    ['email:email', { sub: '1', email: 'ada@example.com' }, { email: 'ada@example.com' }],
    ['email:email', { email: 'ada@example.com', email_verified: true }, { email: 'ada@example.com' }],
    ['email:email', { email: 'ada@example.com', email_verified: 'true' }, { email: 'ada@example.com' }],
    ['https://example.com/user:username', { 'https://example.com/user': 'ada' }, { username: 'ada' }],
  ])('finds the user by %s in %j', async (userClaim, claims, user) => {
    const verifier = createTokenVerifier({ secret: SECRET, userClaim });
    expect(await verifier.verify(await sign({ exp: NOW_S + 3_600, ...claims }))).toMatchObject({ user });
  });

  const unverified: string = 'token_invalid';
  it.each<[string, TestClaims, string, string]>([
    ['sub:id', { userId: 1 }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: 'ada', userId: 1 }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: '007' }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: '1 ' }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: -1 }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: 1.5 }, 'token_invalid', 'names no user'],
    ['sub:id', { sub: ['1'] }, 'token_invalid', 'names no user'],
    ['sub:username', { sub: 1 }, 'token_invalid', 'names no user'],
    ['sub:username', { sub: '' }, 'token_invalid', 'names no user'],
    ['constructor:username', { sub: 'ada' }, 'token_invalid', 'names no user'],
    ['email:email', { sub: '1' }, 'token_invalid', 'names no user'],
    ['email:email', { email: 'ada@example.com', email_verified: false }, unverified, 'not verified'],
    ['email:email', { email: 'ada@example.com', email_verified: 'false' }, unverified, 'not verified'],
    ['email:email', { email: 'ada@example.com', email_verified: null }, unverified, 'not verified'],
    ['email:username', { email: 'ada@example.com', email_verified: false }, unverified, 'not verified'],
    ['upn:email', { upn: 'ada@example.com', email_verified: 0 }, unverified, 'not verified'],
  ])('finds no user by %s in %j', async (userClaim, claims, code, message) => {
    const verifier = createTokenVerifier({ secret: SECRET, userClaim });
    const error = await expectRefused(verifier, await sign({ exp: NOW_S + 3_600, ...claims }), code);
    expect(error.message).toContain(message);
  });

  it.each(['', ':', 'sub:', ':id', 'sub:name', 'sub:ID', 'sub: id', 'a b:id', 'exp:id', 'type:username'])(
    'is refused as %j',
    (text) => {
      expect(() => parseUserClaim(text)).toThrow(/write claim:column, such as sub:id, /);
    },
  );

  it.each([
    ['userId:id', { id: '7' }],
    ['sub:id', { id: '7' }],
    ['sub:username', { username: 'ada' }],
    ['preferred_username:username', { username: 'ada' }],
    ['email:email', { email: 'ada@example.com' }],
  ])('is in the tokens that the server signs, as %s', async (userClaim, user) => {
    const checks = { issuer: 'https://flagcast.example', audience: 'flagcast', userClaim };
    const token = await signToken({
      secret: SECRET,
      userId: '7',
      username: 'ada',
      email: 'ada@example.com',
      ttlMs: 60_000,
      ...checks,
    });
    expect(await createTokenVerifier({ secret: SECRET, ...checks }).verify(token)).toMatchObject({ user });
  });

  it("has no column if and only if the users are not in Togglr's tables", async () => {
    const own = createTokenVerifier({ secret: SECRET, externalUsers: true, userClaim: 'email' });
    const token = await sign({ exp: NOW_S + 3_600, sub: '1', email: 'ada@example.com' });
    expect(await own.verify(token)).toMatchObject({ user: { id: 'ada@example.com' } });
    expect(() => createTokenVerifier({ secret: SECRET, externalUsers: true, userClaim: 'sub:id' })).toThrow(
      /"sub:id" compares with a column of Togglr's users/,
    );
    expect(() => createTokenVerifier({ secret: SECRET, userClaim: 'sub' })).toThrow(
      /"sub" does not name the column/,
    );
  });
});

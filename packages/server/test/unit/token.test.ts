import { createHmac, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { signToken } from '../../src/auth/sign-token.js';
import { createTokenVerifier } from '../../src/auth/token-verifier.js';
import { HttpProblem } from '../../src/http-problem.js';
import { CLAIMS, encode, expectRefused, NOW_S, SECRET, sign, type TestClaims } from '../access-tokens.js';
import { anyCharacter } from '../../../../testing/testkit/any-character.ts';

afterEach(() => vi.useRealTimers());

describe('a verifier with a secret', () => {
  const verifier = createTokenVerifier({ secret: SECRET });

  it("identifies the user of Togglr's tokens and ignores their rights", async () => {
    expect(await verifier.verify(await sign({ ...CLAIMS, isSuperuser: true }))).toStrictEqual({
      user: { id: '7' },
      username: 'ada.lovelace',
      expiresAtMs: (NOW_S + 3_600) * 1_000,
    });
  });

  it.each([
    [{ sub: '42' }, { id: '42' }, null],
    [{ sub: 'ada@example.com' }, { username: 'ada@example.com' }, 'ada@example.com'],
    [{ sub: '4x2' }, { username: '4x2' }, '4x2'],
    [{ sub: 'ada', userId: 7 }, { id: '7' }, null],
    [{ sub: '42', username: 'ada' }, { id: '42' }, 'ada'],
  ])('identifies the user of a standard token: %j', async (claims, user, username) => {
    const identity = await verifier.verify(await sign({ ...claims, exp: NOW_S + 3_600 }));
    expect(identity).toMatchObject({ user, username });
  });

  it('accepts tokens of signToken until they expire', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW_S * 1_000 });
    const token = await signToken({ secret: SECRET, userId: '7', username: 'ada', ttlMs: 60_000 });
    const identity = await verifier.verify(token);
    expect(identity).toMatchObject({ user: { id: '7' }, username: 'ada', expiresAtMs: (NOW_S + 60) * 1_000 });
    vi.setSystemTime((NOW_S + 66) * 1_000);
    await expectRefused(verifier, token, 'token_expired');
  });

  it('allows a clock difference of five seconds', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW_S * 1_000 });
    await verifier.verify(await sign({ ...CLAIMS, exp: NOW_S - 4 }));
    await expectRefused(verifier, await sign({ ...CLAIMS, exp: NOW_S - 5 }), 'token_expired');
    await verifier.verify(await sign({ ...CLAIMS, nbf: NOW_S + 5 }));
    await expectRefused(verifier, await sign({ ...CLAIMS, nbf: NOW_S + 6 }), 'token_invalid');
  });

  it.each<[string, TestClaims, string, string]>([
    ['expired', { exp: NOW_S - 60 }, 'token_expired', 'has expired'],
    ['without exp', { exp: undefined }, 'token_invalid', 'has no expiry'],
    ['with a text for exp', { exp: 'never' }, 'token_invalid', 'not a number'],
    ['with a null for exp', { exp: null }, 'token_invalid', 'not a number'],
    ['with an exp beyond the range of Date', { exp: 1e300 }, 'token_invalid', 'not a time'],
    ['not valid yet', { nbf: NOW_S + 600 }, 'token_invalid', 'not valid yet'],
    ['to refresh', { type: 'refresh' }, 'token_wrong_type', 'not an access token'],
    ['to reset a password', { type: 'reset_password' }, 'token_wrong_type', 'not an access token'],
    ['of a type with capitals', { type: 'Access' }, 'token_wrong_type', 'not an access token'],
    ['of the type null', { type: null }, 'token_wrong_type', 'not an access token'],
    ['of two types', { type: ['access'] }, 'token_wrong_type', 'not an access token'],
    ['without a user', { userId: undefined }, 'token_invalid', 'names no user'],
    ['of an empty sub', { userId: undefined, sub: '' }, 'token_invalid', 'names no user'],
    ['of a userId as text', { userId: '7', sub: '8' }, 'token_invalid', 'not a whole number'],
    ['of a user with a fraction', { userId: 7.5 }, 'token_invalid', 'not a whole number'],
    ['of a negative user', { userId: -7 }, 'token_invalid', 'not a whole number'],
    ['of the user null', { userId: null, sub: '8' }, 'token_invalid', 'not a whole number'],
  ])('refuses a token %s', async (_, claims, code, message) => {
    const error = await expectRefused(verifier, await sign({ ...CLAIMS, ...claims }), code);
    expect(error.message).toContain(message);
  });

  it('refuses a token signed with another secret', async () => {
    const forged = await sign(CLAIMS, Buffer.from(`${SECRET}!`));
    await expectRefused(verifier, forged, 'token_invalid');
  });

  it('refuses a token whose claims were changed after signing', async () => {
    const [header, , signature] = (await sign(CLAIMS)).split('.');
    const changed = `${header ?? ''}.${encode({ ...CLAIMS, userId: 1 })}.${signature ?? ''}`;
    await expectRefused(verifier, changed, 'token_invalid');
  });

  it.each(['none', 'None', 'NONE', ''])('refuses alg %j', async (alg) => {
    const unsigned = `${encode({ alg, typ: 'JWT' })}.${encode(CLAIMS)}.`;
    const error: unknown = await verifier.verify(unsigned).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(HttpProblem);
    expect(['token_invalid', 'token_malformed']).toContain((error as HttpProblem).code);
  });

  it('refuses all algorithms except HS256, also with the right secret', async () => {
    const longSecret = SECRET.repeat(2);
    const long = createTokenVerifier({ secret: longSecret });
    await long.verify(await sign(CLAIMS, Buffer.from(longSecret)));
    for (const alg of ['HS384', 'HS512']) {
      await expectRefused(long, await sign(CLAIMS, Buffer.from(longSecret), { alg }), 'token_invalid');
    }
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await expectRefused(verifier, await sign(CLAIMS, privateKey, { alg: 'ES256' }), 'token_invalid');
  });

  it.each([
    ['words', 'not a token at all'],
    ['two parts', 'eyJhbGciOiJIUzI1NiJ9.e30'],
    ['empty parts', '..'],
    ['a header that is not JSON', 'bm9uc2Vuc2U.bm9uc2Vuc2U.bm9uc2Vuc2U'],
    ['100 kB of letters', 'x'.repeat(100_000)],
    ['100 kB of a token', `${encode({ alg: 'HS256' })}.${'x'.repeat(100_000)}.x`],
    ['100 kB of dots', '.'.repeat(100_000)],
  ])('refuses %s as malformed', async (_, token) => {
    await expectRefused(verifier, token, 'token_malformed');
  });

  it('refuses a signed text without claims as malformed', async () => {
    const signed = `${encode({ alg: 'HS256' })}.${Buffer.from('"claims"').toString('base64url')}`;
    const signature = createHmac('sha256', SECRET).update(signed).digest('base64url');
    await expectRefused(verifier, `${signed}.${signature}`, 'token_malformed');
  });

  it('refuses a valid token that is too long', async () => {
    const error = await expectRefused(
      verifier,
      await sign({ ...CLAIMS, groups: 'x'.repeat(20_000) }),
      'token_malformed',
    );
    expect(error.message).toContain('longer than 16384 characters');
  });

  it('reports a missing token', async () => {
    const error = await expectRefused(verifier, '', 'token_missing');
    expect(error.message).toContain('Authorization: Bearer');
  });

  it('returns a problem for any invalid text', async () => {
    const part = fc.oneof(
      fc.string({ unit: anyCharacter }),
      fc.json().map((json) => Buffer.from(json).toString('base64url')),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 5 }), async (parts) => {
        await expect(verifier.verify(parts.join('.'))).rejects.toBeInstanceOf(HttpProblem);
      }),
    );
  });

  it('accepts only its issuer and audience if they are set', async () => {
    const strict = createTokenVerifier({
      secret: SECRET,
      issuer: 'https://id.example',
      audience: 'flagcast',
    });
    await strict.verify(await sign({ ...CLAIMS, iss: 'https://id.example', aud: ['other', 'flagcast'] }));
    for (const claims of [
      { aud: 'flagcast' },
      { iss: 'https://id.example' },
      { iss: 'https://id.example', aud: 'other' },
      { iss: 'https://evil.example', aud: 'flagcast' },
    ]) {
      const error = await expectRefused(strict, await sign({ ...CLAIMS, ...claims }), 'token_invalid');
      expect(error.message).toContain('for another service');
    }
  });

  it('refuses a secret under 32 bytes when it is created, without showing it', () => {
    const short = 'only-thirty-one-bytes-of-secret';
    expect(() => createTokenVerifier({ secret: short })).toThrow(
      /^The JWT secret has 31 bytes: use at least 32/,
    );
    expect(() => createTokenVerifier({ secret: short })).not.toThrow(short);
    expect(() => createTokenVerifier({ secret: 'é'.repeat(16) })).not.toThrow();
  });
});

describe('signToken', () => {
  const valid = { secret: SECRET, userId: '7', username: 'ada', ttlMs: 60_000 };

  it("writes Togglr's claims and sub", async () => {
    const [header, payload] = (await signToken(valid)).split('.');
    expect(JSON.parse(Buffer.from(header ?? '', 'base64url').toString())).toStrictEqual({
      alg: 'HS256',
      typ: 'JWT',
    });
    const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString()) as { iat: number };
    expect(claims).toStrictEqual({
      userId: 7,
      username: 'ada',
      type: 'access',
      sub: '7',
      iat: expect.any(Number) as number,
      exp: claims.iat + 60,
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
    });
  });

  it.each([
    [{ secret: 'short' }, 'The JWT secret has 5 bytes'],
    [{ userId: 'ada' }, 'not a number of users.id'],
    [{ userId: '9'.repeat(20) }, 'not a number of users.id'],
    [{ ttlMs: 999 }, 'A token cannot last 999 ms'],
    [{ ttlMs: Number.NaN }, 'A token cannot last NaN ms'],
  ])('refuses %j', async (wrong, message) => {
    await expect(signToken({ ...valid, ...wrong })).rejects.toThrow(message);
  });
});

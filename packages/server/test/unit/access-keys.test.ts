import { generateKeyPairSync, randomUUID } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createKeySet } from '../../src/auth/key-set.js';
import { createTokenVerifier } from '../../src/auth/token-verifier.js';
import type { TokenVerifier } from '../../src/auth/token-verifier.js';
import { CLAIMS as TOGGLR_CLAIMS, encode, expectRefused, NOW_S, SECRET, sign } from '../access-tokens.js';
import type { TestClaims } from '../access-tokens.js';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('a verifier with a key set', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ed = generateKeyPairSync('ed25519');
  const otherEc = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  function jwk(pair: { publicKey: KeyObject }, kid?: string): object {
    return { ...pair.publicKey.export({ format: 'jwk' }), use: 'sig', ...(kid === undefined ? {} : { kid }) };
  }
  const issued = { issuer: 'https://id.example', audience: 'flagcast' };
  const CLAIMS = { ...TOGGLR_CLAIMS, iss: issued.issuer, aud: issued.audience };
  const allKeys = { keys: [jwk(rsa, 'rsa'), jwk(ec, 'ec'), jwk(ed, 'ed')] };

  /** A real key endpoint. It counts requests; `answer` may change between two requests. */
  async function serveKeys(answer: (response: ServerResponse) => void): Promise<{
    url: string;
    verifier: TokenVerifier;
    state: { fetches: number; answer: (response: ServerResponse) => void };
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
  }> {
    const state = { fetches: 0, answer };
    const server = createServer((_, response) => {
      state.fetches += 1;
      state.answer(response);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const close = async (): Promise<void> => {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    };
    const url = `http://127.0.0.1:${port}/keys`;
    const verifier = createTokenVerifier({ ...issued, jwksUrl: url, userClaim: 'userId:id' });
    return { url, verifier, state, close, [Symbol.asyncDispose]: close };
  }
  const answerJson =
    (body: unknown, status = 200) =>
    (response: ServerResponse): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };

  /** Moves the monotonic clock, by which the pauses between failed fetches are counted. */
  function fakeClock(): { advance: (ms: number) => void } {
    let nowMs = performance.now();
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
    return { advance: (ms) => (nowMs += ms) };
  }

  it.each([
    ['RS256', rsa, 'rsa'],
    ['PS256', rsa, 'rsa'],
    ['ES256', ec, 'ec'],
    ['EdDSA', ed, 'ed'],
  ])('accepts %s', async (alg, pair, kid) => {
    await using keys = await serveKeys(answerJson(allKeys));
    const identity = await keys.verifier.verify(await sign(CLAIMS, pair.privateKey, { alg, kid }));
    expect(identity.user).toStrictEqual({ id: '7' });
  });

  it('refuses tokens that no key of the set has signed', async () => {
    await using keys = await serveKeys(answerJson(allKeys));
    const publicPem = Buffer.from(rsa.publicKey.export({ type: 'spki', format: 'pem' }));
    const publicDer = Buffer.from(rsa.publicKey.export({ type: 'spki', format: 'der' }));
    const modulus = Buffer.from(rsa.publicKey.export({ format: 'jwk' }).n ?? '');
    const forgeries = [
      // The public key used as a shared secret.
      await sign(CLAIMS, publicPem, { alg: 'HS256', kid: 'rsa' }),
      await sign(CLAIMS, publicDer, { alg: 'HS256', kid: 'rsa' }),
      await sign(CLAIMS, modulus, { alg: 'HS256', kid: 'rsa' }),
      await sign(CLAIMS, publicPem, { alg: 'HS256' }),
      `${encode({ alg: 'none', kid: 'rsa' })}.${encode(CLAIMS)}.`,
      // Another key under a known id, a known key under another id, the wrong kind of key.
      await sign(CLAIMS, otherEc.privateKey, { alg: 'ES256', kid: 'ec' }),
      await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'unknown' }),
      await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'rsa' }),
    ];
    for (const forged of forgeries) await expectRefused(keys.verifier, forged, 'token_invalid');
    await expectRefused(keys.verifier, await sign(CLAIMS, Buffer.from(SECRET)), 'token_invalid');
  });

  it('ignores keys that a token contains or links to, and keys that are not for signatures', async () => {
    await using elsewhere = await serveKeys(answerJson({ keys: [jwk(otherEc, 'ec')] }));
    await using keys = await serveKeys(
      answerJson({ keys: [jwk(ec, 'ec'), { ...jwk(otherEc, 'enc'), use: 'enc' }] }),
    );
    const forge = async (header: object): Promise<string> =>
      await sign(CLAIMS, otherEc.privateKey, { alg: 'ES256', ...header });
    const forgeries = [
      await forge({ kid: 'ec', jwk: otherEc.publicKey.export({ format: 'jwk' }) }),
      await forge({ kid: 'ec', jku: elsewhere.url, x5u: elsewhere.url }),
      await forge({ kid: 'enc' }),
      await forge({ kid: '../../../../dev/null' }),
      await forge({ kid: "' UNION SELECT 'key" }),
      await forge({ kid: '__proto__' }),
    ];
    for (const forged of forgeries) await expectRefused(keys.verifier, forged, 'token_invalid');
    expect(elsewhere.state.fetches).toBe(0);
  });

  it('checks the claims as with a secret', async () => {
    await using keys = await serveKeys(answerJson(allKeys));
    const signEd = async (claims: TestClaims): Promise<string> =>
      await sign({ ...CLAIMS, ...claims }, ed.privateKey, { alg: 'EdDSA', kid: 'ed' });
    await expectRefused(keys.verifier, await signEd({ exp: NOW_S - 60 }), 'token_expired');
    await expectRefused(keys.verifier, await signEd({ exp: undefined }), 'token_invalid');
    await expectRefused(keys.verifier, await signEd({ type: 'refresh' }), 'token_wrong_type');
    await expectRefused(keys.verifier, '', 'token_missing');
    await expectRefused(keys.verifier, 'junk', 'token_malformed');
  });

  it('fetches the keys once for many tokens, and not for each unknown key id', async () => {
    await using keys = await serveKeys(answerJson(allKeys));
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    await Promise.all(Array.from({ length: 50 }, async () => await keys.verifier.verify(token)));
    for (let i = 0; i < 20; i += 1) {
      const unknown = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: randomUUID() });
      await expectRefused(keys.verifier, unknown, 'token_invalid');
    }
    expect(keys.state.fetches).toBe(1);
    await keys.close();
    await keys.verifier.verify(token);
  });

  it('finds a new key after the cooldown, and no longer accepts a withdrawn one', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW_S * 1_000 });
    await using keys = await serveKeys(answerJson({ keys: [jwk(ec, 'old')] }));
    const claims = { ...CLAIMS, exp: NOW_S + 86_400 };
    const old = await sign(claims, ec.privateKey, { alg: 'ES256', kid: 'old' });
    const fresh = await sign(claims, otherEc.privateKey, { alg: 'ES256', kid: 'new' });
    await keys.verifier.verify(old);
    keys.state.answer = answerJson({ keys: [jwk(otherEc, 'new')] });
    await expectRefused(keys.verifier, fresh, 'token_invalid');
    vi.setSystemTime((NOW_S + 31) * 1_000);
    await keys.verifier.verify(fresh);
    await expectRefused(keys.verifier, old, 'token_invalid');
    keys.state.answer = answerJson({ keys: [] });
    vi.setSystemTime((NOW_S + 700) * 1_000);
    await expectRefused(keys.verifier, fresh, 'token_invalid');
  });

  it('finds a new key, and no longer accepts a withdrawn one, after the clock was set back', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: (NOW_S + 7_200) * 1_000 });
    await using keys = await serveKeys(answerJson({ keys: [jwk(ec, 'old')] }));
    const claims = { ...CLAIMS, exp: NOW_S + 86_400 };
    const old = await sign(claims, ec.privateKey, { alg: 'ES256', kid: 'old' });
    const fresh = await sign(claims, otherEc.privateKey, { alg: 'ES256', kid: 'new' });
    await keys.verifier.verify(old);
    keys.state.answer = answerJson({ keys: [jwk(otherEc, 'new')] });
    vi.setSystemTime(NOW_S * 1_000);
    await keys.verifier.verify(fresh);
    await expectRefused(keys.verifier, old, 'token_invalid');
  });

  it('tries each key if the issuer sends no key ids', async () => {
    await using keys = await serveKeys(answerJson({ keys: [jwk(ec), jwk(otherEc)] }));
    for (const pair of [ec, otherEc]) {
      await keys.verifier.verify(await sign(CLAIMS, pair.privateKey, { alg: 'ES256' }));
      const expired = await sign({ ...CLAIMS, exp: NOW_S - 60 }, pair.privateKey, { alg: 'ES256' });
      await expectRefused(keys.verifier, expired, 'token_expired');
    }
    const third = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await expectRefused(
      keys.verifier,
      await sign(CLAIMS, third.privateKey, { alg: 'ES256' }),
      'token_invalid',
    );
  });

  it('reports that the keys are unavailable, not that the token is invalid', async () => {
    const clock = fakeClock();
    await using keys = await serveKeys(answerJson({}, 500));
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    const wrongAnswers = [
      answerJson(allKeys, 500),
      answerJson({ keys: 'none' }),
      (response: ServerResponse): void => void response.end('<html>'),
      (response: ServerResponse): void => void response.writeHead(302, { location: '/elsewhere' }).end(),
      (response: ServerResponse): void => void response.destroy(),
      answerJson({ keys: [{ ...jwk(ec, 'ec'), x: 'AAAA' }] }),
    ];
    for (const [index, answer] of wrongAnswers.entries()) {
      keys.state.answer = answer;
      const error = await expectRefused(keys.verifier, token, 'keys_unavailable');
      expect(error.cause).toBeInstanceOf(Error);
      expect(error.message).not.toContain('127.0.0.1');
      expect(keys.state.fetches).toBe(index + 1);
      clock.advance(30_000);
    }
  });

  it('fetches with exponential backoff after failures, for any number of tokens, and recovers', async () => {
    const clock = fakeClock();
    await using keys = await serveKeys(answerJson({}, 503));
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    const fetchesAfter = async (ms: number): Promise<number> => {
      clock.advance(ms);
      for (let count = 0; count < 6; count += 1) {
        await expectRefused(keys.verifier, token, 'keys_unavailable');
      }
      return keys.state.fetches;
    };
    expect(await fetchesAfter(0)).toBe(1);
    expect(await fetchesAfter(999)).toBe(1);
    expect(await fetchesAfter(1)).toBe(2);
    expect(await fetchesAfter(1_999)).toBe(2);
    expect(await fetchesAfter(1)).toBe(3);
    keys.state.answer = answerJson({ keys: 'none' });
    for (let failures = 4; failures < 12; failures += 1) expect(await fetchesAfter(30_000)).toBe(failures);
    expect(await fetchesAfter(29_999)).toBe(11);
    clock.advance(1);
    keys.state.answer = answerJson(allKeys);
    await keys.verifier.verify(token);
  });

  it('reads at most 1 MiB of keys, with and without Content-Length', async () => {
    const large = JSON.stringify({ ...allKeys, padding: 'x'.repeat(1_048_576) });
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    let sentBytes = 0;
    const answers = [
      (response: ServerResponse): void => void response.end(large),
      // The response has no end: without the limit of 1 MiB the read would never finish.
      (response: ServerResponse): void => {
        const send = (): void => {
          while (!response.destroyed && response.write('x'.repeat(65_536))) sentBytes += 65_536;
        };
        response.on('drain', send);
        send();
      },
    ];
    for (const answer of answers) {
      await using keys = await serveKeys(answer);
      const error = await expectRefused(keys.verifier, token, 'keys_unavailable');
      expect((error.cause as Error).message).toContain('larger than 1048576 bytes');
    }
    expect(sentBytes).toBeLessThan(32 * 1_048_576);
    const fitting = JSON.stringify({ ...allKeys, padding: 'x'.repeat(1_000_000) });
    await using keys = await serveKeys((response) => void response.end(fitting));
    await keys.verifier.verify(token);
  });

  it('does not follow redirects', async () => {
    await using elsewhere = await serveKeys(answerJson(allKeys));
    await using keys = await serveKeys((response) => {
      response.writeHead(302, { location: elsewhere.url }).end(JSON.stringify(allKeys));
    });
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    await expectRefused(keys.verifier, token, 'keys_unavailable');
    expect(elsewhere.state.fetches).toBe(0);
  });

  it('reports unavailable keys also if no server listens or a key is too weak', async () => {
    await using gone = await serveKeys(answerJson(allKeys));
    await gone.close();
    const token = await sign(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    await expectRefused(gone.verifier, token, 'keys_unavailable');

    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
    await using weakKeys = await serveKeys(answerJson({ keys: [jwk(weak, 'weak')] }));
    const signed = `${encode({ alg: 'RS256', kid: 'weak' })}.${encode(CLAIMS)}.AAAA`;
    await expectRefused(weakKeys.verifier, signed, 'keys_unavailable');
  });

  it.each<[string, (response: ServerResponse, expire: () => void) => void]>([
    ['waiting for an endpoint that accepts the connection and never responds', (_, expire) => expire()],
    [
      'reading a response that does not end',
      (response, expire) => void response.write('{"keys":[', () => setImmediate(expire)),
    ],
  ])('stops %s, after a time-out', async (_, answer) => {
    // It expires when the request has arrived, however long that takes on a busy machine.
    const expiry = new AbortController();
    const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(expiry.signal);
    onTestFinished(() => timeout.mockRestore());
    await using keys = await serveKeys((response) =>
      answer(response, () => expiry.abort(new DOMException('timed out', 'TimeoutError'))),
    );
    const findKey = createKeySet(keys.url, 50);
    await expect(findKey({ alg: 'ES256', kid: 'ec' }, { payload: '', signature: '' })).rejects.toMatchObject({
      code: 'keys_unavailable',
    });
    expect(timeout).toHaveBeenCalledWith(50);
    expect(keys.state.fetches).toBe(1);
  });

  it.each([
    '',
    'keys.example',
    'file:///etc/passwd',
    'ftp://keys.example/',
    'https://user@keys.example/',
    'https://:hunter2@keys.example/',
  ])('refuses the URL %j when it is created', (jwksUrl) => {
    const options = { ...issued, jwksUrl, userClaim: 'sub:id' };
    expect(() => createTokenVerifier(options)).toThrow('The JWKS URL is invalid: give http(s)://host/path');
    expect(() => createTokenVerifier(options)).not.toThrow('hunter2');
  });

  const jwksUrl = 'https://id.example/keys';
  const unset = undefined as unknown as string;
  it.each([
    [
      { jwksUrl, audience: 'flagcast', issuer: unset, userClaim: 'sub:id' },
      /^auth has a jwksUrl and no issuer/,
    ],
    [{ jwksUrl, issuer: 'https://id.example', audience: '', userClaim: 'sub:id' }, /and no audience/],
    [{ ...issued, jwksUrl }, /and no userClaim/],
  ])('cannot be created without issuer, audience and userClaim: %j', (options, message) => {
    expect(() => createTokenVerifier(options)).toThrow(message);
  });

  it("identifies users by sub alone if they are not in Togglr's tables", async () => {
    await using keys = await serveKeys(answerJson(allKeys));
    const own = createTokenVerifier({ ...issued, jwksUrl: keys.url, externalUsers: true });
    const claims = {
      iss: issued.issuer,
      aud: issued.audience,
      exp: NOW_S + 3_600,
      userId: 1,
      username: 'root',
    };
    const signEc = async (more: object): Promise<string> =>
      await sign({ ...claims, ...more }, ec.privateKey, { alg: 'ES256', kid: 'ec' });
    expect(await own.verify(await signEc({ sub: '42' }))).toMatchObject({ user: { id: '42' } });
    await expectRefused(own, await signEc({}), 'token_invalid');
  });
});

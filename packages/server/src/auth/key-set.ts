import * as errors from 'jose/errors';
import { createLocalJWKSet } from 'jose/jwks/local';
import { createRemoteJWKSet, customFetch } from 'jose/jwks/remote';
import type { CryptoKey, FetchImplementation, JSONWebKeySet, JWTVerifyGetKey } from 'jose';
import { HttpProblem } from '../http-problem.js';

/** The pause after a failed fetch, which doubles with each further failure. */
const firstPauseMs = 1_000;
const longestPauseMs = 30_000;
/** Between two fetches for unknown key ids. */
const unknownKeyCooldownMs = 30_000;
/** How long a withdrawn key is trusted at most. */
const keyMaxAgeMs = 600_000;
/** A clock that is set back by more than this invalidates the keys. */
const clockToleranceMs = 1_000;
const maxBodyBytes = 1_048_576;

/**
 * The keys at a JWKS URL: fetched when first needed, again after ten minutes, and for an unknown key id, at most every
 * 30 s. After a failed fetch requests fail at once until the pause is over. Throws an Error that says what to write
 * instead if the URL is invalid. `fetchTimeoutMs`: how long a fetch may take, with its body.
 */
export function createKeySet(jwksUrl: string, fetchTimeoutMs = 5_000): JWTVerifyGetKey<CryptoKey> {
  const url = URL.canParse(jwksUrl) ? new URL(jwksUrl) : null;
  // The messages of failed fetches would contain a password.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Error('The JWKS URL is invalid: give http(s)://host/path, without a user or a password');
  }
  const fetchWithBackoff = withBackoff(fetchKeys);
  const create = () =>
    createRemoteJWKSet(url, {
      timeoutDuration: fetchTimeoutMs,
      cooldownDuration: unknownKeyCooldownMs,
      cacheMaxAge: keyMaxAgeMs,
      [customFetch]: fetchWithBackoff,
    });
  let keySet = create();
  let usedAtMs = 0;
  return async (header, token) => {
    try {
      const nowMs = Date.now();
      // jose counts by this clock: keys from before it was set back would count as new for as long.
      if (nowMs < usedAtMs - clockToleranceMs) keySet = create();
      usedAtMs = nowMs;
      return await keySet(header, token);
    } catch (error) {
      // These are about the token, all other errors about the keys.
      if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
        throw error;
      }
      throw keysUnavailable(error);
    }
  };
}

export function keysUnavailable(cause: unknown): HttpProblem {
  return new HttpProblem(
    'keys_unavailable',
    'The keys that tokens are checked with cannot be used right now: try again later; if it lasts, have the JWKS URL of this server checked',
    { retryAfterSeconds: 5, cause },
  );
}

/** After a failure it fails with the same error until the pause is over. */
function withBackoff(fetchOnce: FetchImplementation): FetchImplementation {
  let failures = 0;
  let retryAtMs = -Infinity;
  let lastError: unknown = null;
  return async (url, options) => {
    if (performance.now() < retryAtMs) throw lastError;
    try {
      const response = await fetchOnce(url, options);
      failures = 0;
      return response;
    } catch (error) {
      lastError = error;
      retryAtMs = performance.now() + Math.min(firstPauseMs * 2 ** failures, longestPauseMs);
      failures += 1;
      throw error;
    }
  };
}

/** `options` of jose have the time-out, also for the body, and forbid redirects. */
const fetchKeys: FetchImplementation = async (url, options) => {
  const response = await fetch(url, options);
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`The JWKS URL answered with status ${response.status}`);
  }
  const keys = JSON.parse(await boundedText(response)) as JSONWebKeySet;
  // Throws if it is not a key set, so that it counts as a failed fetch.
  createLocalJWKSet(keys);
  return Response.json(keys);
};

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> | null = response.body;
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBodyBytes) {
      throw new Error(`The answer of the JWKS URL is larger than ${maxBodyBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors } from 'jose';
import type { CryptoKey, FetchImplementation, JSONWebKeySet, JWTVerifyGetKey } from 'jose';
import { TokenError } from './token-error.js';

const FETCH_TIMEOUT_MS = 5_000;
/** The pause after a failed fetch, which doubles with each further failure, and its longest. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** Between two fetches that tokens with an unknown key id can cause. */
const UNKNOWN_KEY_COOLDOWN_MS = 30_000;
/** How long a key that its issuer has withdrawn is still trusted, at the most. */
const KEY_MAX_AGE_MS = 600_000;
const MAX_BODY_BYTES = 1_048_576;

/**
 * The keys at a JWKS URL: fetched when first needed, kept for ten minutes, and fetched again for an unknown key
 * id, at most every 30 s. While fetching fails no request waits for it, but for one after each pause. Throws an
 * Error that says what to write instead if the URL is none.
 */
export function createKeySet(jwksUrl: string): JWTVerifyGetKey<CryptoKey> {
  const url = URL.canParse(jwksUrl) ? new URL(jwksUrl) : null;
  // A password in the URL would end up in the messages of failed fetches.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Error('The JWKS URL is not one: write http(s)://host/path, without a user or a password');
  }
  const keySet = createRemoteJWKSet(url, {
    timeoutDuration: FETCH_TIMEOUT_MS,
    cooldownDuration: UNKNOWN_KEY_COOLDOWN_MS,
    cacheMaxAge: KEY_MAX_AGE_MS,
    [customFetch]: withBackoff(fetchKeys),
  });
  return async (header, token) => {
    try {
      return await keySet(header, token);
    } catch (error) {
      // These tell of the token; whatever else goes wrong in here is about the keys.
      if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
        throw error;
      }
      throw keysUnavailable(error);
    }
  };
}

export function keysUnavailable(cause: unknown): TokenError {
  return new TokenError(
    'keys_unavailable',
    'The keys that tokens are checked with cannot be used right now: try again later; if it lasts, have the JWKS URL of this server checked',
    { cause },
  );
}

/** Fails at once, with the last error, until the pause after it is over. */
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
      retryAtMs = performance.now() + Math.min(FIRST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS);
      failures += 1;
      throw error;
    }
  };
}

/** The library's options hold the time-out, which bounds the body, too, and follow no redirect. */
const fetchKeys: FetchImplementation = async (url, options) => {
  const response = await fetch(url, options);
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`The JWKS URL answered with status ${response.status}`);
  }
  const keys = JSON.parse(await boundedText(response)) as JSONWebKeySet;
  // Throws here for what is no key set, so that it counts as a failed fetch.
  createLocalJWKSet(keys);
  return Response.json(keys);
};

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> | null = response.body;
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES) {
      throw new Error(`The answer of the JWKS URL is larger than ${MAX_BODY_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

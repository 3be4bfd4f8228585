import { createSecretKey, webcrypto } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';
import type { CryptoKey, JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from 'jose';

/** Who a token says it belongs to. What they may do is the database's to say, never the token's. */
export interface Identity {
  /** The row of users: by users.id, or by the exact users.username. With `opaqueUsers` any id. */
  readonly user: { readonly id: string } | { readonly username: string };
  /** For logs only; null where the token does not tell. */
  readonly username: string | null;
  /** The token's `exp`, in milliseconds since the epoch. */
  readonly expiresAtMs: number;
  /** The token's `jti`; null where it has none. */
  readonly tokenId: string | null;
}

export type TokenErrorCode =
  | 'token_missing'
  | 'token_malformed'
  | 'token_expired'
  | 'token_wrong_type'
  | 'token_invalid'
  /** The server's fault, not the token's: answer 503, not 401. `cause` says why, for the log. */
  | 'keys_unavailable';

/** Why a token was refused, in one line that can be shown to its sender: it never holds the token. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
  readonly code: TokenErrorCode;

  constructor(code: TokenErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface TokenVerifier {
  /** Whose token it is. Rejects with a TokenError and nothing else; '' is `token_missing`. */
  verify(token: string): Promise<Identity>;
}

export type TokenVerifierOptions = (
  | {
      /** The HS256 secret that the tokens are signed with: at least 32 bytes of UTF-8. */
      readonly secret: string;
      readonly jwksUrl?: undefined;
    }
  | {
      /** Where the issuer publishes its public keys (a JWK Set): http or https. */
      readonly jwksUrl: string;
      readonly secret?: undefined;
    }
) & {
  /** The `iss` that a token must carry; any by default. */
  readonly issuer?: string | undefined;
  /** The `aud` that a token must carry; any by default. */
  readonly audience?: string | undefined;
  /**
   * Whether users are what a host calls them and not rows of Togglr's table: then any text or number
   * in `userId`, else `sub`, else `username` is the user's id as it stands there. Default false.
   */
  readonly opaqueUsers?: boolean | undefined;
};

const MIN_SECRET_BYTES = 32;
/** As much as node:http takes for all headers of a request together. */
const MAX_TOKEN_CHARS = 16_384;
const CLOCK_TOLERANCE_S = 5;
const KEY_FETCH_TIMEOUT_MS = 5_000;
/** Between two fetches that tokens with an unknown key id can cause. */
const KEY_FETCH_COOLDOWN_MS = 30_000;
/** How long a key that its issuer has withdrawn is still trusted, at the most. */
const KEY_MAX_AGE_MS = 600_000;
/** Never a symmetric one: a public key must not pass for a shared secret. */
const ASYMMETRIC_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

/**
 * Checks access tokens: Togglr's (claims `userId` and `type`) and standard ones (`sub`: all
 * digits is users.id, anything else users.username). `exp` is required; clocks may differ by
 * five seconds. With a secret exactly HS256 is accepted, with a JWK Set only asymmetric
 * algorithms. The keys are fetched when first needed, kept for ten minutes, and fetched again
 * for an unknown key id, at most every 30 s.
 *
 * Throws an Error that says what to mend if there is neither, the secret is too short, or the URL is none.
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const claims: JWTVerifyOptions = {
    requiredClaims: ['exp'],
    clockTolerance: CLOCK_TOLERANCE_S,
    ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
    ...(options.audience === undefined ? {} : { audience: options.audience }),
  };
  const authenticate = authenticationOf(options, claims);

  return {
    async verify(token) {
      if (token === '') {
        throw new TokenError(
          'token_missing',
          'No token was sent: send it as "Authorization: Bearer <token>" or as the subprotocol "bearer.<token>"',
        );
      }
      if (token.length > MAX_TOKEN_CHARS) {
        throw new TokenError(
          'token_malformed',
          `The token is longer than ${MAX_TOKEN_CHARS} characters: send a shorter one`,
        );
      }
      try {
        return identityOf(await authenticate(token), options.opaqueUsers ?? false);
      } catch (error) {
        throw error instanceof TokenError ? error : refusal(error);
      }
    },
  };
}

/** The key for HS256. Throws an Error if the secret has fewer than 32 bytes. */
export function secretKey(secret: string): KeyObject {
  const bytes = Buffer.from(secret, 'utf8');
  if (bytes.length < MIN_SECRET_BYTES) {
    throw new Error(
      `The JWT secret has ${bytes.length} bytes: use at least ${MIN_SECRET_BYTES}, for example the output of "openssl rand -base64 48"`,
    );
  }
  return createSecretKey(bytes);
}

type Authenticate = (token: string) => Promise<JWTPayload>;

function authenticationOf(
  { secret, jwksUrl }: { secret?: string | undefined; jwksUrl?: string | undefined },
  claims: JWTVerifyOptions,
): Authenticate {
  if (secret !== undefined) return secretAuthentication(secret, claims);
  if (jwksUrl !== undefined) return keySetAuthentication(jwksUrl, claims);
  // TypeScript does not let it come to that; a variable of the environment that is not set does.
  throw new Error(
    'auth has neither a secret nor a jwksUrl: give it one of them (if it comes from the environment, is the variable set?)',
  );
}

function secretAuthentication(secret: string, claims: JWTVerifyOptions): Authenticate {
  // The library would import any other form of the key again for each token.
  const imported = webcrypto.subtle.importKey(
    'raw',
    secretKey(secret).export(),
    { name: 'HMAC', hash: 'SHA-256' },
    false,
    ['verify'],
  );
  const options: JWTVerifyOptions = { ...claims, algorithms: ['HS256'] };
  return async (token) => (await jwtVerify(token, await imported, options)).payload;
}

function keySetAuthentication(jwksUrl: string, claims: JWTVerifyOptions): Authenticate {
  const findKey = keyFinder(jwksUrl);
  const options: JWTVerifyOptions = { ...claims, algorithms: ASYMMETRIC_ALGORITHMS };
  return async (token) => {
    try {
      return (await jwtVerify(token, findKey, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      return await verifyWithAny(token, error, options);
    }
  };
}

function keyFinder(jwksUrl: string): JWTVerifyGetKey<CryptoKey> {
  const url = URL.canParse(jwksUrl) ? new URL(jwksUrl) : null;
  // A password in the URL would end up in the messages of failed fetches.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new Error('The JWKS URL is not one: write http(s)://host/path, without a user or a password');
  }
  const keySet = createRemoteJWKSet(url, {
    timeoutDuration: KEY_FETCH_TIMEOUT_MS,
    cooldownDuration: KEY_FETCH_COOLDOWN_MS,
    cacheMaxAge: KEY_MAX_AGE_MS,
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

/** An issuer that names no key ids leaves several keys to try while it changes them. */
async function verifyWithAny(
  token: string,
  candidates: errors.JWKSMultipleMatchingKeys,
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  for await (const key of candidates) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
    }
  }
  throw new errors.JWSSignatureVerificationFailed();
}

function keysUnavailable(cause: unknown): TokenError {
  return new TokenError(
    'keys_unavailable',
    'The keys that tokens are checked with cannot be used right now: try again later; if it lasts, have the JWKS URL of this server checked',
    { cause },
  );
}

/** Never passes on a message of the library, and no cause: both may quote what the token says. */
function refusal(error: unknown): TokenError {
  if (error instanceof errors.JWTExpired) {
    return new TokenError('token_expired', 'The token has expired: sign in again or send a fresh one');
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new TokenError('token_invalid', claimProblem(error.claim, error.reason));
  }
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) {
    return new TokenError(
      'token_malformed',
      'The token is not a JWT: send the whole access token, unchanged',
    );
  }
  if (error instanceof errors.JOSEError) {
    return new TokenError(
      'token_invalid',
      'The token is not signed with a key and an algorithm that this server trusts: sign in again',
    );
  }
  // The library raises other errors for keys that it will not use, such as RSA below 2048 bits.
  return keysUnavailable(error);
}

function claimProblem(claim: string, reason: string): string {
  if (claim === 'exp' && reason === 'missing') {
    return 'The token has no expiry ("exp"): send one that expires';
  }
  if (claim === 'nbf' && reason === 'check_failed') {
    return 'The token is not valid yet ("nbf"): wait until it is, or set the clocks right';
  }
  if (claim === 'iss' || claim === 'aud') {
    return `The token is for another service ("${claim}"): send one that was issued for this server`;
  }
  return 'A time in the token is not a number ("exp", "nbf" or "iat"): sign in again';
}

function identityOf(payload: JWTPayload, opaqueUsers: boolean): Identity {
  const { type, userId, username, sub, exp, jti } = payload;
  if (type !== undefined && type !== 'access') {
    throw new TokenError(
      'token_wrong_type',
      'The token is not an access token (by its "type"): send the access token, not a refresh or reset token',
    );
  }
  // JSON has numbers that end up infinite here, and a timer for them would fire at once.
  const expiresAtMs = Math.floor((exp ?? Number.NaN) * 1_000);
  if (!Number.isSafeInteger(expiresAtMs)) {
    throw new TokenError('token_invalid', 'The token\'s expiry ("exp") is not a time: sign in again');
  }
  const user = opaqueUsers ? opaqueUserOf(userId ?? sub ?? username) : userOf(userId, sub);
  return {
    user,
    username: typeof username === 'string' ? username : 'username' in user ? user.username : null,
    expiresAtMs,
    tokenId: typeof jti === 'string' ? jti : null,
  };
}

function opaqueUserOf(claim: unknown): Identity['user'] {
  if (typeof claim === 'string' && claim !== '') return { id: claim };
  if (typeof claim === 'number' && Number.isSafeInteger(claim)) return { id: String(claim) };
  throw new TokenError(
    'token_invalid',
    'The token names no user: it needs "userId", "sub" or "username", a text or a whole number',
  );
}

function userOf(userId: unknown, sub: unknown): Identity['user'] {
  if (userId === undefined) {
    if (typeof sub === 'string' && sub !== '') return /^\d+$/.test(sub) ? { id: sub } : { username: sub };
    throw new TokenError(
      'token_invalid',
      'The token names no user: it needs "userId" (a number) or "sub" (users.id or users.username)',
    );
  }
  if (typeof userId !== 'number' || !Number.isSafeInteger(userId) || userId < 0) {
    throw new TokenError('token_invalid', 'The token\'s "userId" is not a whole number: sign in again');
  }
  return { id: String(userId) };
}

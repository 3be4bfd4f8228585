import { createSecretKey, webcrypto } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { errors, jwtVerify } from 'jose';
import type { JWTPayload, JWTVerifyOptions, JWTVerifyResult } from 'jose';
import type { TokenOptions } from './auth-options.js';
import { createKeySet, keysUnavailable } from './key-set.js';
import { TokenError } from './token-error.js';
import { parseUserClaim, type TokenUser, userByClaim } from './user-claim.js';

/** Who a token says it belongs to. What they may do is the database's to say, never the token's. */
export interface Identity {
  readonly user: TokenUser;
  /** For logs only; null where the token does not tell. */
  readonly username: string | null;
  /** The token's `exp`, in milliseconds since the epoch. */
  readonly expiresAtMs: number;
  /** The token's `jti`; null where it has none. */
  readonly tokenId: string | null;
}

export interface TokenVerifier {
  /** Whose token it is. Rejects with a TokenError and nothing else; '' is `token_missing`. */
  verify(token: string): Promise<Identity>;
}

export type TokenVerifierOptions = TokenOptions & {
  /** Whether users are what the host calls them, and not rows of Togglr's table. Default false. */
  readonly opaqueUsers?: boolean | undefined;
};

const MIN_SECRET_BYTES = 32;
/** As much as node:http takes for all headers of a request together. */
const MAX_TOKEN_CHARS = 16_384;
const CLOCK_TOLERANCE_S = 5;
export const DEFAULT_MAX_TOKEN_AGE_MS = 86_400_000;
/** What the `typ` of the header calls an access token; the `typ` among the claims is Keycloak's. */
const HEADER_TYPES = new Set(['jwt', 'at+jwt']);
const CLAIM_TYPES = new Set(['jwt', 'at+jwt', 'bearer', 'access']);
/** Claims of ID tokens and of security events. */
const FOREIGN_CLAIMS = ['nonce', 'at_hash', 'c_hash', 'events'];
/** Never a symmetric one: a public key must not pass for a shared secret. */
const ASYMMETRIC_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

/**
 * Checks access tokens: Togglr's (claims `userId` and `type`) and those of OAuth. `exp` is required; clocks may
 * differ by five seconds. With a secret exactly HS256 is accepted, with a JWK Set only asymmetric algorithms.
 *
 * Throws an Error that says what to fix if there is neither, the secret is too short, the URL is none, or a
 * JWK Set has no issuer, audience or claim of the user.
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const claims: JWTVerifyOptions = {
    requiredClaims: ['exp'],
    clockTolerance: CLOCK_TOLERANCE_S,
    ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
    ...(options.audience === undefined ? {} : { audience: options.audience }),
  };
  const userOf = userFinder(options);
  const maxAgeS = (options.maxTokenAgeMs ?? DEFAULT_MAX_TOKEN_AGE_MS) / 1_000;
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
        const { payload, protectedHeader } = await authenticate(token);
        refuseOtherKinds(payload, protectedHeader.typ);
        return identityOf(payload, userOf(payload), maxAgeS);
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

type UserFinder = (payload: JWTPayload) => TokenUser;
type Authenticate = (token: string) => Promise<JWTVerifyResult>;

function authenticationOf(
  // What TypeScript rules out, a program in JavaScript passes: the value of a variable that is not set.
  options: Partial<Record<'secret' | 'jwksUrl' | 'issuer' | 'audience', string | undefined>>,
  claims: JWTVerifyOptions,
): Authenticate {
  const { secret, jwksUrl, issuer, audience } = options;
  if (secret !== undefined) return secretAuthentication(secret, claims);
  if (jwksUrl !== undefined) {
    // An identity provider signs for many services, and a URL may publish the keys of many tenants.
    for (const [name, value] of Object.entries({ issuer, audience })) {
      if (value === undefined || value === '') {
        throw new Error(
          `auth has a jwksUrl and no ${name}: give the ${name} that tokens for this server have`,
        );
      }
    }
    return keySetAuthentication(jwksUrl, claims);
  }
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
  return async (token) => await jwtVerify(token, await imported, options);
}

function keySetAuthentication(jwksUrl: string, claims: JWTVerifyOptions): Authenticate {
  const findKey = createKeySet(jwksUrl);
  const options: JWTVerifyOptions = { ...claims, algorithms: ASYMMETRIC_ALGORITHMS };
  return async (token) => {
    try {
      return await jwtVerify(token, findKey, options);
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      return await verifyWithAny(token, error, options);
    }
  };
}

/** An issuer that names no key ids leaves several keys to try while it changes them. */
async function verifyWithAny(
  token: string,
  candidates: errors.JWKSMultipleMatchingKeys,
  options: JWTVerifyOptions,
): Promise<JWTVerifyResult> {
  for await (const key of candidates) {
    try {
      return await jwtVerify(token, key, options);
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
    }
  }
  throw new errors.JWSSignatureVerificationFailed();
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

/** Throws a TokenError for a good signature under something else than an access token. */
function refuseOtherKinds(payload: JWTPayload, headerType: unknown): void {
  const { type, typ, token_use: use, cnf } = payload;
  const isAccessToken =
    (type === undefined || type === 'access') &&
    (headerType === undefined || isOneOf(HEADER_TYPES, headerType)) &&
    (typ === undefined || isOneOf(CLAIM_TYPES, typ)) &&
    (use === undefined || use === 'access') &&
    !FOREIGN_CLAIMS.some((claim) => Object.hasOwn(payload, claim));
  if (!isAccessToken) {
    throw new TokenError(
      'token_wrong_type',
      'The token is not an access token: send the access token, not an ID, refresh or reset token',
    );
  }
  // Proof of possession is not checked here, and without it such a token is worth nothing.
  if (cnf !== undefined) {
    throw new TokenError(
      'token_wrong_type',
      'The token is bound to a key ("cnf"), which this server does not check: send a bearer token',
    );
  }
}

function isOneOf(types: ReadonlySet<string>, type: unknown): boolean {
  return typeof type === 'string' && types.has(type.toLowerCase().replace(/^application\//, ''));
}

function identityOf(payload: JWTPayload, user: TokenUser, maxAgeS: number): Identity {
  const { username, exp = Number.NaN, iat, jti } = payload;
  const expiresAtMs = Math.floor(exp * 1_000);
  // JSON has numbers past the end of every calendar.
  if (Number.isNaN(new Date(expiresAtMs).getTime())) {
    throw new TokenError('token_invalid', 'The token\'s expiry ("exp") is not a time: sign in again');
  }
  const nowS = Date.now() / 1_000;
  if (exp - Math.min(iat ?? nowS, nowS) > maxAgeS + CLOCK_TOLERANCE_S) {
    throw new TokenError(
      'token_invalid',
      `The token lasts longer than the ${maxAgeS} s that this server accepts: send one that expires sooner`,
    );
  }
  return {
    user,
    username: typeof username === 'string' ? username : 'username' in user ? user.username : null,
    expiresAtMs,
    tokenId: typeof jti === 'string' ? jti : null,
  };
}

function userFinder({ jwksUrl, userClaim, opaqueUsers = false }: TokenVerifierOptions): UserFinder {
  if (userClaim !== undefined) {
    const named = parseUserClaim(userClaim);
    if (opaqueUsers && named.column !== null) {
      throw new Error(
        `The claim of the user ${JSON.stringify(userClaim)} compares with a column of Togglr's users, and users are others here: write the claim alone`,
      );
    }
    if (!opaqueUsers && named.column === null) {
      throw new Error(
        `The claim of the user ${JSON.stringify(userClaim)} does not name the column of users that it is compared with: write claim:column, such as sub:id, preferred_username:username or email:email`,
      );
    }
    return (payload) => userByClaim(payload, named);
  }
  if (jwksUrl === undefined) {
    return opaqueUsers
      ? ({ userId, sub, username }) => opaqueUserOf(userId ?? sub ?? username)
      : togglrUserOf;
  }
  if (opaqueUsers) return (payload) => userByClaim(payload, { claim: 'sub', column: null });
  // A number in `sub` counts the users of the issuer, which are not the rows of users.
  throw new Error(
    'auth has a jwksUrl and no userClaim: give the claim that identifies the user and the column of users that it is compared with, such as email:email',
  );
}

function opaqueUserOf(claim: unknown): TokenUser {
  if (typeof claim === 'string' && claim !== '') return { id: claim };
  if (typeof claim === 'number' && Number.isSafeInteger(claim)) return { id: String(claim) };
  throw new TokenError(
    'token_invalid',
    'The token names no user: it needs "userId", "sub" or "username", a text or a whole number',
  );
}

function togglrUserOf({ userId, sub }: JWTPayload): TokenUser {
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

import { webcrypto } from 'node:crypto';
import * as errors from 'jose/errors';
import { jwtVerify } from 'jose/jwt/verify';
import type { JWTPayload, JWTVerifyOptions, JWTVerifyResult } from 'jose';
import { HttpProblem } from '../http-problem.js';
import { createKeySet, keysUnavailable } from './key-set.js';
import { createUserFinder, type Identity, invalidToken, type TokenUser } from './user-claim.js';

/** How tokens are checked. */
export type TokenOptions = TokenChecks &
  (
    | {
        /** The HS256 secret that tokens are signed with: at least 32 bytes of UTF-8. */
        readonly secret: string;
        readonly jwksUrl?: undefined;
      }
    | {
        /** Where the issuer publishes its public keys (a JWK Set): http or https. */
        readonly jwksUrl: string;
        readonly secret?: undefined;
        readonly issuer: string;
        readonly audience: string;
      }
  );

/** What tokens must contain. */
export interface TokenChecks {
  /** The required `iss`. Default with a secret: any. */
  readonly issuer?: string | undefined;
  /** The required `aud`. Default with a secret: any. */
  readonly audience?: string | undefined;
  /**
   * The claim that identifies the user, and the column of users that it is compared with: `userId:id`, `sub:id`,
   * `preferred_username:username`, `email:email`; with `authorize` or `authorizeSql` the claim alone. Default with
   * a secret: `userId` as users.id, else `sub` (digits are users.id, else users.username); with `authorize` or
   * `authorizeSql` any text or whole number in `userId`, else `sub`, else `username`. With a jwksUrl there is no
   * default, but with `authorize` or `authorizeSql`: `sub`.
   */
  readonly userClaim?: string | undefined;
  /** The longest lifetime of a token, in milliseconds. Default 86,400,000 (a day). */
  readonly maxTokenAgeMs?: number | undefined;
}

export type TokenVerifierOptions = TokenOptions & {
  /** Whether users are not rows of Togglr's table. Default false. */
  readonly externalUsers?: boolean | undefined;
};

export interface TokenVerifier {
  /** The user of the token. Rejects with an HttpProblem and nothing else; '' is `token_missing`. */
  verify(token: string): Promise<Identity>;
}

type VerifySignature = (token: string) => Promise<JWTVerifyResult>;

const minSecretBytes = 32;
/** As much as node:http takes for all headers of a request. */
const maxTokenChars = 16_384;
const clockToleranceS = 5;
export const defaultMaxTokenAgeMs = 86_400_000;
/** Values of `typ` in the header of an access token; `typ` among the claims is Keycloak's. */
const headerTypes = ['jwt', 'at+jwt'];
const claimTypes = [...headerTypes, 'bearer', 'access'];
/** Claims of ID tokens and of security events. */
const foreignClaims = ['nonce', 'at_hash', 'c_hash', 'events'];
/** Never a symmetric one: a public key must not pass for a shared secret. */
const asymmetricAlgorithms = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

/**
 * Verifies access tokens of Togglr (claims `userId` and `type`) and of OAuth. `exp` is required; clocks may differ by
 * five seconds. With a secret only HS256 is accepted, with a JWK Set only asymmetric algorithms.
 *
 * Throws an Error that says what to fix if there is neither, the secret is too short, the URL is invalid, or a JWK Set
 * has no issuer, audience or claim of the user.
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { userClaim, jwksUrl, externalUsers = false, maxTokenAgeMs = defaultMaxTokenAgeMs } = options;
  const userOf = createUserFinder({ userClaim, hasKeySet: jwksUrl !== undefined, externalUsers });
  const verifySignature = createSignatureVerifier(options);

  return {
    async verify(token) {
      if (token === '') {
        throw new HttpProblem(
          'token_missing',
          'No token was sent: send it as "Authorization: Bearer <token>" or as the subprotocol "bearer.<token>"',
        );
      }
      if (token.length > maxTokenChars) {
        throw malformed(`The token is longer than ${maxTokenChars} characters: send a shorter one`);
      }
      try {
        const { payload, protectedHeader } = await verifySignature(token);
        checkKind(payload, protectedHeader.typ);
        return identityOf(payload, userOf(payload), maxTokenAgeMs / 1_000);
      } catch (error) {
        throw error instanceof HttpProblem ? error : problemOf(error);
      }
    },
  };
}

/** The key for HS256. Throws an Error if the secret has fewer than 32 bytes. */
export function secretKey(secret: string): Uint8Array {
  const bytes = Buffer.from(secret, 'utf8');
  if (bytes.length >= minSecretBytes) return bytes;
  throw new Error(
    `The JWT secret has ${bytes.length} bytes: use at least ${minSecretBytes}, for example the output of "openssl rand -base64 48"`,
  );
}

function createSignatureVerifier(
  // TypeScript rules out what a program in JavaScript may pass: an environment variable that is not set.
  options: Partial<Record<'secret' | 'jwksUrl' | 'issuer' | 'audience', string | undefined>>,
): VerifySignature {
  const { secret, jwksUrl, issuer, audience } = options;
  const claims: JWTVerifyOptions = {
    requiredClaims: ['exp'],
    clockTolerance: clockToleranceS,
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
  };
  if (secret !== undefined) {
    const algorithm = { name: 'HMAC', hash: 'SHA-256' };
    // jose would import a key in any other form again for each token.
    const key = webcrypto.subtle.importKey('raw', secretKey(secret), algorithm, false, ['verify']);
    return async (token) => await jwtVerify(token, await key, { ...claims, algorithms: ['HS256'] });
  }
  if (jwksUrl === undefined) {
    throw new Error(
      'auth has neither a secret nor a jwksUrl: give it one of them (if it comes from the environment, is the variable set?)',
    );
  }
  // An identity provider signs for many services, and a URL may publish the keys of many tenants.
  for (const [name, value] of Object.entries({ issuer, audience })) {
    if (!value) {
      throw new Error(`auth has a jwksUrl and no ${name}: give the ${name} that tokens for this server have`);
    }
  }
  return keySetVerifier(jwksUrl, { ...claims, algorithms: asymmetricAlgorithms });
}

function keySetVerifier(jwksUrl: string, options: JWTVerifyOptions): VerifySignature {
  const findKey = createKeySet(jwksUrl);
  return async (token) => {
    try {
      return await jwtVerify(token, findKey, options);
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      // An issuer without key ids has several keys while it rotates them.
      for await (const key of error) {
        try {
          return await jwtVerify(token, key, options);
        } catch (failure) {
          if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
        }
      }
      throw new errors.JWSSignatureVerificationFailed();
    }
  };
}

/** Without the message of jose and without a cause: both may quote the token. */
function problemOf(error: unknown): HttpProblem {
  if (error instanceof errors.JWTExpired) {
    return new HttpProblem('token_expired', 'The token has expired: sign in again or send a fresh one');
  }
  if (error instanceof errors.JWTClaimValidationFailed) return invalidToken(claimMessage(error));
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) {
    return malformed('The token is not a JWT: send the whole access token, unchanged');
  }
  if (error instanceof errors.JOSEError) {
    return invalidToken(
      'The token is not signed with a key and an algorithm that this server trusts: sign in again',
    );
  }
  // jose throws other errors for keys that it does not use, such as RSA below 2048 bits.
  return keysUnavailable(error);
}

function claimMessage({ claim, reason }: errors.JWTClaimValidationFailed): string {
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

/** Throws HttpProblem for a token with a valid signature that is not an access token. */
function checkKind(payload: JWTPayload, headerType: unknown): void {
  const { type, typ, token_use: use, cnf } = payload;
  const isAccessToken =
    (type === undefined || type === 'access') &&
    (headerType === undefined || isOneOf(headerTypes, headerType)) &&
    (typ === undefined || isOneOf(claimTypes, typ)) &&
    (use === undefined || use === 'access') &&
    !foreignClaims.some((claim) => Object.hasOwn(payload, claim));
  if (!isAccessToken) {
    throw new HttpProblem(
      'token_wrong_type',
      'The token is not an access token: send the access token, not an ID, refresh or reset token',
    );
  }
  // Proof of possession is not checked here, so anyone could send such a token.
  if (cnf !== undefined) {
    throw new HttpProblem(
      'token_wrong_type',
      'The token is bound to a key ("cnf"), which this server does not check: send a bearer token',
    );
  }
}

function isOneOf(types: readonly string[], type: unknown): boolean {
  return typeof type === 'string' && types.includes(type.toLowerCase().replace(/^application\//, ''));
}

function identityOf(payload: JWTPayload, user: TokenUser, maxAgeS: number): Identity {
  const { username, exp = Number.NaN, iat } = payload;
  const expiresAtMs = Math.floor(exp * 1_000);
  // A number in JSON may be later than any Date.
  if (Number.isNaN(new Date(expiresAtMs).getTime())) {
    throw invalidToken('The token\'s expiry ("exp") is not a time: sign in again');
  }
  const nowS = Date.now() / 1_000;
  if (exp - Math.min(iat ?? nowS, nowS) > maxAgeS + clockToleranceS) {
    throw invalidToken(
      `The token lasts longer than the ${maxAgeS} s that this server accepts: send one that expires sooner`,
    );
  }
  const known = 'username' in user ? user.username : null;
  return { user, username: typeof username === 'string' ? username : known, expiresAtMs };
}

function malformed(message: string): HttpProblem {
  return new HttpProblem('token_malformed', message);
}

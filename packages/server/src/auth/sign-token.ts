import { randomUUID } from 'node:crypto';
import { decodeJwt } from 'jose/jwt/decode';
import { SignJWT } from 'jose/jwt/sign';
import { secretKey, type TokenChecks, type TokenOptions } from './token-verifier.js';
import { claimOfUser, parseUserClaim } from './user-claim.js';

/** The content of an access token. */
export interface TokenContent extends Pick<TokenChecks, 'issuer' | 'audience' | 'userClaim'> {
  /** The HS256 secret: at least 32 bytes. */
  readonly secret: string;
  /** users.id; null if only the name is known, which then is `sub`. */
  readonly userId: string | null;
  readonly username: string;
  /** Only needed if it identifies the user. */
  readonly email?: string | null;
  /** How long the token lasts, in milliseconds; at least one second, since `exp` counts whole seconds. */
  readonly ttlMs: number;
}

/**
 * Signs an access token (HS256) with Togglr's claims (userId, username, type `access`, iat, exp, jti), `sub`, and the
 * claims that a server with the same settings requires; rights are not in it. Rejects with an Error that says which
 * part is wrong.
 */
export async function signToken(content: TokenContent): Promise<string> {
  const { secret, userId, username, email = null, ttlMs, issuer, audience, userClaim } = content;
  const userNumber = Number(userId);
  if (userId !== null && (!/^\d+$/.test(userId) || !Number.isSafeInteger(userNumber))) {
    throw new Error(`The user's id ${JSON.stringify(userId)} is not a number of users.id`);
  }
  if (!(ttlMs >= 1_000 && Number.isFinite(ttlMs))) {
    throw new Error(`A token cannot last ${ttlMs} ms: give it one second or more`);
  }
  const id = userId ?? username;
  const issuedAt = Math.floor(Date.now() / 1_000);
  return await new SignJWT({
    ...(userId === null ? {} : { userId: userNumber }),
    username,
    type: 'access',
    sub: id,
    ...(userClaim === undefined ? {} : claimOfUser(parseUserClaim(userClaim), { id, username, email })),
    ...(issuer === undefined ? {} : { iss: issuer }),
    ...(audience === undefined ? {} : { aud: audience }),
  })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + Math.floor(ttlMs / 1_000))
    .setJti(randomUUID())
    .sign(secretKey(secret));
}

/** Signs tokens that this server accepts. */
export interface TokenSigner {
  /** Whether the token names the user by e-mail address. */
  readonly needsEmail: boolean;
  sign(user: Pick<TokenContent, 'username' | 'email'> & { readonly userId: string }): Promise<{
    readonly token: string;
    /** RFC 3339, UTC. */
    readonly expiresAt: string;
  }>;
}

/** `ttlMs` is the lifetime of the tokens, in milliseconds. */
export function createTokenSigner(
  options: TokenOptions & { readonly secret: string },
  ttlMs: number,
): TokenSigner {
  const { userClaim } = options;
  return {
    needsEmail: userClaim !== undefined && parseUserClaim(userClaim).column === 'email',
    sign: async (user) => {
      const token = await signToken({ ...options, ...user, ttlMs });
      return { token, expiresAt: new Date((decodeJwt(token).exp ?? 0) * 1_000).toISOString() };
    },
  };
}

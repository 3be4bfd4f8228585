import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose/jwt/sign';
import { secretKey, type TokenChecks } from './token-verifier.js';
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

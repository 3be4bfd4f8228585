import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import { secretKey } from './token.js';

/**
 * Signs an access token (HS256) with Togglr's claims: userId, username, type `access`, iat, exp
 * and jti, and `sub` beside them. It says who the user is and never what they may do, which is
 * the database's to say.
 *
 * `secret`: at least 32 bytes. `userId`: the number in users.id. `ttlMs`: how long the token
 * lasts, in milliseconds; at least one second, since `exp` counts whole seconds. Rejects with an
 * Error that says which of them is wrong.
 */
export async function signToken(options: {
  readonly secret: string;
  readonly userId: string;
  readonly username: string;
  readonly ttlMs: number;
}): Promise<string> {
  const { secret, userId, username, ttlMs } = options;
  const userNumber = Number(userId);
  if (!/^\d+$/.test(userId) || !Number.isSafeInteger(userNumber)) {
    throw new Error(`The user's id ${JSON.stringify(userId)} is not a number of users.id`);
  }
  if (!(ttlMs >= 1_000 && Number.isFinite(ttlMs))) {
    throw new Error(`A token cannot last ${ttlMs} ms: give it one second or more`);
  }
  const issuedAt = Math.floor(Date.now() / 1_000);
  return await new SignJWT({ userId: userNumber, username, type: 'access' })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(userId)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + Math.floor(ttlMs / 1_000))
    .setJti(randomUUID())
    .sign(secretKey(secret));
}

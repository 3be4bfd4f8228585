import { createHmac, randomUUID } from 'node:crypto';

/** A user of the database. */
export interface TestUser {
  /** users.id */
  readonly id: string;
  readonly username: string;
}

/** Outlives every run. */
const defaultTtlMs = 86_400_000;

/**
 * Signs an access token (HS256) with Togglr's claims. It does not use the server's code, so that a server never verifies
 * only what it signed itself. `ttlMs`: how long the token is valid, in milliseconds, from one second.
 */
export function signToken(secret: string, { id, username }: TestUser, ttlMs = defaultTtlMs): string {
  const issuedAt = Math.floor(Date.now() / 1_000);
  const claims = {
    ...{ userId: Number(id), username, type: 'access', sub: id, jti: randomUUID() },
    ...{ iat: issuedAt, exp: issuedAt + Math.floor(ttlMs / 1_000) },
  };
  const parts = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  const content = parts.join('.');
  return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
}

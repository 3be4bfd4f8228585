import type { JWTPayload } from 'jose';
import { HttpProblem } from '../http-problem.js';

/** Columns of Togglr's users that identify one. */
const userColumns = ['id', 'username', 'email'] as const;

/** The row of users that a token names. With external users only `id`, which is any text. */
export type TokenUser = { readonly id: string } | { readonly username: string } | { readonly email: string };

/** The user of a token or of a session. */
export interface Identity {
  readonly user: TokenUser;
  /** For the log; null if the token does not have it. */
  readonly username: string | null;
  /** In milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

/** The claim that identifies the user. */
export interface UserClaim {
  readonly claim: string;
  /** The column that it is compared with; null for external users. */
  readonly column: (typeof userColumns)[number] | null;
}

/** Claims that do not say who the user is. */
const otherClaims = new Set([
  ...['aud', 'cnf', 'exp', 'iat', 'iss', 'jti'],
  ...['nbf', 'nonce', 'token_use', 'typ', 'type'],
]);
const columnSuffix = new RegExp(`:(${userColumns.join('|')})$`);

/**
 * Parses `claim:column` (`sub:id`, `email:email`), or `claim` for external users. A claim may contain colons. Throws an
 * Error that says what to write instead.
 */
export function parseUserClaim(text: string): UserClaim {
  const column = columnSuffix.exec(text)?.[1] ?? null;
  const claim = column === null ? text : text.slice(0, -column.length - 1);
  // A colon at the end, or before a short word, is an unknown column.
  if (!/^[!-~]+$/.test(claim) || otherClaims.has(claim) || /:[a-z_]*$/i.test(claim)) {
    throw new Error(
      `${JSON.stringify(text)} does not say which claim identifies the user: write claim:column, such as sub:id, preferred_username:username or email:email`,
    );
  }
  return { claim, column: userColumns.find((each) => each === column) ?? null };
}

export interface UserClaimOptions {
  readonly userClaim?: string | undefined;
  /** Whether tokens come from an identity provider. */
  readonly hasKeySet: boolean;
  /** Whether users are not rows of Togglr's table. */
  readonly externalUsers: boolean;
}

/** Finds the user in the claims of a token: throws HttpProblem if there is none. Throws an Error if the claim does not fit. */
export function createUserFinder(options: UserClaimOptions): (payload: JWTPayload) => TokenUser {
  const { userClaim, hasKeySet, externalUsers } = options;
  if (userClaim === undefined) {
    if (!hasKeySet) return externalUsers ? externalUserOf : togglrUserOf;
    if (externalUsers) return (payload) => userByClaim(payload, { claim: 'sub', column: null });
    // A number in `sub` is the issuer's id of a user, not users.id.
    throw new Error(
      'auth has a jwksUrl and no userClaim: give the claim that identifies the user and the column of users that it is compared with, such as email:email',
    );
  }
  const named = parseUserClaim(userClaim);
  if (externalUsers && named.column !== null) {
    throw new Error(
      `The claim of the user ${JSON.stringify(userClaim)} compares with a column of Togglr's users, and users are others here: write the claim alone`,
    );
  }
  if (!externalUsers && named.column === null) {
    throw new Error(
      `The claim of the user ${JSON.stringify(userClaim)} does not name the column of users that it is compared with: write claim:column, such as sub:id, preferred_username:username or email:email`,
    );
  }
  return (payload) => userByClaim(payload, named);
}

function userByClaim(payload: JWTPayload, { claim, column }: UserClaim): TokenUser {
  // Issuers without this claim have only verified addresses; Cognito writes texts.
  const { email_verified: verified = true } = payload;
  if ((column === 'email' || claim === 'email') && verified !== true && verified !== 'true') {
    throw invalidToken(
      'The e-mail address in the token is not verified ("email_verified"): have it verified where you sign in, then sign in again',
    );
  }
  const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  const text = typeof value === 'string' ? value : '';
  // Above 2^53 a number in JSON is not the one that the issuer wrote.
  const id = typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : text;
  if (column === null && id !== '') return { id };
  // One id has one spelling: to the issuer "007" is another user than "7".
  if (column === 'id' && /^(?:0|[1-9]\d{0,18})$/.test(id)) return { id };
  if (column === 'username' && text !== '') return { username: text };
  if (column === 'email' && text !== '') return { email: text };
  const needed = column === 'id' ? `"${claim}", a number of users.id` : `"${claim}"`;
  throw invalidToken(`The token names no user: it needs ${needed}`);
}

function externalUserOf({ userId, sub, username }: JWTPayload): TokenUser {
  const id = userId ?? sub ?? username;
  if (typeof id === 'string' && id !== '') return { id };
  if (typeof id === 'number' && Number.isSafeInteger(id)) return { id: String(id) };
  throw invalidToken(
    'The token names no user: it needs "userId", "sub" or "username", a text or a whole number',
  );
}

function togglrUserOf({ userId, sub }: JWTPayload): TokenUser {
  if (userId === undefined) {
    if (typeof sub === 'string' && sub !== '') return /^\d+$/.test(sub) ? { id: sub } : { username: sub };
    throw invalidToken(
      'The token names no user: it needs "userId" (a number) or "sub" (users.id or users.username)',
    );
  }
  if (typeof userId !== 'number' || !Number.isSafeInteger(userId) || userId < 0) {
    throw invalidToken('The token\'s "userId" is not a whole number: sign in again');
  }
  return { id: String(userId) };
}

/** The claims of a user whom this server signs a token for. */
export function claimOfUser(
  { claim, column }: UserClaim,
  user: { readonly id: string; readonly username: string; readonly email: string | null },
): JWTPayload {
  return { [claim]: column === null ? user.id : user[column] };
}

export function invalidToken(message: string): HttpProblem {
  return new HttpProblem('token_invalid', message);
}

import type { JWTPayload } from 'jose';
import { TokenError } from './token-error.js';

/** Columns of Togglr's users that identify one. */
const USER_COLUMNS = ['id', 'username', 'email'] as const;
type UserColumn = (typeof USER_COLUMNS)[number];

/** The row of users that a token names. With users of the host's own only `id`, which is any text. */
export type TokenUser = { readonly id: string } | { readonly username: string } | { readonly email: string };

/** The claim that identifies the user. */
export interface UserClaim {
  readonly claim: string;
  /** What it is compared with; null where users are not rows of Togglr's table. */
  readonly column: UserColumn | null;
}

/** Claims that say something else than who the user is. */
const OTHER_CLAIMS = new Set([
  'aud',
  'cnf',
  'exp',
  'iat',
  'iss',
  'jti',
  'nbf',
  'nonce',
  'token_use',
  'typ',
  'type',
]);
const COLUMN_SUFFIX = new RegExp(`:(${USER_COLUMNS.join('|')})$`);

/**
 * `claim:column` (`sub:id`, `email:email`), or `claim` alone where users are not rows of Togglr's table. A claim
 * may hold colons. Throws an Error that says what to write instead for anything else.
 */
export function parseUserClaim(text: string): UserClaim {
  const column = COLUMN_SUFFIX.exec(text)?.[1] ?? null;
  const claim = column === null ? text : text.slice(0, -column.length - 1);
  // A colon at the end of a name, or before a short word, is a column that there is not.
  if (!/^[!-~]+$/.test(claim) || OTHER_CLAIMS.has(claim) || /:[a-z_]*$/i.test(claim)) {
    throw new Error(
      `${JSON.stringify(text)} does not say which claim identifies the user: write claim:column, such as sub:id, preferred_username:username or email:email`,
    );
  }
  return { claim, column: USER_COLUMNS.find((each) => each === column) ?? null };
}

/** The user whom the claim names. Throws a TokenError where it names none. */
export function userByClaim(payload: JWTPayload, { claim, column }: UserClaim): TokenUser {
  if ((column === 'email' || claim === 'email') && !isVerified(payload['email_verified'])) {
    throw new TokenError(
      'token_invalid',
      'The e-mail address in the token is not verified ("email_verified"): have it verified where you sign in, then sign in again',
    );
  }
  const value = Object.hasOwn(payload, claim) ? payload[claim] : undefined;
  const text = typeof value === 'string' ? value : '';
  // Some issuers write numbers as numbers. Above 2^53 a number in JSON is not the one that was written.
  const number = typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : text;
  switch (column) {
    case 'id':
      // One id has one spelling: "007" is another user of the issuer than "7".
      if (/^(?:0|[1-9]\d{0,18})$/.test(number)) return { id: number };
      break;
    case 'username':
      if (text !== '') return { username: text };
      break;
    case 'email':
      if (text !== '') return { email: text };
      break;
    case null:
      if (number !== '') return { id: number };
      break;
  }
  throw new TokenError(
    'token_invalid',
    `The token names no user: it needs "${claim}"${column === 'id' ? ', a number of users.id' : ''}`,
  );
}

/** The claims that name a user whom the server itself signs a token for. */
export function claimOfUser(
  { claim, column }: UserClaim,
  user: { readonly id: string; readonly username: string; readonly email: string | null },
): JWTPayload {
  return { [claim]: column === null ? user.id : user[column] };
}

/** An issuer that does not tell is one that has no addresses but verified ones; Cognito writes texts. */
function isVerified(emailVerified: unknown): boolean {
  return emailVerified === undefined || emailVerified === true || emailVerified === 'true';
}

import type { TokenOptions, TokenChecks } from '../../auth/auth-options.js';
import { parseUserClaim } from '../../auth/user-claim.js';
import type { Reading, Variable } from './config.js';

/** How tokens are checked; null where nothing says it. */
export function readAuth(reading: Reading, checks: TokenChecks): TokenOptions | null {
  const secret = reading.value('FLAGCAST_JWT_SECRET');
  const jwksUrl = reading.value('FLAGCAST_JWKS_URL');
  const hasSecret = reading.isSet('FLAGCAST_JWT_SECRET');
  const hasKeys = reading.isSet('FLAGCAST_JWKS_URL');
  const hasAuthorizeSql = reading.isSet('FLAGCAST_AUTHORIZE_SQL');
  if (hasSecret && hasKeys) {
    reading.report('FLAGCAST_JWT_SECRET and FLAGCAST_JWKS_URL are both set: unset one of them');
  } else if (reading.isSet('DATABASE_URL') && !hasSecret && !hasKeys) {
    reading.report(
      'Nothing says how to check tokens: set FLAGCAST_JWT_SECRET to the secret that signs them (at least 32 bytes), or FLAGCAST_JWKS_URL to the address of their keys',
    );
  }
  if (jwksUrl !== null && !hasSecret) {
    for (const [name, meaning] of Object.entries(neededWithKeys)) {
      if (reading.isSet(name as Variable) || (name === 'FLAGCAST_JWT_USER_CLAIM' && hasAuthorizeSql))
        continue;
      reading.report(`FLAGCAST_JWKS_URL needs ${name}: set it to ${meaning}`);
    }
  }
  const { userClaim } = checks;
  if (userClaim !== undefined && (parseUserClaim(userClaim).column === null) !== hasAuthorizeSql) {
    reading.report(
      hasAuthorizeSql
        ? 'FLAGCAST_JWT_USER_CLAIM names a column of users, and FLAGCAST_AUTHORIZE_SQL is for users of other tables: write the claim alone, such as sub'
        : 'FLAGCAST_JWT_USER_CLAIM names no column of users: write claim:column, such as sub:id, preferred_username:username or email:email',
    );
  }
  if (secret !== null) return { secret, ...checks };
  const { issuer = '', audience = '' } = checks;
  return jwksUrl === null ? null : { jwksUrl, ...checks, issuer, audience };
}

const neededWithKeys: Readonly<Partial<Record<Variable, string>>> = {
  FLAGCAST_JWT_ISSUER: 'the "iss" of the tokens',
  FLAGCAST_JWT_AUDIENCE: 'the "aud" of tokens for this server, so that tokens for other services are refused',
  FLAGCAST_JWT_USER_CLAIM:
    'the claim that identifies the user and the column of users that it is compared with, such as email:email',
};

export function readTokenChecks(reading: Reading): TokenChecks {
  return {
    issuer: reading.value('FLAGCAST_JWT_ISSUER') ?? undefined,
    audience: reading.value('FLAGCAST_JWT_AUDIENCE') ?? undefined,
    userClaim: reading.value('FLAGCAST_JWT_USER_CLAIM') ?? undefined,
    maxTokenAgeMs: reading.value('FLAGCAST_JWT_MAX_AGE') ?? undefined,
  };
}

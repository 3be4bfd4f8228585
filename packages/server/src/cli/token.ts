import type { TokenChecks } from '../auth/auth-options.js';
import { signToken } from '../auth/sign-token.js';
import { DEFAULT_MAX_TOKEN_AGE_MS } from '../auth/token-verifier.js';
import { parseUserClaim } from '../auth/user-claim.js';
import { loadLocalConfig, type LocalConfig } from './config/config.js';
import { parseDuration } from './config/duration.js';
import { printable } from '../describe.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { withClient } from './connect.js';
import { readDatabaseUrl, readSecret } from './data-folder.js';

export const tokenCommand = defineCommand({
  name: 'token',
  help: `flagcast token --user NAME [options]

Prints an access token for a user, and nothing else. It is signed with FLAGCAST_JWT_SECRET, else
with the secret of the embedded demo.

  --user NAME         the user's name, or the number in users.id
  --ttl TIME          how long the token lasts, with a unit: 90s, 15m, 1h (default 1h); no longer than
                      FLAGCAST_JWT_MAX_AGE
  --database-url URL  where to look the user up (env DATABASE_URL; default: the embedded demo, if it
                      runs). A database that does not answer is done without: the token then names
                      the user as it is written

Environment:
  FLAGCAST_JWT_SECRET  the HS256 secret of the server, at least 32 bytes
  FLAGCAST_JWT_ISSUER, FLAGCAST_JWT_AUDIENCE, FLAGCAST_JWT_USER_CLAIM, FLAGCAST_JWT_MAX_AGE
                       as the server has them, see flagcast serve --help
  FLAGCAST_DATA_DIR    the data folder of the embedded demo (default as in flagcast serve)`,
  options: {
    user: { type: 'string' },
    ttl: { type: 'string' },
    'database-url': { type: 'string' },
  },
  run: async (values, environment) => {
    const name = values.user ?? '';
    if (name === '') throw new UsageError('Whose token? Add --user NAME; see flagcast token --help');
    const config = loadLocalConfig(environment, { databaseUrl: values['database-url'] });
    const { tokenChecks } = config;
    const ttlMs = parseTtl(values.ttl ?? '1h', tokenChecks);
    const secret = await findSecret(config);
    const user = await lookUp(config, name);
    console.log(
      user === null
        ? await signForName(secret, name, ttlMs, tokenChecks)
        : await signToken({ ...tokenChecks, secret, userId: user.id, ...user, ttlMs }),
    );
  },
});

/**
 * A token for the name alone, for where no database tells the number that belongs to it: the
 * server looks the name up. All digits are the number itself.
 */
export async function signForName(
  secret: string,
  name: string,
  ttlMs: number,
  checks: TokenChecks = {},
): Promise<string> {
  const userId = /^\d+$/.test(name) ? name : null;
  return await signToken({ ...checks, secret, userId, username: name, email: name, ttlMs });
}

/** @throws CommandError when there is none. */
async function findSecret(config: LocalConfig): Promise<string> {
  const secret = config.secret ?? (await readSecret(config.dataDir));
  if (secret !== null) return secret;
  throw new CommandError(
    `There is no secret to sign with: set FLAGCAST_JWT_SECRET to the server's, or start the demo once with flagcast serve${config.dataDir === null ? '' : ` (its data folder ${config.dataDir} has none)`}`,
  );
}

function parseTtl(text: string, { maxTokenAgeMs = DEFAULT_MAX_TOKEN_AGE_MS }: TokenChecks): number {
  try {
    const ttlMs = parseDuration(text);
    if (ttlMs < 1_000) throw new Error(`${JSON.stringify(text)} is too short: give one second or more`);
    if (ttlMs > maxTokenAgeMs) {
      throw new Error(
        `${JSON.stringify(text)} is longer than servers accept (${maxTokenAgeMs / 1_000} s): give less, or set FLAGCAST_JWT_MAX_AGE here and for the server`,
      );
    }
    return ttlMs;
  } catch (error) {
    throw new CommandError(`--ttl: ${error instanceof Error ? error.message : String(error)}`);
  }
}

interface TokenOwner {
  readonly id: string;
  readonly username: string;
  /** Null unless users are identified by it: a role may have no right to read it. */
  readonly email: string | null;
}

/** The user's row; null, with a word on stderr, where no database can be asked. */
async function lookUp(config: LocalConfig, name: string): Promise<TokenOwner | null> {
  const databaseUrl = config.databaseUrl ?? (await readDatabaseUrl(config.dataDir));
  if (databaseUrl === null) return null;
  try {
    return await withClient(databaseUrl, async (client) => {
      const { userClaim } = config.tokenChecks;
      const isByEmail = userClaim !== undefined && parseUserClaim(userClaim).column === 'email';
      const { rows } = await client.query<TokenOwner>(
        `SELECT id::text AS id, username::text AS username, ${isByEmail ? 'email::text' : 'NULL'} AS email FROM public.users
         WHERE username::text = $1 OR id::text = $1 ORDER BY username::text = $1 DESC LIMIT 1`,
        [name],
      );
      const [user] = rows;
      if (user === undefined) throw new NoSuchUser(name);
      return user;
    });
  } catch (error) {
    if (error instanceof NoSuchUser) throw error;
    // The URL of an embedded PostgreSQL that was killed is no news: it is just not running.
    if (config.databaseUrl !== null) {
      const reason = error instanceof Error ? error.message : String(error);
      console.error(`flagcast: The user was not looked up: ${reason}`);
    }
    return null;
  }
}

class NoSuchUser extends CommandError {
  constructor(name: string) {
    super(
      `There is no user "${printable(name)}" in the database; give the name of one that is (users.username)`,
    );
  }
}

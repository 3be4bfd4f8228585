import { signToken } from '../auth/sign-token.js';
import { defaultMaxTokenAgeMs, type TokenChecks } from '../auth/token-verifier.js';
import { parseUserClaim } from '../auth/user-claim.js';
import { loadLocalConfig, type LocalConfig, tokenSettings } from './config.js';
import { parseDuration } from './setting-parsers.js';
import { describeError, printable } from '../describe.js';
import { CommandError, defineCommand } from './command.js';
import { withClient } from './connect.js';
import { readDatabaseUrl, readSecret } from './data-folder.js';

export const tokenCommand = defineCommand({
  name: 'token',
  usage: '--user NAME [options]',
  description: `Prints an access token for a user, signed with FLAGCAST_JWT_SECRET or the secret of the embedded demo. The user is looked up in the database; if the database does not answer, the token names the user as given.`,
  options: {
    user: { value: 'NAME', required: true, help: "the user's name, or the number in users.id" },
    ttl: {
      value: 'TIME',
      help: 'the lifetime of the token, such as 90s, 15m or 1h; at most FLAGCAST_JWT_MAX_AGE (default: 1h)',
    },
  },
  settings: ['databaseUrl', ...tokenSettings, 'dataDir'],
  run: async ({ options: { user: name, ttl = '1h' }, flags, environment }) => {
    const config = loadLocalConfig(environment, flags);
    const { tokenChecks } = config;
    const ttlMs = parseTtl(ttl, tokenChecks);
    const secret = await findSecret(config);
    const user = await lookUp(config, name);
    console.log(
      user === null
        ? await signForName(secret, name, ttlMs, tokenChecks)
        : await signToken({ ...tokenChecks, secret, userId: user.id, ...user, ttlMs }),
    );
  },
});

/** A token with the name of the user, whom the server looks up. A name of digits is the id. */
export async function signForName(
  secret: string,
  name: string,
  ttlMs: number,
  checks: TokenChecks = {},
): Promise<string> {
  const userId = /^\d+$/.test(name) ? name : null;
  return await signToken({ ...checks, secret, userId, username: name, email: name, ttlMs });
}

/** @throws CommandError if there is none. */
async function findSecret(config: LocalConfig): Promise<string> {
  const secret = config.secret ?? (await readSecret(config.dataDir));
  if (secret !== null) return secret;
  throw new CommandError(
    `There is no secret to sign with: set FLAGCAST_JWT_SECRET to the server's, or FLAGCAST_DATA_DIR to the data folder of a demo${config.dataDir === null ? '' : ` (${config.dataDir} is not one)`}`,
  );
}

function parseTtl(text: string, { maxTokenAgeMs = defaultMaxTokenAgeMs }: TokenChecks): number {
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
  /** Null unless it identifies users: the role may lack the permission to read it. */
  readonly email: string | null;
}

/** The user's row; null, with a message on stderr, if the database cannot be read. */
async function lookUp(config: LocalConfig, name: string): Promise<TokenOwner | null> {
  const databaseUrl = config.databaseUrl ?? (await readDatabaseUrl(config.dataDir));
  if (databaseUrl === null) {
    if (config.secret === null) reportNoServer(config);
    return null;
  }
  const { userClaim } = config.tokenChecks;
  const isByEmail = userClaim !== undefined && parseUserClaim(userClaim).column === 'email';
  const email = isByEmail ? 'email::text' : 'NULL';
  const users = await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<TokenOwner>(
      `SELECT id::text AS id, username::text AS username, ${email} AS email FROM public.users
       WHERE username::text = $1 OR id::text = $1 ORDER BY username::text = $1 DESC LIMIT 1`,
      [name],
    );
    return rows;
  }).catch((error: unknown) => {
    // The URL of the embedded PostgreSQL is left over if its server was killed.
    if (config.databaseUrl === null) reportNoServer(config);
    else console.error(`flagcast: The user was not looked up: ${describeError(error)}`);
    return null;
  });
  if (users === null) return null;
  const [user] = users;
  if (user !== undefined) return user;
  throw new CommandError(
    `There is no user "${printable(name)}" in the database; give a name of users.username, or a number of users.id`,
  );
}

/** The secret may be of another demo than the one that runs: then its server refuses the token. */
function reportNoServer({ dataDir }: LocalConfig): void {
  console.error(
    `flagcast: No server uses the data folder ${dataDir} now: for one with another folder, set FLAGCAST_DATA_DIR`,
  );
}

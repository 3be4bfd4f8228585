import { SignJWT } from 'jose';
import { randomUUID } from 'node:crypto';
import { signToken } from '../access/sign.js';
import { secretKey } from '../access/token.js';
import { loadLocalConfig, type LocalConfig } from '../config/config.js';
import { parseDuration } from '../config/duration.js';
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
  --ttl TIME          how long the token lasts, with a unit: 90s, 15m, 1h, 7d (default 1h)
  --database-url URL  where to look the user up (env DATABASE_URL; default: the embedded demo, if it
                      runs). A database that does not answer is done without: the token then names
                      the user as it is written

Environment:
  FLAGCAST_JWT_SECRET  the HS256 secret of the server, at least 32 bytes
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
    const ttlMs = parseTtl(values.ttl ?? '1h');
    const secret = await findSecret(config);
    const user = await lookUp(config, name);
    console.log(
      user === null
        ? await signForName(secret, name, ttlMs)
        : await signToken({ secret, userId: user.id, username: user.username, ttlMs }),
    );
  },
});

/**
 * A token for the name alone, for where no database tells the number that belongs to it: the
 * server looks the name up. All digits are the number itself.
 */
export async function signForName(secret: string, name: string, ttlMs: number): Promise<string> {
  if (/^\d+$/.test(name)) return await signToken({ secret, userId: name, username: name, ttlMs });
  const issuedAt = Math.floor(Date.now() / 1_000);
  return await new SignJWT({ username: name, type: 'access' })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(name)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + Math.floor(ttlMs / 1_000))
    .setJti(randomUUID())
    .sign(secretKey(secret));
}

/** @throws CommandError when there is none. */
async function findSecret(config: LocalConfig): Promise<string> {
  const secret = config.secret ?? (await readSecret(config.dataDir));
  if (secret !== null) return secret;
  throw new CommandError(
    `There is no secret to sign with: set FLAGCAST_JWT_SECRET to the server's, or start the demo once with flagcast serve${config.dataDir === null ? '' : ` (its data folder ${config.dataDir} has none)`}`,
  );
}

function parseTtl(text: string): number {
  try {
    const ttlMs = parseDuration(text);
    if (ttlMs < 1_000) throw new Error(`${JSON.stringify(text)} is too short: give one second or more`);
    return ttlMs;
  } catch (error) {
    throw new CommandError(`--ttl: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The user's row; null, with a word on stderr, where no database can be asked. */
async function lookUp(config: LocalConfig, name: string): Promise<{ id: string; username: string } | null> {
  const databaseUrl = config.databaseUrl ?? (await readDatabaseUrl(config.dataDir));
  if (databaseUrl === null) return null;
  try {
    return await withClient(databaseUrl, async (client) => {
      const { rows } = await client.query<{ id: string; username: string }>(
        `SELECT id::text AS id, username::text AS username FROM public.users
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

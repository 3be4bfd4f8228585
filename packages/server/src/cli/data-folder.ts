import { constants, open } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { describeError } from '../describe.js';

/** Files that the demo writes for the commands. Only their owner can read them. */
export const dataFiles = { secret: 'jwt-secret', databaseUrl: 'database-url' } as const;

const minSecretBytes = 32;

/**
 * As root `/var/lib/flagcast`, else `$XDG_DATA_HOME/flagcast`, by default `~/.local/share/flagcast`. Null for a user
 * without a home directory.
 */
export function defaultDataDir(environment: NodeJS.ProcessEnv): string | null {
  if (process.geteuid?.() === 0) return '/var/lib/flagcast';
  // The XDG specification says to ignore a relative path.
  const dataHome = [environment['XDG_DATA_HOME'] ?? '', path.join(homeDirectory(), '.local', 'share')].find(
    (candidate) => path.isAbsolute(candidate),
  );
  return dataHome === undefined ? null : path.join(dataHome, 'flagcast');
}

/** Empty if HOME is not set and the password database does not know the user, as in a container with any user id. */
function homeDirectory(): string {
  try {
    return homedir();
  } catch {
    return '';
  }
}

/** @throws Error if there is no data folder. */
export function requireDataDir(dataDir: string | null): string {
  if (dataDir !== null) return dataDir;
  throw new Error(
    'This user has no home directory for the data of the demo: set FLAGCAST_DATA_DIR to a folder, or DATABASE_URL to a database',
  );
}

/** The secret that signs the tokens of the demo; null if there is none. */
export async function readSecret(dataDir: string | null): Promise<string | null> {
  const secret = await readDataFile(dataDir, dataFiles.secret);
  if (dataDir !== null && secret !== null && Buffer.byteLength(secret) < minSecretBytes) {
    throw new Error(
      `The secret in ${path.join(dataDir, dataFiles.secret)} is shorter than ${minSecretBytes} bytes; delete that file and start flagcast serve again`,
    );
  }
  return secret;
}

/** The URL of the embedded PostgreSQL; null if it does not run. After a server was killed, the file can be left over. */
export async function readDatabaseUrl(dataDir: string | null): Promise<string | null> {
  return await readDataFile(dataDir, dataFiles.databaseUrl);
}

async function readDataFile(dataDir: string | null, name: string): Promise<string | null> {
  if (dataDir === null) return null;
  return (await readPrivateFile(path.join(dataDir, name)))?.trim() ?? null;
}

/**
 * The text of a file that holds a secret; null if there is no file.
 *
 * @throws Error if it cannot be read, is a symbolic link, belongs to another user than `owner`, or others have access.
 */
export async function readPrivateFile(file: string, owner = process.geteuid?.()): Promise<string | null> {
  try {
    // Without O_NONBLOCK, open would wait for a writer of a named pipe.
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { mode, uid } = await handle.stat();
      if (owner !== undefined && uid !== owner) {
        throw new Error(
          `${file} belongs to user ${uid}, and user ${owner} does not trust it: run this as user ${uid}, or delete the file`,
        );
      }
      if ((mode & 0o077) !== 0) {
        throw new Error(`${file} holds a secret that other users can read or write: run "chmod 600 ${file}"`);
      }
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    if (code === 'ELOOP')
      throw new Error(`${file} is a symbolic link: put the file itself there`, { cause: error });
    if (code === null) throw error;
    throw new Error(
      `${file} cannot be read (${describeError(error)}): run this as the user who runs flagcast serve`,
      { cause: error },
    );
  }
}

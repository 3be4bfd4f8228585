import { randomBytes, randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { describeError } from '../describe.js';
import { readPrivateFile } from '../private-file.js';
import { CommandError } from './command.js';

/** Files of the data folder for the other commands. Only their owner can read them. */
const secretFile = 'jwt-secret';
const databaseUrlFile = 'database-url';

const minSecretBytes = 32;

/** @throws CommandError if there is no data folder. */
export function requireDataDir(dataDir: string | null): string {
  if (dataDir !== null) return dataDir;
  throw new CommandError(
    'This user has no home directory for the data of the demo: set FLAGCAST_DATA_DIR to a folder, or DATABASE_URL to a database',
  );
}

/** The secret that signs the tokens of the demo; null if there is none. */
export async function readSecret(dataDir: string | null): Promise<string | null> {
  if (dataDir === null) return null;
  const secret = await readOwnFile(path.join(dataDir, secretFile));
  if (secret !== null && Buffer.byteLength(secret) < minSecretBytes) {
    throw new CommandError(
      `The secret in ${path.join(dataDir, secretFile)} is shorter than ${minSecretBytes} bytes; delete that file and start flagcast serve again`,
    );
  }
  return secret;
}

/** The secret of the data folder. Creates a random one the first time. */
export async function keepSecret(dataDir: string): Promise<string> {
  const kept = await readSecret(dataDir);
  if (kept !== null) return kept;
  const secret = randomBytes(48).toString('base64url');
  await writePrivateFile(path.join(dataDir, secretFile), secret);
  return secret;
}

/** Writes the URL of the embedded PostgreSQL, with its password, for the other commands. */
export async function publishDatabaseUrl(dataDir: string, databaseUrl: string): Promise<void> {
  await writePrivateFile(path.join(dataDir, databaseUrlFile), databaseUrl);
}

export async function withdrawDatabaseUrl(dataDir: string): Promise<void> {
  await rm(path.join(dataDir, databaseUrlFile), { force: true });
}

/** The URL of the embedded PostgreSQL; null if it does not run. After a server was killed, the file can be left over. */
export async function readDatabaseUrl(dataDir: string | null): Promise<string | null> {
  if (dataDir === null) return null;
  return await readOwnFile(path.join(dataDir, databaseUrlFile));
}

async function readOwnFile(file: string): Promise<string | null> {
  try {
    return (await readPrivateFile(file))?.trim() ?? null;
  } catch (error) {
    throw new CommandError(describeError(error));
  }
}

/** Renamed into place, so that no reader and no full disk leaves half of a secret. */
async function writePrivateFile(file: string, text: string): Promise<void> {
  const unfinished = `${file}.${randomUUID()}`;
  try {
    const handle = await open(unfinished, 'wx', 0o600);
    try {
      await handle.writeFile(`${text}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, file);
  } catch (error) {
    throw new CommandError(
      `${file} cannot be written (${describeError(error)}); fix that, or set FLAGCAST_DATA_DIR to another folder`,
    );
  } finally {
    await rm(unfinished, { force: true });
  }
}

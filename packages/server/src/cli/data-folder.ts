import { randomBytes, randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { describeError } from '../describe.js';
import { readPrivateFile } from '../private-file.js';
import { CommandError } from './command.js';

/** What the server keeps beside its embedded PostgreSQL for the other commands, readable by its own user alone. */
const SECRET_FILE = 'jwt-secret';
const DATABASE_URL_FILE = 'database-url';

const MIN_SECRET_BYTES = 32;

/** @throws CommandError where there is none. */
export function requireDataDir(dataDir: string | null): string {
  if (dataDir !== null) return dataDir;
  throw new CommandError(
    'This user has no home directory for the data of the demo: set FLAGCAST_DATA_DIR to a folder, or DATABASE_URL to a database',
  );
}

/** The secret that tokens are signed with in the demo; null where the data folder has none. */
export async function readSecret(dataDir: string | null): Promise<string | null> {
  if (dataDir === null) return null;
  const secret = await readOwnFile(path.join(dataDir, SECRET_FILE));
  if (secret !== null && Buffer.byteLength(secret) < MIN_SECRET_BYTES) {
    throw new CommandError(
      `The secret in ${path.join(dataDir, SECRET_FILE)} is shorter than ${MIN_SECRET_BYTES} bytes; delete that file and start flagcast serve again`,
    );
  }
  return secret;
}

/** The secret of the data folder; a new random one is made and kept at the first time. */
export async function keepSecret(dataDir: string): Promise<string> {
  const kept = await readSecret(dataDir);
  if (kept !== null) return kept;
  const secret = randomBytes(48).toString('base64url');
  await writePrivateFile(path.join(dataDir, SECRET_FILE), secret);
  return secret;
}

/** Tells the other commands where the embedded PostgreSQL listens; the URL holds its password. */
export async function publishDatabaseUrl(dataDir: string, databaseUrl: string): Promise<void> {
  await writePrivateFile(path.join(dataDir, DATABASE_URL_FILE), databaseUrl);
}

export async function withdrawDatabaseUrl(dataDir: string): Promise<void> {
  await rm(path.join(dataDir, DATABASE_URL_FILE), { force: true });
}

/**
 * Where the embedded PostgreSQL of the data folder listens; null when none is running. After a
 * server was killed it may be where it listened last.
 */
export async function readDatabaseUrl(dataDir: string | null): Promise<string | null> {
  if (dataDir === null) return null;
  return await readOwnFile(path.join(dataDir, DATABASE_URL_FILE));
}

async function readOwnFile(file: string): Promise<string | null> {
  try {
    return (await readPrivateFile(file))?.trim() ?? null;
  } catch (error) {
    throw new CommandError(describeError(error));
  }
}

/** Written elsewhere first: whoever reads it finds all of it, and a full disk leaves no half of a secret. */
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
      `${file} cannot be written (${describeError(error)}); mend that, or set FLAGCAST_DATA_DIR to another folder`,
    );
  } finally {
    await rm(unfinished, { force: true });
  }
}

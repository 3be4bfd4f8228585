import { randomBytes } from 'node:crypto';
import { lchown, mkdtemp, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { readPrivateFile } from 'flagcast/demo-support';
import { closedFolder, makeFolder, refuseForeignFolder, type Account } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { EmbeddedPostgresError, errorCode } from './embedded-error.js';
import { readIfThere } from './embedded-owner.js';
import { initialise } from './embedded-process.js';

/** A cluster's folder carries the major version: `data-18`. */
const CLUSTER_NAME = /^data-(\d+)$/;

/** The database of the demo. */
export const DATABASE_NAME = 'flagcast';
/**
 * The cluster's superuser. Not called like our schema: `"$user"` in the default search_path would make
 * the schema `flagcast` come before `public`.
 */
export const SUPERUSER_NAME = 'postgres';

/**
 * Makes the data folder where it is missing and returns its real path.
 *
 * @throws EmbeddedPostgresError `unreachable` when the account that PostgreSQL runs as cannot
 *   enter it, or another user can write to it.
 */
export async function prepareDataDir(dataDir: string, account: Account | null): Promise<string> {
  const wanted = path.resolve(dataDir);
  await makeFolder(wanted, account);
  const real = await realpath(wanted);
  await refuseForeignFolder(real);
  const closed = account === null ? null : await closedFolder(real, account);
  if (closed !== null && account !== null) {
    throw new EmbeddedPostgresError(
      'unreachable',
      `PostgreSQL runs as the account "${account.name}", which cannot enter ${closed} on the way to the data folder ${real}; set FLAGCAST_DATA_DIR to a folder outside of it, or open it with "chmod a+x ${closed}".`,
    );
  }
  return real;
}

export interface OpenedCluster {
  readonly clusterDir: string;
  readonly password: string;
}

/**
 * Opens the cluster in the data folder, which this process must own; makes it at the first time.
 *
 * @throws EmbeddedPostgresError `other-major`, `unreachable`, `disk-full`, `failed`.
 */
export async function openCluster(options: {
  readonly dataDir: string;
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly sync: boolean;
  readonly onLog: (line: string) => void;
}): Promise<OpenedCluster> {
  const { dataDir, binaries, account } = options;
  const clusterDir = path.join(dataDir, `data-${binaries.major}`);
  const passwordFile = path.join(dataDir, 'password');
  await removeUnfinished(dataDir);
  await refuseOtherMajor(dataDir, binaries.major);
  if ((await readIfThere(path.join(clusterDir, 'PG_VERSION'))) === null) {
    await writePassword(passwordFile, account);
    await makeCluster({ ...options, clusterDir, passwordFile });
  }
  await refuseOtherUser(clusterDir, account);
  const password = (await readPassword(passwordFile, account))?.trim() ?? '';
  if (password === '') {
    throw new EmbeddedPostgresError(
      'failed',
      `The password file ${passwordFile} is missing or empty, and nothing opens the cluster beside it without; put it back, or set FLAGCAST_DATA_DIR to an empty folder.`,
    );
  }
  return { clusterDir, password };
}

async function readPassword(file: string, account: Account | null): Promise<string | null> {
  try {
    return await readPrivateFile(file, account?.uid);
  } catch (error) {
    throw new EmbeddedPostgresError(
      'unreachable',
      error instanceof Error ? `${error.message}.` : String(error),
    );
  }
}

/** What a start that was killed half-way left behind. */
async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith('unfinished-')) continue;
    // Its initdb may still be writing there; it gives up when it finds its files gone.
    await rm(path.join(dataDir, name), { recursive: true, force: true, maxRetries: 10 });
  }
}

async function refuseOtherMajor(dataDir: string, major: number): Promise<void> {
  const found = new Map<string, string>();
  for (const name of await readdir(dataDir)) {
    const version = CLUSTER_NAME.test(name)
      ? await readIfThere(path.join(dataDir, name, 'PG_VERSION'))
      : null;
    if (version !== null) found.set(name, version.trim());
  }
  const ours = found.get(`data-${major}`);
  const other = ours ?? [...found.values()][0];
  if (other === undefined || other === String(major)) return;
  throw new EmbeddedPostgresError(
    'other-major',
    `The data folder ${dataDir} holds a cluster of PostgreSQL ${other}, but this Flagcast runs PostgreSQL ${major}; move the data over with pg_dump, or set FLAGCAST_DATA_DIR to an empty folder.`,
  );
}

async function refuseOtherUser(clusterDir: string, account: Account | null): Promise<void> {
  const { uid } = await stat(clusterDir);
  const expected = account?.uid ?? process.geteuid?.();
  if (uid === expected) return;
  throw new EmbeddedPostgresError(
    'unreachable',
    `The cluster ${clusterDir} belongs to user ${uid}, but PostgreSQL runs as user ${expected ?? 'unknown'}${account === null ? '' : ` (${account.name})`}; start Flagcast as the user who made it, or set FLAGCAST_DATA_DIR to another folder.`,
  );
}

/** Written elsewhere first, so that a full disk or a crash leaves no half of a cluster. */
async function makeCluster(options: {
  readonly dataDir: string;
  readonly clusterDir: string;
  readonly passwordFile: string;
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly sync: boolean;
  readonly onLog: (line: string) => void;
}): Promise<void> {
  const { account, clusterDir } = options;
  const unfinished = await mkdtemp(path.join(options.dataDir, 'unfinished-'));
  try {
    if (account !== null) await lchown(unfinished, account.uid, account.gid);
    await initialise({ ...options, clusterDir: unfinished, userName: SUPERUSER_NAME });
    await rename(unfinished, clusterDir);
    // Else a power cut could bring the unfinished name back, and with it a new, empty cluster.
    const folder = await open(options.dataDir);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
    throw new EmbeddedPostgresError(
      'failed',
      `The folder ${clusterDir} is not empty, but holds no PostgreSQL cluster (no PG_VERSION); move it away, or set FLAGCAST_DATA_DIR to another folder.`,
    );
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** Readable by the account, because `initdb` reads it; a new one for each new cluster. */
async function writePassword(passwordFile: string, account: Account | null): Promise<void> {
  const unfinished = path.join(path.dirname(passwordFile), `unfinished-${process.pid}-password`);
  try {
    const handle = await open(unfinished, 'wx', 0o600);
    try {
      await handle.writeFile(`${randomBytes(24).toString('base64url')}\n`);
      if (account !== null) await handle.chown(account.uid, account.gid);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, passwordFile);
  } finally {
    await rm(unfinished, { force: true });
  }
}

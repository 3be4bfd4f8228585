import { randomBytes } from 'node:crypto';
import { lchown, mkdtemp, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { readPrivateFile } from 'flagcast/support';
import { inaccessibleFolder, makeFolder, refuseForeignFolder, type Account } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { EmbeddedPostgresError, errorCode, toEmbeddedError } from './embedded-error.js';
import { readIfExists } from './embedded-owner.js';
import { initialise } from './embedded-process.js';

/** The folder of a cluster, named after its major version: `data-18`. */
const CLUSTER_NAME = /^data-(\d+)$/;

/** The database of the demo. */
export const DATABASE_NAME = 'flagcast';
/**
 * The cluster's superuser. It must not have the name of the schema `flagcast`: with `"$user"` in the default search_path,
 * that schema would come before `public`.
 */
export const SUPERUSER_NAME = 'postgres';

/**
 * Creates the data folder if it is missing, and returns its real path.
 *
 * @throws EmbeddedPostgresError `unreachable` if PostgreSQL's account cannot enter it, or another user can write to it.
 */
export async function prepareDataDir(dataDir: string, account: Account | null): Promise<string> {
  const wanted = path.resolve(dataDir);
  await makeFolder(wanted, account);
  const real = await realpath(wanted);
  await refuseForeignFolder(real);
  const closed = account === null ? null : await inaccessibleFolder(real, account);
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
 * Opens the cluster in the data folder, which this process must own. Creates it on the first start.
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
  if ((await readIfExists(path.join(clusterDir, 'PG_VERSION'))) === null) {
    // `initdb` reads it as that account.
    await writePrivateFile(passwordFile, randomBytes(24).toString('base64url'), account);
    await createCluster({ ...options, clusterDir, passwordFile });
  }
  await refuseOtherUser(clusterDir, account);
  const password = (await readPassword(passwordFile, account))?.trim() ?? '';
  if (password === '') {
    throw new EmbeddedPostgresError(
      'failed',
      `The password file ${passwordFile} is missing or empty, but the cluster in the same folder needs it; restore the file, or set FLAGCAST_DATA_DIR to an empty folder.`,
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

/** Removes what an interrupted start has left. */
async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith('unfinished-')) continue;
    // An initdb that still runs there fails when its files are missing.
    await rm(path.join(dataDir, name), { recursive: true, force: true, maxRetries: 10 });
  }
}

async function refuseOtherMajor(dataDir: string, major: number): Promise<void> {
  const found = new Map<string, string>();
  for (const name of await readdir(dataDir)) {
    const version = CLUSTER_NAME.test(name)
      ? await readIfExists(path.join(dataDir, name, 'PG_VERSION'))
      : null;
    if (version !== null) found.set(name, version.trim());
  }
  const ours = found.get(`data-${major}`);
  const other = ours ?? [...found.values()][0];
  if (other === undefined || other === String(major)) return;
  throw new EmbeddedPostgresError(
    'other-major',
    `The data folder ${dataDir} holds a cluster of PostgreSQL ${other}, but this Flagcast runs PostgreSQL ${major}; migrate the data with pg_dump, or set FLAGCAST_DATA_DIR to an empty folder.`,
  );
}

async function refuseOtherUser(clusterDir: string, account: Account | null): Promise<void> {
  const { uid } = await stat(clusterDir);
  const expected = account?.uid ?? process.geteuid?.();
  if (uid === expected) return;
  throw new EmbeddedPostgresError(
    'unreachable',
    `The cluster ${clusterDir} belongs to user ${uid}, but PostgreSQL runs as user ${expected ?? 'unknown'}${account === null ? '' : ` (${account.name})`}; start Flagcast as the user who created it, or set FLAGCAST_DATA_DIR to another folder.`,
  );
}

/** Creates the cluster under another name and renames it, so that a full disk or a crash leaves no partial cluster. */
async function createCluster(options: {
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
    // Without this fsync, a power failure could undo the rename, and the next start would create an empty cluster.
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

/**
 * Writes a secret that only its owner can read, by default the current user. Renamed into place, so that no reader and no
 * full disk leaves half of it.
 *
 * @throws EmbeddedPostgresError
 */
export async function writePrivateFile(
  file: string,
  text: string,
  owner: Account | null = null,
): Promise<void> {
  const { dir, base } = path.parse(file);
  const unfinished = path.join(dir, `unfinished-${process.pid}-${base}`);
  try {
    const handle = await open(unfinished, 'wx', 0o600);
    try {
      await handle.writeFile(`${text}\n`);
      if (owner !== null) await handle.chown(owner.uid, owner.gid);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(unfinished, file);
  } catch (error) {
    throw toEmbeddedError(error, dir);
  } finally {
    await rm(unfinished, { force: true });
  }
}

import { realpath, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { EmbeddedPostgresError, errorCode } from './embedded-error.js';
import { processExists, readIfThere } from './embedded-owner.js';

/** How long a clean stop may take before it is cut short, in milliseconds. */
export const FAST_STOP_MS = 10_000;
const LOOK_AGAIN_MS = 50;

export interface LeftoverCluster {
  readonly dataDir: string;
  readonly clusterDir: string;
  /** The connection string of the cluster's `postgres` database when it listens on `port`. */
  readonly urlAt: (port: number) => string;
  /** Whether whoever started it is known to be dead, so that it may be stopped. */
  readonly ownerDied: boolean;
}

/**
 * Frees the cluster from a PostgreSQL that still runs in it: stops the one that a killed owner
 * left behind, after making sure that it is this cluster's. A `postmaster.pid` that names some
 * other process is removed; one that names no process PostgreSQL replaces by itself.
 *
 * @throws EmbeddedPostgresError `held` when it may not, or could not, be stopped.
 */
export async function clearCluster(cluster: LeftoverCluster): Promise<void> {
  const pidFile = path.join(cluster.clusterDir, 'postmaster.pid');
  const text = await readIfThere(pidFile);
  if (text === null) return;
  const [pidLine = '', , , portLine = ''] = text.split('\n');
  const pid = Number.parseInt(pidLine, 10);
  const port = Number.parseInt(portLine, 10);
  if (!(pid > 0) || !processExists(pid)) return;
  const runsHere =
    (await worksIn(pid, cluster.clusterDir)) ??
    (port > 0 ? await answersFor(cluster.urlAt(port), cluster.clusterDir) : null);
  if (runsHere === false) {
    await rm(pidFile, { force: true });
    return;
  }
  if (runsHere === null) {
    throw held(cluster, pid, `end it if it is PostgreSQL, else delete ${pidFile}`);
  }
  if (!cluster.ownerDied) throw held(cluster, pid, 'Flagcast did not start it: stop it');
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (errorCode(error) === 'ESRCH') return;
      throw held(cluster, pid, 'it belongs to another user: stop it');
    }
    if (await isGone(pid, cluster.clusterDir)) return;
  }
  throw held(cluster, pid, 'it did not stop when told to: end it');
}

function held(cluster: LeftoverCluster, pid: number, advice: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'held',
    `The data folder ${cluster.dataDir} is in use by a PostgreSQL, process ${pid}; ${advice}, or set FLAGCAST_DATA_DIR to another folder.`,
    { holderPid: pid },
  );
}

async function isGone(pid: number, clusterDir: string): Promise<boolean> {
  const deadlineMs = performance.now() + FAST_STOP_MS;
  while (performance.now() < deadlineMs) {
    // One that nobody reaps keeps its id but works in no folder any more.
    if (!processExists(pid) || (await worksIn(pid, clusterDir)) === false) return true;
    await delay(LOOK_AGAIN_MS);
  }
  return false;
}

/** Whether `pid` is a process that works in `clusterDir`, as PostgreSQL does; null where /proc does not tell. */
async function worksIn(pid: number, clusterDir: string): Promise<boolean | null> {
  if ((await readIfThere('/proc/self/stat')) === null) return null;
  try {
    // By inode: another mount may have another name for the same folder.
    const [theirs, ours] = await Promise.all([stat(`/proc/${pid}/cwd`), stat(clusterDir)]);
    if (theirs.dev !== ours.dev || theirs.ino !== ours.ino) return false;
    return (await readIfThere(`/proc/${pid}/comm`))?.trim() === 'postgres';
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? false : null;
  }
}

/** Whether the PostgreSQL at `url` serves `clusterDir`; null when it does not answer. */
export async function answersFor(url: string, clusterDir: string): Promise<boolean | null> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
    application_name: 'flagcast embedded',
  });
  // A connection that breaks after the answer changes nothing.
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ data_directory: string }>('SHOW data_directory');
    const served = rows[0]?.data_directory;
    return served === undefined ? null : (await realpath(served)) === (await realpath(clusterDir));
  } catch {
    // Refused, wrong password, no answer: whoever listens there, it does not tell.
    return null;
  } finally {
    await client.end();
  }
}

import { realpath, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { EmbeddedPostgresError, errorCode } from './embedded-error.js';
import { processExists, readIfExists } from './embedded-owner.js';

/** Time limit of a fast shutdown, in milliseconds; an immediate shutdown follows. */
export const FAST_STOP_MS = 10_000;
const POLL_INTERVAL_MS = 50;

export interface LeftoverCluster {
  readonly dataDir: string;
  readonly clusterDir: string;
  /** The connection string of the cluster's `postgres` database when it listens on `port`. */
  readonly urlAt: (port: number) => string;
  /** The process that started PostgreSQL has died, so PostgreSQL may be stopped. */
  readonly ownerDied: boolean;
}

/**
 * Stops a PostgreSQL that a killed owner left running in the cluster, after checking that it is this cluster's. Removes a
 * `postmaster.pid` with the id of an unrelated process. PostgreSQL itself replaces one without a running process.
 *
 * @throws EmbeddedPostgresError `held` if PostgreSQL must not or could not be stopped.
 */
export async function stopLeftover(cluster: LeftoverCluster): Promise<void> {
  const pidFile = path.join(cluster.clusterDir, 'postmaster.pid');
  const text = await readIfExists(pidFile);
  if (text === null) return;
  const [pidLine = '', , , portLine = ''] = text.split('\n');
  const pid = Number.parseInt(pidLine, 10);
  const port = Number.parseInt(portLine, 10);
  if (!(pid > 0) || !processExists(pid)) return;
  const isRunning =
    (await runsIn(pid, cluster.clusterDir)) ??
    (port > 0 ? await serves(cluster.urlAt(port), cluster.clusterDir) : null);
  if (isRunning === false) {
    await rm(pidFile, { force: true });
    return;
  }
  if (isRunning === null) {
    throw held(cluster, pid, `stop it if it is PostgreSQL, otherwise delete ${pidFile}`);
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
  throw held(cluster, pid, 'it ignored the signal to stop: kill it');
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
    // A zombie keeps its process id but has no working directory.
    if (!processExists(pid) || (await runsIn(pid, clusterDir)) === false) return true;
    await delay(POLL_INTERVAL_MS);
  }
  return false;
}

/** Whether `pid` is a PostgreSQL with the working directory `clusterDir`; null if /proc does not show it. */
async function runsIn(pid: number, clusterDir: string): Promise<boolean | null> {
  if ((await readIfExists('/proc/self/stat')) === null) return null;
  try {
    // Compares inodes, because the same folder can have several paths.
    const [theirs, ours] = await Promise.all([stat(`/proc/${pid}/cwd`), stat(clusterDir)]);
    if (theirs.dev !== ours.dev || theirs.ino !== ours.ino) return false;
    return (await readIfExists(`/proc/${pid}/comm`))?.trim() === 'postgres';
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? false : null;
  }
}

/** Whether the PostgreSQL at `url` serves `clusterDir`; null if it cannot be queried. */
export async function serves(url: string, clusterDir: string): Promise<boolean | null> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
    application_name: 'flagcast embedded',
  });
  // Errors after the result are irrelevant; without a listener they would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ data_directory: string }>('SHOW data_directory');
    const served = rows[0]?.data_directory;
    return served === undefined ? null : (await realpath(served)) === (await realpath(clusterDir));
  } catch {
    // Connection refused, wrong password, or time-out: unknown.
    return null;
  } finally {
    await client.end();
  }
}

import { spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { bundleCommand } from './bundled-command.js';
import { chosenBinaries } from './chosen-binaries.js';
import {
  copyCluster,
  databaseTemplate,
  databaseUrl,
  makeClusterTemplate,
  withClient,
} from './cluster-template.js';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The connection string of the `flagcast` database of the run's own PostgreSQL; its role is superuser. */
    clusterUrl: string;
    /** The folder of a stopped cluster, from which tests can copy a cluster of their own. */
    clusterTemplate: string;
  }
}

const memoryFolder = '/dev/shm';
const enoughBytes = 6e9;

/**
 * Returns the folder for the files of the run: in memory if there is enough of it and programs can run from there. Copies of
 * clusters and databases are thousands of files, which take several times the processor time on a disk.
 */
async function chooseFolder(): Promise<string> {
  if (process.env['TMPDIR'] !== undefined || process.platform !== 'linux') return tmpdir();
  const mount = (await readFile('/proc/mounts', 'utf8'))
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, folder]) => folder === memoryFolder);
  if (mount === undefined || mount[3]?.split(',').includes('noexec') === true) return tmpdir();
  const { bavail, bsize } = await statfs(memoryFolder);
  return Math.min(bavail * bsize, freemem()) < enoughBytes ? tmpdir() : memoryFolder;
}

/** Waits for the end of its input, then ends every PostgreSQL whose data folder is below `$1`, and removes the folders. */
const cleanUpScript = `cat > /dev/null
find "$1" -name postmaster.pid -exec head -n 1 {} ';' 2> /dev/null | while read -r pid; do kill -INT "$pid"; done
sleep 5
rm -rf "$@"`;

/**
 * One PostgreSQL for the whole run, in a fresh folder; the tests make their databases in it. And one bundle of the command.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(path.join(await chooseFolder(), 'flagcast-test-'));
  // PostgreSQL runs as another account when the tests run as root.
  await chmod(folder, 0o755);
  // Tests make their folders below, so that nothing stays behind a run that was killed: the pipe closes with it.
  process.env['TMPDIR'] = folder;
  const command = await bundleCommand();
  process.env['FLAGCAST_PROGRAM'] = command.program;
  const watchdog = spawn('sh', ['-c', cleanUpScript, 'sh', folder, command.folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  const removeFolders = async (): Promise<void> => {
    await rm(folder, { recursive: true, force: true });
    await command.remove();
    watchdog.stdin.end();
  };
  try {
    const template = path.join(folder, 'template');
    await makeClusterTemplate(template);
    const dataDir = path.join(folder, 'shared');
    await copyCluster(template, dataDir);
    const postgres = await startEmbeddedPostgres({
      dataDir,
      ...chosenBinaries(folder),
      // Databases of tests live for seconds, so durability and autovacuum are off.
      settings: {
        ...{ fsync: 'off', full_page_writes: 'off', autovacuum: 'off' },
        ...{ max_prepared_transactions: '50', max_connections: '300' },
        // Each server that starts waits until the write-ahead log is flushed: by default up to 0.2 s, and asks every 20 ms.
        wal_writer_delay: '10ms',
      },
      // Printed to the terminal, because every test fails when PostgreSQL dies.
      onExit: (error) => project.vitest.logger.error(error.message),
    });
    const warmUps = [
      command.warmUp(postgres.url()),
      // The first connection to a database writes a cache of its catalogue, which its copies have, too.
      ...['template1', databaseTemplate].map(async (name) => {
        await withClient(databaseUrl(postgres.url(), name), () => Promise.resolve());
      }),
    ];
    await Promise.all(warmUps).catch(async (error: unknown) => {
      await postgres.stop();
      throw error;
    });
    project.provide('clusterUrl', postgres.url());
    project.provide('clusterTemplate', template);
    return async () => {
      await postgres.stop();
      await removeFolders();
    };
  } catch (error) {
    await removeFolders();
    throw error;
  }
}

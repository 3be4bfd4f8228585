import { spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { chosenBinaries } from './chosen-binaries.js';
import { copyCluster, makeClusterTemplate } from './cluster-template.js';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The connection string of the `flagcast` database of the run's own PostgreSQL; its role is superuser. */
    clusterUrl: string;
    /** The folder of a stopped cluster, from which tests can copy a cluster of their own. */
    clusterTemplate: string;
  }
}

/** Waits for the end of its input, then ends every PostgreSQL whose data folder is below `$1`, and removes the folder. */
const cleanUpScript = `cat > /dev/null
find "$1" -name postmaster.pid -exec head -n 1 {} ';' 2> /dev/null | while read -r pid; do kill -INT "$pid"; done
sleep 5
rm -rf "$1"`;

/** One PostgreSQL for the whole run, in a fresh folder; the tests make their databases in it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-test-'));
  // PostgreSQL runs as another account when the tests run as root.
  await chmod(folder, 0o755);
  // Tests make their folders below, so that nothing stays behind a run that was killed: the pipe closes with it.
  process.env['TMPDIR'] = folder;
  const watchdog = spawn('sh', ['-c', cleanUpScript, 'sh', folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  const removeFolder = async (): Promise<void> => {
    await rm(folder, { recursive: true, force: true });
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
      settings: { fsync: 'off', autovacuum: 'off', max_prepared_transactions: '50', max_connections: '300' },
      // Printed to the terminal, because every test fails when PostgreSQL dies.
      onExit: (error) => project.vitest.logger.error(error.message),
    });
    project.provide('clusterUrl', postgres.url());
    project.provide('clusterTemplate', template);
    return async () => {
      await postgres.stop();
      await removeFolder();
    };
  } catch (error) {
    await removeFolder();
    throw error;
  }
}

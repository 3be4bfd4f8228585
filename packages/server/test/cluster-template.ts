import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { install } from '../src/install/install.js';
import { chosenBinaries } from './chosen-binaries.js';

/** The template of databases with the tables of the contract. */
export const databaseTemplate = 'template_tables';

/**
 * Creates a cluster and stops it: a copy takes a third of the processor time of a new one. It has a database
 * with everything that `install --tables` makes, and a password that costs its clients little to prove.
 */
export async function makeClusterTemplate(dataDir: string): Promise<void> {
  const postgres = await startEmbeddedPostgres({
    dataDir,
    ...chosenBinaries(path.dirname(dataDir)),
    settings: { fsync: 'off' },
  });
  try {
    const { password } = new URL(postgres.url());
    await withClient(postgres.url(), async (client) => {
      // 4,096 of them, twice a connection, are a few seconds of a run with thousands of connections.
      // PostgreSQL before 16 does not have this setting.
      await client.query(
        "SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'scram_iterations'",
      );
      await client.query(`ALTER ROLE CURRENT_USER PASSWORD '${decodeURIComponent(password)}'`);
      await makeDatabase(client, postgres.url(), databaseTemplate);
    });
  } finally {
    await postgres.stop();
  }
}

const execute = promisify(execFile);

/** Copies a stopped cluster with its file modes. The copies have one system identifier. */
export async function copyCluster(template: string, dataDir: string): Promise<void> {
  await execute('cp', ['-a', template, dataDir]);
}

/** Removes the folder of a cluster: 1,600 files, each of which costs `rm` of Node several calls and promises. */
export async function removeCluster(folder: string): Promise<void> {
  await execute('rm', ['-rf', folder]);
}

/** Makes a database with everything that `install --tables` makes, in the cluster of `adminUrl`. */
export async function makeDatabase(admin: pg.Client, adminUrl: string, name: string): Promise<void> {
  await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`);
  await withClient(databaseUrl(adminUrl, name), async (client) => await install(client, { tables: true }));
}

/** Runs `work` on a new connection to `url`, and closes it. */
export async function withClient<Result>(
  url: string,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export function databaseUrl(adminUrl: string, database: string): string {
  const url = new URL(adminUrl);
  url.pathname = `/${database}`;
  return url.toString();
}

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startEmbeddedPostgres } from '../src/database/embedded.js';
import { install } from '../src/database/install.js';
import { chosenBinaries } from './chosen-binaries.js';

/** The database that those with the contract's tables are copied from. */
export const databaseTemplate = 'template_tables';

/**
 * Makes a cluster and stops it: copying one takes a third of the processor time of making it. It has a database
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
    await run(postgres.url(), async (client) => {
      // 4,096 of them, twice a connection, are a few seconds of a run with thousands of connections.
      // Before PostgreSQL 16 there is no such setting.
      await client.query(
        "SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'scram_iterations'",
      );
      await client.query(`ALTER ROLE CURRENT_USER PASSWORD '${decodeURIComponent(password)}'`);
      await client.query(`CREATE DATABASE ${databaseTemplate} TEMPLATE template0`);
    });
    const url = new URL(postgres.url());
    url.pathname = `/${databaseTemplate}`;
    await run(url.href, async (client) => {
      await install(client, { tables: true });
    });
  } finally {
    await postgres.stop();
  }
}

/** Copies a cluster that has been stopped, with who may read it. The copies have one system identifier. */
export async function copyCluster(template: string, dataDir: string): Promise<void> {
  await promisify(execFile)('cp', ['-a', template, dataDir]);
}

async function run(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

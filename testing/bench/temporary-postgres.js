import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '@flagcast/demo';
import { install } from '../../packages/server/dist/install/install.js';

/** @import { BoundedRun } from './bounded-run.js' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */

/**
 * Starts a PostgreSQL with Flagcast's default settings (fsync is on) in a temporary folder. The end of the run removes it.
 *
 * @param {BoundedRun} run
 * @param {Readonly<Record<string, string>>} [settings] additional PostgreSQL settings
 * @returns {Promise<EmbeddedPostgres>}
 */
export async function startTemporaryPostgres(run, settings = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-'));
  run.defer(async () => await rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // If this process runs as root, PostgreSQL runs as another account.
  await chmod(folder, 0o755);
  const starting = startEmbeddedPostgres({ dataDir: folder, settings, onExit: (error) => run.fail(error) });
  run.defer(async () => {
    // A failed start leaves nothing to stop; its error is reported to the caller.
    const started = await starting.catch(() => null);
    await started?.stop('immediate');
  });
  return await starting;
}

/**
 * Opens a connection, which the end of the run closes.
 *
 * @param {BoundedRun} run
 * @param {string} databaseUrl
 * @param {string} applicationName
 * @returns {Promise<pg.Client>}
 */
export async function connect(run, databaseUrl, applicationName) {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: applicationName });
  // Queries report a lost connection; an error event without a listener would end the process.
  client.on('error', () => undefined);
  await client.connect();
  run.defer(async () => await client.end());
  return client;
}

/**
 * A database with one project, one feature and one superuser. `client`: a connection to it.
 *
 * @typedef {{
 *   readonly url: string,
 *   readonly client: pg.Client,
 *   readonly projectId: string,
 *   readonly environmentId: string,
 *   readonly environmentKey: string,
 *   readonly featureId: string,
 *   readonly userId: string,
 *   readonly username: string,
 * }} BenchDatabase
 */

/**
 * Creates a database with the objects of `flagcast install --tables`, and fills it.
 *
 * @param {BoundedRun} run
 * @param {EmbeddedPostgres} postgres
 * @param {string} name
 * @returns {Promise<BenchDatabase>}
 */
export async function createDatabase(run, postgres, name) {
  const admin = await connect(run, postgres.url(), 'bench admin');
  await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`);
  const url = postgres.url(name);
  const client = await connect(run, url, 'bench writer');
  await install(client, { tables: true });
  await client.query(`
    INSERT INTO users (username, email, password_hash, is_superuser) VALUES ('bench', 'bench@example.com', '', true);
    INSERT INTO projects (name) VALUES ('bench');
    INSERT INTO features (project_id, key, name, kind) SELECT id, 'bench', 'bench', 'simple' FROM projects`);
  /** @type {pg.QueryResult<Omit<BenchDatabase, 'url' | 'client'>>} */
  const { rows } = await client.query(`
    SELECT f.project_id AS "projectId", e.id::text AS "environmentId", e.key AS "environmentKey",
      f.id AS "featureId", u.id::text AS "userId", u.username
    FROM features f JOIN environments e ON e.project_id = f.project_id AND e.key = 'prod' CROSS JOIN users u`);
  const [ids] = rows;
  if (ids === undefined) throw new Error('The project has no environment "prod"');
  return { url, client, ...ids };
}

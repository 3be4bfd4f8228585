import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../packages/demo/dist/embedded/embedded.js';
import { install } from '../packages/server/dist/database/install.js';

/** @import { BoundedRun } from './bounded-run.js' */
/** @import { EmbeddedPostgres } from '../packages/demo/dist/embedded/embedded.js' */

/**
 * A PostgreSQL of the run's own with the product's default settings, fsync included, in a
 * temporary folder. It goes when the run ends.
 *
 * @param {BoundedRun} run
 * @param {Readonly<Record<string, string>>} [settings] of PostgreSQL, beside the defaults
 * @returns {Promise<EmbeddedPostgres>}
 */
export async function startTemporaryPostgres(run, settings = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-bench-'));
  run.defer(async () => await rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // PostgreSQL runs as an account of its own when this process is root's.
  await chmod(folder, 0o755);
  const starting = startEmbeddedPostgres({ dataDir: folder, settings, onExit: (error) => run.fail(error) });
  run.defer(async () => {
    // A start that failed has left nothing to stop, and has been reported where it was awaited.
    const started = await starting.catch(() => null);
    await started?.stop('immediate');
  });
  return await starting;
}

/**
 * A connection that goes when the run ends.
 *
 * @param {BoundedRun} run
 * @param {string} databaseUrl
 * @param {string} applicationName
 * @returns {Promise<pg.Client>}
 */
export async function connect(run, databaseUrl, applicationName) {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: applicationName });
  // Its queries tell when the connection is lost; without a listener the process would end.
  client.on('error', () => undefined);
  await client.connect();
  run.defer(async () => await client.end());
  return client;
}

/**
 * A database with one project, one feature in it and one superuser. `client` is the run's own
 * connection to it.
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
 * Makes a database with everything that `flagcast install --tables` makes, and fills it.
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
  const [made] = rows;
  if (made === undefined) throw new Error('The project has no environment "prod"');
  return { url, client, ...made };
}

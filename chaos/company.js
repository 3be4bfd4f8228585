import pg from 'pg';
import { install } from '../packages/server/dist/database/install.js';

/** @import { EmbeddedPostgres } from '../packages/server/dist/database/embedded.js' */
/** @import { Viewer } from './tokens.js' */
/** @import { ChaosChannel } from './writers.js' */

const databaseName = 'chaos';
const projectCount = 2;
const flagsPerProject = 30;
const viewerCount = 12;

/**
 * @typedef {{
 *   readonly databaseUrl: string,
 *   readonly projects: readonly (readonly ChaosChannel[])[],
 *   readonly viewers: readonly Viewer[],
 *   readonly root: Viewer,
 * }} Company
 * `viewers`: members of all projects; `root`: whose rights nobody takes away.
 */

/**
 * A database with projects, flags and people in it.
 *
 * @param {EmbeddedPostgres} postgres
 * @returns {Promise<Company>}
 */
export async function createCompany(postgres) {
  await withClient(postgres.url(), async (admin) => {
    await admin.query(`CREATE DATABASE ${databaseName} TEMPLATE template0`);
  });
  const databaseUrl = postgres.url(databaseName);
  return await withClient(databaseUrl, async (client) => {
    await install(client, { tables: true });
    // Prepared transactions are possible here, and the writers know which ones are.
    await client.query(`ALTER DATABASE ${databaseName} SET flagcast.notify = 'on'`);
    await client.query(`
      INSERT INTO projects (name) SELECT 'project ' || n FROM generate_series(1, ${projectCount}) n;
      INSERT INTO features (project_id, key, name, kind)
        SELECT p.id, 'flag-' || n, 'Flag ' || n, 'simple' FROM projects p, generate_series(1, ${flagsPerProject}) n;
      INSERT INTO users (username, email, password_hash, is_superuser) VALUES ('root', 'root@example.com', '', true);
      INSERT INTO users (username, email, password_hash)
        SELECT 'viewer-' || n, 'viewer-' || n || '@example.com', '' FROM generate_series(1, ${viewerCount}) n;
      INSERT INTO memberships (project_id, user_id, role_id)
        SELECT p.id, u.id, r.id FROM projects p, users u, roles r
        WHERE NOT u.is_superuser AND r.key = 'project_viewer'`);
    /** @type {pg.QueryResult<ChaosChannel>} */
    const channels = await client.query(
      `SELECT project_id AS "projectId", id::text AS "environmentId", key AS env FROM environments ORDER BY id`,
    );
    /** @type {pg.QueryResult<Viewer & { root: boolean }>} */
    const users = await client.query(
      'SELECT id::text AS id, username, is_superuser AS root FROM users ORDER BY users.id',
    );
    const root = users.rows.find((user) => user.root);
    if (root === undefined) throw new Error('There is no superuser');
    return {
      databaseUrl,
      projects: [...new Set(channels.rows.map(({ projectId }) => projectId))].map((id) =>
        channels.rows.filter(({ projectId }) => projectId === id),
      ),
      viewers: users.rows.filter((user) => !user.root),
      root,
    };
  });
}

/**
 * @template Result
 * @param {string} url
 * @param {(client: pg.Client) => Promise<Result>} work
 */
export async function withClient(url, work) {
  const client = new pg.Client({ connectionString: url, application_name: 'chaos' });
  // A query tells when the connection is lost; without a listener the process would end.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Commits what writers have left prepared for so long, as whoever manages such transactions does.
 *
 * @param {string} databaseUrl
 * @param {number} [olderThanMs] default 0: all
 */
export async function commitPrepared(databaseUrl, olderThanMs = 0) {
  await withClient(databaseUrl, async (client) => {
    /** @type {pg.QueryResult<{ gid: string }>} */
    const { rows } = await client.query(
      `SELECT gid FROM pg_prepared_xacts
       WHERE database = current_database() AND prepared <= clock_timestamp() - $1 * interval '1 ms'`,
      [olderThanMs],
    );
    for (const { gid } of rows) await client.query(`COMMIT PREPARED ${client.escapeLiteral(gid)}`);
  });
}

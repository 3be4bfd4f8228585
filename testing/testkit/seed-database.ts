import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { EmbeddedPostgres } from '@flagcast/demo';
import { install } from 'flagcast/testing';
import type { TestChannel } from './channel.ts';
import { withClient } from './postgres.ts';
import { keepRequestVersions } from './contents.ts';
import type { TestUser } from './tokens.ts';

const databaseName = 'host';
/** The role of the servers; `install --role` creates it. */
export const serverRole = 'host_server';
/** SQL files that create the tables of the host. */
const tablesFolder = new URL('../../packages/server/sql/tables/', import.meta.url);
const projectCount = 2;
const flagsPerProject = 30;
const viewerCount = 12;
const approverCount = 2;

interface Approver extends TestUser {
  readonly projectId: string;
}

export interface SeededDatabase {
  /** The host's connection, as superuser. */
  readonly databaseUrl: string;
  /** The connection of the servers' role. */
  readonly serverUrl: string;
  /** The channels of each project. */
  readonly projects: readonly (readonly TestChannel[])[];
  /** A channel of another project, for imports. */
  readonly importChannel: TestChannel;
  /** Members of all projects. */
  readonly viewers: readonly TestUser[];
  /** Each is a member of one project only. */
  readonly approvers: readonly Approver[];
  /** A superuser. */
  readonly root: TestUser;
}

/**
 * Creates a host's database with projects, flags and users, and installs Flagcast in it. The table
 * testkit.deleted_events keeps the rows that retention deletes from the event log; testkit.unlogged_rows keeps the audit
 * rows that were written while the trigger was missing; testkit.request_versions keeps the contents of requests.
 */
export async function seedDatabase(postgres: EmbeddedPostgres): Promise<SeededDatabase> {
  await withClient(postgres.url(), async (admin) => {
    await admin.query(`CREATE DATABASE ${databaseName} TEMPLATE template0`);
  });
  const databaseUrl = postgres.url(databaseName);
  return await withClient(databaseUrl, async (client) => {
    // The tables' functions go into a schema of the host, because install creates the schema flagcast.
    await client.query('CREATE SCHEMA host');
    for (const file of (await readdir(tablesFolder)).sort()) {
      const text = await readFile(new URL(file, tablesFolder), 'utf8');
      await client.query(text.replaceAll('flagcast.', 'host.'));
    }
    await install(client, { role: serverRole });
    const password = randomBytes(16).toString('hex');
    // The limit of the role is for three servers; chaos and fleet start eight.
    await client.query(`ALTER ROLE ${serverRole} PASSWORD '${password}' CONNECTION LIMIT -1`);
    const serverUrl = new URL(databaseUrl);
    serverUrl.username = serverRole;
    serverUrl.password = password;
    await client.query(`
      CREATE SCHEMA testkit;
      CREATE TABLE testkit.deleted_events AS SELECT * FROM flagcast.event_log LIMIT 0;
      CREATE TABLE testkit.unlogged_rows (id bigint, created_at timestamptz);
      CREATE FUNCTION testkit.keep_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO testkit.deleted_events SELECT OLD.*; RETURN NULL; END';
      CREATE TRIGGER keep_deleted AFTER DELETE ON flagcast.event_log
        FOR EACH ROW EXECUTE FUNCTION testkit.keep_deleted()`);
    await keepRequestVersions(client);
    // max_prepared_transactions would switch NOTIFY off; the writers switch it off themselves where they prepare.
    await client.query(`ALTER DATABASE ${databaseName} SET flagcast.notify = 'on'`);
    await client.query(`
      INSERT INTO projects (name) SELECT 'project ' || n FROM generate_series(1, ${projectCount}) n;
      INSERT INTO projects (name) VALUES ('imports');
      INSERT INTO features (project_id, key, name, kind)
        SELECT p.id, 'flag-' || n, 'Flag ' || n, 'simple' FROM projects p, generate_series(1, ${flagsPerProject}) n;
      INSERT INTO users (username, email, password_hash, is_superuser) VALUES ('root', 'root@example.com', '', true);
      INSERT INTO users (username, email, password_hash)
        SELECT 'viewer-' || n, 'viewer-' || n || '@example.com', '' FROM generate_series(1, ${viewerCount}) n;
      INSERT INTO memberships (project_id, user_id, role_id)
        SELECT p.id, u.id, r.id FROM projects p, users u, roles r
        WHERE NOT u.is_superuser AND r.key = 'project_viewer';
      INSERT INTO users (username, email, password_hash)
        SELECT 'approver-' || n, 'approver-' || n || '@example.com', '' FROM generate_series(1, ${approverCount}) n;
      INSERT INTO memberships (project_id, user_id, role_id)
        SELECT p.id, u.id, r.id
        FROM (SELECT id, row_number() OVER (ORDER BY name) AS n FROM projects WHERE name LIKE 'project %') p, users u, roles r
        WHERE u.username IN ('approver-' || n, 'approver-' || n + ${projectCount}) AND r.key = 'project_viewer'`);
    const { rows: environments } = await client.query<
      TestChannel & { keys: string[]; isForImports: boolean }
    >(
      `SELECT e.project_id AS "projectId", e.id::text AS "environmentId", e.key AS env, ARRAY[e.key::text] AS keys,
         p.name = 'imports' AS "isForImports"
       FROM environments e JOIN projects p ON p.id = e.project_id ORDER BY e.id`,
    );
    const channels = environments.filter(({ isForImports }) => !isForImports);
    const importChannel = environments.find(({ isForImports }) => isForImports);
    if (importChannel === undefined) throw new Error('There is no channel for imports');
    const users = await client.query<Approver & { root: boolean }>(
      `SELECT id::text AS id, username, is_superuser AS root,
         (SELECT min(project_id::text) FROM memberships WHERE user_id = users.id) AS "projectId"
       FROM users ORDER BY users.id`,
    );
    const root = users.rows.find((user) => user.root);
    if (root === undefined) throw new Error('There is no superuser');
    return {
      databaseUrl,
      serverUrl: serverUrl.href,
      projects: [...new Set(channels.map(({ projectId }) => projectId))].map((id) =>
        channels.filter(({ projectId }) => projectId === id),
      ),
      importChannel,
      viewers: users.rows.filter(({ username }) => username.startsWith('viewer')),
      approvers: users.rows.filter(({ username }) => username.startsWith('approver')),
      root,
    };
  });
}

import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '@flagcast/demo';
import { install } from 'flagcast/testing';
import pg from 'pg';
import type { Owner } from './bounded-run.ts';
import type { FlagIds } from './channel.ts';
import type { TestUser } from './tokens.ts';
import { endWithParent } from './watchdog.ts';

/** Tests set FLAGCAST_CLUSTER: the folder of a stopped cluster. A copy takes a fifth of the processor time of a new one. */
const template = process.env['FLAGCAST_CLUSTER'];

/**
 * Starts a PostgreSQL with Flagcast's default settings (fsync is on) in a temporary folder. The end of the owner removes it.
 * `settings`: additional settings of PostgreSQL.
 */
export async function startTemporaryPostgres(
  owner: Owner,
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedPostgres> {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-testing-'));
  owner.defer(async () => await rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // If this process runs as root, PostgreSQL runs as another account.
  await chmod(folder, 0o755);
  if (template !== undefined) await promisify(execFile)('cp', ['-a', `${template}/.`, folder]);
  const starting = startEmbeddedPostgres({ dataDir: folder, settings, onExit: (error) => owner.fail(error) });
  // Of the cluster of the version that is installed. A restart writes another id into it.
  const postgresEnded = endWithParent(path.join(folder, 'data-*/postmaster.pid'), 'QUIT');
  owner.defer(async () => {
    // A failed start leaves nothing to stop; its error is reported to the caller.
    const started = await starting.catch(() => null);
    await started?.stop('immediate');
    postgresEnded();
  });
  return await starting;
}

/** Opens a connection, which the end of the owner closes. */
export async function connect(owner: Owner, url: string, applicationName: string): Promise<pg.Client> {
  const client = await openClient(url, applicationName);
  owner.defer(async () => await client.end());
  return client;
}

/** Runs `work` on a new connection, and closes it. */
export async function withClient<Result>(
  url: string,
  work: (client: pg.Client) => Promise<Result>,
  applicationName = 'test',
): Promise<Result> {
  const client = await openClient(url, applicationName);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Opens a connection. A lost connection rejects its queries. */
export async function openClient(url: string, applicationName: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: applicationName });
  // Queries report a lost connection; an error event without a listener would end the process.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** A database with projects of three environments each, a flag in each project, and a superuser. */
export interface BenchDatabase {
  readonly url: string;
  /** A connection to it. */
  readonly client: pg.Client;
  /** One for each environment. */
  readonly channels: readonly [BenchChannel, ...BenchChannel[]];
  readonly user: TestUser;
}

interface BenchChannel extends FlagIds {
  readonly env: string;
}

const environmentsPerProject = 3;

/** Creates a database with the objects of `flagcast install --tables`, and at least so many channels. */
export async function createDatabase(
  owner: Owner,
  postgres: EmbeddedPostgres,
  name: string,
  channelCount = 1,
): Promise<BenchDatabase> {
  await withClient(postgres.url(), async (admin) => {
    await admin.query(`CREATE DATABASE ${name} TEMPLATE template0`);
  });
  const url = postgres.url(name);
  const client = await connect(owner, url, 'writer');
  await install(client, { tables: true });
  await client.query(
    "INSERT INTO projects (name) SELECT 'bench ' || number FROM generate_series(1, $1::integer) AS number",
    [Math.ceil(channelCount / environmentsPerProject)],
  );
  const { rows: channels } = await client.query<BenchChannel>(`
    WITH flags AS (
      INSERT INTO features (project_id, key, name, kind) SELECT id, 'bench', 'bench', 'simple' FROM projects RETURNING *
    )
    SELECT e.project_id AS "projectId", e.id::text AS "environmentId", e.key AS env, f.id AS "featureId"
    FROM environments e JOIN flags f ON f.project_id = e.project_id ORDER BY e.id`);
  const { rows: users } = await client.query<TestUser>(`
    INSERT INTO users (username, email, password_hash, is_superuser) VALUES ('bench', 'bench@example.com', '', true)
    RETURNING id::text, username`);
  const [first, ...others] = channels;
  const [user] = users;
  if (first === undefined || user === undefined) throw new Error('The database has no channel');
  return { url, client, channels: [first, ...others], user };
}

/** Creates users with a role in the project. */
export async function createMembers(
  client: pg.Client,
  projectId: string,
  count: number,
  role: 'project_owner' | 'project_viewer',
): Promise<TestUser[]> {
  const { rows } = await client.query<TestUser>(
    `WITH made AS (
       INSERT INTO users (username, email, password_hash)
       SELECT 'member ' || n, 'member' || n || '@example.com', '' FROM generate_series(1, $1::int) n
       RETURNING id, username
     ), members AS (
       INSERT INTO memberships (project_id, user_id, role_id)
       SELECT $2, made.id, r.id FROM made, roles r WHERE r.key = $3
     )
     SELECT id::text, username FROM made`,
    [count, projectId, role],
  );
  return rows;
}

import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { inject, vi } from 'vitest';
import { fillDemo } from '../../demo/src/company/fill.js';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { install } from '../src/install/install.js';
import { chosenBinaries } from './chosen-binaries.js';
import {
  copyCluster,
  databaseTemplate,
  databaseUrl,
  makeDatabase,
  removeCluster,
  withClient,
} from './cluster-template.js';

export { withClient };

/** By the schema of the database that is copied from it. */
const templates = { none: 'template1', tables: databaseTemplate, demo: 'template_demo' };

/** How long a connection of the server may take to end after its owner closed it. */
const LEAK_GRACE_MS = 60_000;

export interface TestDatabaseOptions {
  /** `tables`: everything that `install --tables` creates. `demo`: also the data of the demo. `none`: empty. */
  readonly schema: 'none' | 'tables' | 'demo';
}

/** A new database for one test or one file. */
export interface TestDatabase {
  readonly name: string;
  /** Its connection string, as superuser. */
  readonly url: string;
  /** For the test itself (application_name `test`); closed by `drop`. */
  readonly pool: pg.Pool;
  /**
   * Drops the database. Throws when the product (application_name `flagcast...`) still has a
   * connection to it a minute later, or the test still holds a client of `pool`.
   */
  drop(): Promise<void>;
}

/** A separate PostgreSQL, for tests that restart, break or kill it. */
export interface TestCluster {
  readonly postgres: EmbeddedPostgres;
  createDatabase(options: TestDatabaseOptions): Promise<TestDatabase>;
  /** Stops it and deletes its folder. */
  remove(): Promise<void>;
}

/** Makes a database in the run's cluster. */
export async function createTestDatabase(options: TestDatabaseOptions): Promise<TestDatabase> {
  const adminUrl = inject('clusterUrl');
  if (!sharedTemplates.has(options.schema)) await makeTemplates(adminUrl, options);
  sharedTemplates.add(options.schema);
  return await createDatabaseIn(adminUrl, options, withSharedAdmin);
}

type WithAdmin = <Result>(adminUrl: string, work: (admin: pg.Client) => Promise<Result>) => Promise<Result>;

let sharedAdmin: Promise<pg.Client> | null = null;

/**
 * Runs `work` on the connection of this process to the run's cluster, which ends with the process. Creating and dropping a
 * database on connections of their own takes two more backends.
 */
async function withSharedAdmin<Result>(
  adminUrl: string,
  work: (admin: pg.Client) => Promise<Result>,
): Promise<Result> {
  sharedAdmin ??= connectAdmin(adminUrl);
  return await work(await sharedAdmin);
}

async function connectAdmin(adminUrl: string): Promise<pg.Client> {
  const admin = new pg.Client({ connectionString: adminUrl, application_name: 'test' });
  admin.on('error', () => undefined);
  // The next call opens another one.
  const forget = (): void => void (sharedAdmin = null);
  admin.on('end', forget);
  await admin.connect().catch((error: unknown) => {
    forget();
    throw error;
  });
  return admin;
}

/**
 * Starts a cluster with these settings of PostgreSQL, over fsync off: a copy of the run's template, or a new one
 * of another major, whose programs are in `packageDir`.
 */
export async function createTestCluster(
  settings: Readonly<Record<string, string>> = {},
  packageDir?: string,
): Promise<TestCluster> {
  const folder = await createTestFolder();
  const dataDir = path.join(folder, 'data');
  if (packageDir === undefined) await copyCluster(inject('clusterTemplate'), dataDir);
  const postgres = await startEmbeddedPostgres({
    dataDir,
    settings: { fsync: 'off', ...settings },
    ...chosenBinaries(folder, packageDir),
  });
  return {
    postgres,
    async createDatabase(options) {
      await makeTemplates(postgres.url(), options);
      return await createDatabaseIn(postgres.url(), options, withClient);
    },
    async remove() {
      await postgres.stop('immediate');
      await removeCluster(folder);
    },
  };
}

/** An empty folder that PostgreSQL's account can enter, also when the tests run as root. */
export async function createTestFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-test-'));
  await chmod(folder, 0o755);
  return folder;
}

/** A pool whose connections may die when the test restarts PostgreSQL or drops the database; a query on them still fails. */
export function createTestPool(url: string, { Pool = pg.Pool, ...config }: TestPoolConfig = {}): pg.Pool {
  const pool = new Pool({ connectionString: url, application_name: 'test', ...config });
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

interface TestPoolConfig extends pg.PoolConfig {
  /** Default: the one of this copy of pg. */
  Pool?: typeof pg.Pool;
}

async function createDatabaseIn(
  adminUrl: string,
  { schema }: TestDatabaseOptions,
  withAdmin: WithAdmin,
): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await withAdmin(adminUrl, async (admin) => {
    // FILE_COPY takes half of the processor time of the default. PostgreSQL 14 always does it and does not know the option.
    const { rows } = await admin.query<{ strategy: string }>(
      `SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'STRATEGY FILE_COPY' ELSE '' END AS strategy`,
    );
    await admin.query(`CREATE DATABASE ${name} TEMPLATE ${templates[schema]} ${only(rows).strategy}`);
  });
  const url = databaseUrl(adminUrl, name);
  const pool = createTestPool(url);
  return {
    name,
    url,
    pool,
    async drop() {
      const held = pool.totalCount - pool.idleCount;
      const ended = pool.end();
      const leak = await withAdmin(adminUrl, async (admin) => {
        const found = await findLeak(admin, name);
        await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
        return found;
      });
      if (leak !== null) throw new Error(`the product left connections open: ${leak}`);
      if (held > 0) throw new Error(`the test did not release ${held} client(s) of its pool`);
      await ended;
    },
  };
}

/** The schemas whose templates the run's cluster has, as far as this process knows. */
const sharedTemplates = new Set<TestDatabaseOptions['schema']>();

/** Makes what a database of the schema is copied from, on a connection of its own: it takes session-level locks. */
async function makeTemplates(adminUrl: string, { schema }: TestDatabaseOptions): Promise<void> {
  if (schema === 'none') return;
  await withClient(adminUrl, async (admin) => {
    await makeTemplate(admin, databaseTemplate, async (made) => await makeDatabase(admin, adminUrl, made));
    if (schema === 'tables') return;
    await makeTemplate(admin, templates.demo, async (made) => {
      await admin.query(`CREATE DATABASE ${made} TEMPLATE ${databaseTemplate}`);
      await withClient(databaseUrl(adminUrl, made), async (client) => await fillDemo(client));
    });
  });
}

/** Created once for each cluster; the other test files wait for the first one. */
async function makeTemplate(
  admin: pg.Client,
  template: string,
  make: (name: string) => Promise<void>,
): Promise<void> {
  await admin.query(`SELECT pg_advisory_lock(hashtext('${template}'))`);
  try {
    const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [template]);
    if (rowCount !== 0) return;
    const unfinished = `${template}_unfinished`;
    await admin.query(`DROP DATABASE IF EXISTS ${unfinished}`);
    await make(unfinished);
    await admin.query(`ALTER DATABASE ${unfinished} RENAME TO ${template}`);
  } finally {
    await admin.query(`SELECT pg_advisory_unlock(hashtext('${template}'))`);
  }
}

/** The states of connections that the server still has to the database, one per line; null if they end in time. */
async function findLeak(admin: pg.Client, database: string): Promise<string | null> {
  let open: string[] = [];
  try {
    await vi.waitFor(
      async () => {
        const { rows } = await admin.query<{ connection: string }>({
          // Planned once for each process: a run asks this thousands of times.
          name: 'connections_of_the_product',
          text: `SELECT format('%s (%s): %s', application_name, state, query) AS connection
            FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'flagcast%'`,
          values: [database],
        });
        open = rows.map((row) => row.connection);
        if (open.length > 0) throw new Error('still open');
      },
      { timeout: LEAK_GRACE_MS, interval: 20 },
    );
    return null;
  } catch (error) {
    if (open.length === 0) throw error;
    return open.join('; ');
  }
}

export interface SeededProject {
  readonly projectId: string;
  /** The ids of the project's environments by key. */
  readonly environments: { readonly prod: string; readonly stage: string; readonly dev: string };
}

/** Makes a project; the tables' trigger makes its environments. */
export async function seedProject(
  pool: pg.Pool | pg.ClientBase,
  { name = `project ${randomUUID()}` }: { readonly name?: string } = {},
): Promise<SeededProject> {
  const project = await pool.query<{ id: string }>('INSERT INTO projects (name) VALUES ($1) RETURNING id', [
    name,
  ]);
  const projectId = only(project.rows).id;
  const { rows } = await pool.query<{ key: string; id: string }>(
    'SELECT key, id FROM environments WHERE project_id = $1',
    [projectId],
  );
  const idOf = (key: string): string => only(rows.filter((row) => row.key === key)).id;
  return { projectId, environments: { prod: idOf('prod'), stage: idOf('stage'), dev: idOf('dev') } };
}

/** The lists of a feature without rules and schedules, in the tables of `install --tables`. */
export const noLists = { rules: [], rules_total: 0, schedules: [], schedules_total: 0 };

export interface AuditRow {
  readonly projectId: string;
  readonly environmentId: string;
  /** Default: a new id. */
  readonly featureId?: string;
  /** Default `feature`. */
  readonly entity?: string;
  /** Default: the feature's id. */
  readonly entityId?: string;
  /** As the table stores it: `create`, `update` (the default), `delete`. */
  readonly action?: string;
  readonly username?: string | null;
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  /** Default: the start of the transaction. */
  readonly createdAt?: Date | string;
}

/** Inserts one audit row in `client`'s current transaction. */
export async function insertAudit(
  client: pg.Pool | pg.ClientBase,
  row: AuditRow,
): Promise<{ readonly id: string; readonly featureId: string; readonly entityId: string }> {
  const featureId = row.featureId ?? randomUUID();
  const entityId = row.entityId ?? featureId;
  const { rows } = await client.query<{ id: string }>(
    `INSERT INTO audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value, created_at)
     VALUES ($1, $2, $3, $4, $5, 'user', $6, $7, $8, $9, coalesce($10::timestamptz, now()))
     RETURNING id`,
    [
      row.projectId,
      row.environmentId,
      featureId,
      row.entity ?? 'feature',
      entityId,
      row.username === undefined ? 'alice' : row.username,
      row.action ?? 'update',
      row.oldValue === undefined ? null : JSON.stringify(row.oldValue),
      row.newValue === undefined ? null : JSON.stringify(row.newValue),
      row.createdAt ?? null,
    ],
  );
  return { id: only(rows).id, featureId, entityId };
}

/** Writes audit rows of new features in one statement. */
export async function insertAudits(
  client: pg.Pool | pg.ClientBase,
  { projectId, environmentId }: { readonly projectId: string; readonly environmentId: string },
  rows: number,
  entity = 'feature',
): Promise<void> {
  await client.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action)
     SELECT $1, $2, id, $4, id, 'system', 'update'
     FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $3)) AS made`,
    [projectId, environmentId, rows, entity],
  );
}

/** For `insertAudits`, after `allowLargeEvents`: few such events fill the buffers of the network. */
export const largeEntity = 'e'.repeat(1_000);

export async function allowLargeEvents(client: pg.Pool | pg.ClientBase): Promise<void> {
  await client.query('ALTER TABLE audit_log ALTER COLUMN entity TYPE text');
}

/** An open request to change the default value of a new feature. */
export interface RequestedChange {
  readonly projectId: string;
  readonly environmentId: string;
  /** Default: a user without an id, `ada`. */
  readonly requestedBy?: { readonly id: string | null; readonly username: string };
  /** The new default value, as JSON. Default `"new"`. */
  readonly value?: string;
}

export async function insertRequest(
  pool: pg.Pool | pg.ClientBase,
  { projectId, environmentId, requestedBy = { id: null, username: 'ada' }, value = '"new"' }: RequestedChange,
): Promise<{ readonly id: string; readonly featureId: string }> {
  const [id, featureId] = [randomUUID(), randomUUID()];
  await pool.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, $3, 'simple')`,
    [featureId, projectId, `flag-${featureId.slice(0, 8)}`],
  );
  await pool.query(
    `WITH c AS (
       INSERT INTO pending_changes (id, project_id, environment_id, requested_by, request_user_id, change)
       VALUES ($1::uuid, $2, $3, $4, $5, jsonb_build_object(
         'entities', jsonb_build_array(jsonb_build_object('entity', 'feature', 'entity_id', $6::text, 'action', 'update',
           'changes', jsonb_build_object('default_value', jsonb_build_object('old', '', 'new', $7::jsonb)))),
         'meta', jsonb_build_object('reason', 'because')))
     )
     INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1::uuid, 'feature', $6::uuid)`,
    [id, projectId, environmentId, requestedBy.username, requestedBy.id, featureId, value],
  );
  return { id, featureId };
}

export type DecidedStatus = 'approved' | 'rejected' | 'cancelled' | 'pending';

/** Decides on a request by root, as the host's own backend does; a rejection has the reason `not on Fridays`. */
export async function decideRequest(pool: pg.Pool, id: string, status: DecidedStatus): Promise<void> {
  await pool.query(
    `UPDATE pending_changes SET status = $2::text,
       approved_by = CASE $2::text WHEN 'approved' THEN 'root' END, approved_at = CASE $2::text WHEN 'approved' THEN now() END,
       rejected_by = CASE $2::text WHEN 'rejected' THEN 'root' END, rejected_at = CASE $2::text WHEN 'rejected' THEN now() END,
       rejection_reason = CASE $2::text WHEN 'rejected' THEN 'not on Fridays' END
     WHERE id = $1`,
    [id, status],
  );
}

/** Installs Flagcast with this role, gives it a password and returns its URL. */
export async function installRole(
  { url }: Pick<TestDatabase, 'url'>,
  role: string,
  options: Parameters<typeof install>[1] = {},
): Promise<string> {
  await withClient(url, async (client) => {
    await install(client, { ...options, role });
    await client.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
  });
  const roleUrl = new URL(url);
  roleUrl.username = role;
  roleUrl.password = 'secret';
  return roleUrl.href;
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined || rows.length > 1) throw new Error(`expected one row, found ${rows.length}`);
  return row;
}

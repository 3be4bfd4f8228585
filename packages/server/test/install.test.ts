import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { install, planUninstall, uninstall } from '../src/install/install.js';
import { dumpCatalogue, installRefusal } from './catalogue.js';
import { createTestDatabase, withClient, type TestDatabase } from './database.js';

/** The database of a host: the tables that install attaches to, and other objects of the host. */
const hostTables = `
  CREATE TABLE projects (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(128) NOT NULL);
  CREATE TABLE environments (
    id bigserial PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects, key varchar(20) NOT NULL
  );
  CREATE TABLE audit_log (
    id bigserial PRIMARY KEY, feature_id uuid NOT NULL, entity varchar(50) NOT NULL DEFAULT 'unknown', entity_id uuid,
    actor varchar(50) NOT NULL, username varchar(255), action varchar(50) NOT NULL, old_value jsonb, new_value jsonb,
    project_id uuid NOT NULL REFERENCES projects, environment_id bigint NOT NULL REFERENCES environments,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE pending_changes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id uuid NOT NULL REFERENCES projects,
    environment_id bigint NOT NULL DEFAULT 0, requested_by varchar(255) NOT NULL, change jsonb NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'pending', created_at timestamptz NOT NULL DEFAULT now(),
    approved_by varchar(255), approved_at timestamptz, rejected_by varchar(255), rejected_at timestamptz
  );
  CREATE TABLE pending_change_entities (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), pending_change_id uuid NOT NULL REFERENCES pending_changes,
    entity varchar(50) NOT NULL, entity_id uuid NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE VIEW v_realtime_events AS SELECT 'audit'::text AS source, id::text AS event_id FROM audit_log;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER touch BEFORE UPDATE ON pending_changes FOR EACH ROW EXECUTE FUNCTION touch();
  GRANT SELECT ON audit_log TO PUBLIC;
  ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
  COMMENT ON TABLE audit_log IS 'the history';
  INSERT INTO projects (name) VALUES ('theirs');
`;

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'none' });
});

afterEach(async () => {
  await database.drop();
});

const onClient = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(database.url, work);

/** Runs `work` as a role that has only the privileges that `grants` gives to `$role`. */
async function asRole(grants: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const role = `role_${randomBytes(6).toString('hex')}`;
  await database.pool.query(`CREATE ROLE ${role}`);
  try {
    await database.pool.query(grants.replaceAll('$role', role));
    await onClient(async (client) => {
      await client.query(`SET ROLE ${role}`);
      await work(client);
    });
  } finally {
    await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
}

describe('attached to a database that has the tables', () => {
  beforeEach(async () => {
    await database.pool.query(hostTables);
  });

  test('install adds the schema and the triggers, and uninstall leaves everything as it was', async () => {
    const before = await dumpCatalogue(database.pool);
    const installed = await onClient((client) => install(client));
    expect(installed).toEqual({
      changed: true,
      notes: [],
      lines: [
        'created schema flagcast',
        'created table flagcast.event_log',
        'created table flagcast.granted_roles',
        'created table flagcast.guarded_environments',
        'created table flagcast.log_state',
        'created table flagcast.request_steps',
        'created function flagcast.adopt_event_log()',
        'created function flagcast.environment_key()',
        'created function flagcast.expire_cursors()',
        'created function flagcast.feature_of()',
        'created function flagcast.keep_step()',
        'created function flagcast.log_audit()',
        'created function flagcast.log_channel()',
        'created function flagcast.log_decision()',
        'created function flagcast.log_request()',
        'created function flagcast.log_rights()',
        'created function flagcast.notify_reader()',
        'created function flagcast.prune_event_log()',
        'created function flagcast.reason_of()',
        'created function flagcast.record_deletion()',
        'created function flagcast.record_event()',
        'created function flagcast.skip_replicated()',
        'created trigger flagcast_log on public.audit_log',
        'created trigger flagcast_log on public.environments',
        'created trigger flagcast_log on public.pending_change_entities',
        'created trigger flagcast_log on public.pending_changes',
        'created trigger flagcast_log on public.projects',
        'created trigger flagcast_record_delete on flagcast.event_log',
        'created trigger flagcast_record_truncate on flagcast.event_log',
        'created trigger flagcast_skip_replicated on flagcast.event_log',
        'created trigger flagcast_skip_replicated on flagcast.granted_roles',
        'created trigger flagcast_skip_replicated on flagcast.log_state',
        'created trigger flagcast_skip_replicated on flagcast.request_steps',
        'created trigger flagcast_skip_replicated on flagcast.schema_version',
        'created view flagcast.v_realtime_events',
      ],
    });
    const between = await dumpCatalogue(database.pool);
    expect(before.filter((line) => !between.includes(line))).toEqual([]);
    const added = between.filter((line) => !before.includes(line));
    const triggers = added.filter((line) => line.startsWith('trigger flagcast_log on public.'));
    // Always: also for rows that logical replication writes.
    expect(triggers.map((line) => line.slice(0, line.indexOf(' CREATE')))).toEqual([
      'trigger flagcast_log on public.audit_log A',
      'trigger flagcast_log on public.environments A',
      'trigger flagcast_log on public.pending_change_entities A',
      'trigger flagcast_log on public.pending_changes A',
      'trigger flagcast_log on public.projects A',
    ]);
    const outside = added.filter((line) => !triggers.includes(line) && !line.includes(' flagcast.'));
    expect(outside.map((line) => line.replace(/ owner .*/, '')).filter((line) => !/^ /.test(line))).toEqual([
      'schema flagcast',
    ]);

    const plan = await onClient((client) => planUninstall(client));
    expect(plan).toMatchObject({ installed: true, ownTables: false, tables: [], rows: 0 });
    const removed = await onClient((client) => uninstall(client));
    expect(removed.lines.map((line) => line.replace('dropped', 'created')).toSorted()).toEqual(
      installed.lines.toSorted(),
    );
    expect(await dumpCatalogue(database.pool)).toEqual(before);
    expect((await database.pool.query('SELECT FROM projects')).rowCount).toBe(1);
  });

  test('a second install and a second uninstall change nothing', async () => {
    await onClient((client) => install(client));
    const once = await dumpCatalogue(database.pool);
    expect(await onClient((client) => install(client))).toEqual({
      changed: false,
      lines: [],
      notes: [],
    });
    expect(await dumpCatalogue(database.pool)).toEqual(once);
    expect((await onClient((client) => uninstall(client))).changed).toBe(true);
    expect(await onClient((client) => uninstall(client))).toEqual({ changed: false, lines: [] });
    expect(await onClient((client) => planUninstall(client))).toMatchObject({
      installed: false,
      objects: [],
    });
  });

  test('only one of several concurrent installs changes anything', async () => {
    const reports = await Promise.all(
      Array.from({ length: 4 }, async () => await onClient((client) => install(client))),
    );
    expect(reports.filter((report) => report.changed)).toHaveLength(1);
  });

  test('install works in a session whose transactions are serializable or read-only by default', async () => {
    await onClient(async (client) => {
      await client.query(
        "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on",
      );
      expect((await install(client)).changed).toBe(true);
      expect((await uninstall(client)).changed).toBe(true);
    });
  });

  test('install leaves no objects after an error', async () => {
    await database.pool.query(
      'CREATE TRIGGER flagcast_log BEFORE UPDATE ON pending_changes FOR EACH ROW EXECUTE FUNCTION touch()',
    );
    const error = await installRefusal(database, (client) => install(client));
    expect(error.message).toBe(
      'Nothing was changed, because of an error: trigger "flagcast_log" for relation "pending_changes" already exists',
    );
  });

  test('install --tables is refused if some of the tables exist', async () => {
    const error = await installRefusal(database, (client) => install(client, { tables: true }));
    expect(error.message).toContain('public.audit_log');
    expect(error.message).toContain('install without --tables');
  });

  test('install is refused if a column is missing, and the error names it', async () => {
    await database.pool.query(
      'DROP VIEW v_realtime_events; ALTER TABLE pending_changes DROP COLUMN rejected_by',
    );
    const error = await installRefusal(database, (client) => install(client));
    expect(error.message).toContain('column rejected_by in public.pending_changes');
  });

  test('install and uninstall refuse a schema flagcast that Flagcast did not create', async () => {
    await database.pool.query('CREATE SCHEMA flagcast CREATE TABLE theirs (id int)');
    for (const work of [install, uninstall, planUninstall]) {
      const error = await installRefusal(database, async (client) => await work(client));
      expect(error.message).toContain('schema flagcast that Flagcast did not create');
    }
  });

  test('uninstall is refused while objects of the host depend on it, and the error names them', async () => {
    await onClient((client) => install(client));
    await database.pool.query('CREATE VIEW public.report AS SELECT source FROM flagcast.v_realtime_events');
    let error = await installRefusal(database, (client) => uninstall(client));
    expect(error.message).toContain('view public.report depends on view flagcast.v_realtime_events');
    await database.pool.query(
      `DROP VIEW public.report;
       CREATE TRIGGER mine AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION flagcast.log_audit()`,
    );
    error = await installRefusal(database, (client) => uninstall(client));
    expect(error.message).toContain('trigger mine on table public.projects');
    await database.pool.query('DROP TRIGGER mine ON projects; CREATE TABLE flagcast.theirs (id int)');
    error = await installRefusal(database, (client) => uninstall(client));
    expect(error.message).toContain('table flagcast.theirs');
  });

  test('install replaces the functions of another build, and keeps the log', async () => {
    await onClient((client) => install(client));
    const before = await dumpCatalogue(database.pool);
    await database.pool.query(
      `INSERT INTO flagcast.event_log (source) VALUES ('audit');
       UPDATE flagcast.schema_version SET md5 = md5('other') WHERE version = 6;
       CREATE OR REPLACE FUNCTION flagcast.log_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
       CREATE OR REPLACE FUNCTION flagcast.adopt_event_log() RETURNS boolean LANGUAGE sql AS 'SELECT false'`,
    );
    expect(await onClient((client) => install(client))).toMatchObject({ changed: true });
    expect(await dumpCatalogue(database.pool)).toEqual(before);
    expect((await database.pool.query('SELECT FROM flagcast.event_log')).rowCount).toBe(1);
    expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  });

  test('install is refused if a newer Flagcast has installed', async () => {
    await onClient((client) => install(client));
    await database.pool.query('INSERT INTO flagcast.schema_version (version) VALUES (99)');
    const newer = await installRefusal(database, (client) => install(client));
    expect(newer.message).toContain('newer Flagcast');
  });

  test('a role with SELECT, TRIGGER and CREATE can install and uninstall', async () => {
    const before = await dumpCatalogue(database.pool);
    await asRole(
      `GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA public TO $role; GRANT CREATE ON DATABASE ${database.name} TO $role`,
      async (client) => {
        expect((await install(client)).changed).toBe(true);
        expect((await client.query('SELECT FROM flagcast.v_realtime_events')).rowCount).toBe(0);
        expect((await uninstall(client)).changed).toBe(true);
      },
    );
    expect((await dumpCatalogue(database.pool)).filter((line) => !line.includes('grants'))).toEqual(
      before.filter((line) => !line.includes('grants')),
    );
  });

  test('install and uninstall name the privileges that the role lacks', async () => {
    await asRole('', async (client) => {
      const role = (await client.query<{ role: string }>('SELECT current_user AS role')).rows[0]?.role;
      await expect(install(client)).rejects.toMatchObject({
        message: expect.stringContaining(
          `GRANT CREATE ON DATABASE "${database.name}" TO "${String(role)}"`,
        ) as string,
      });
    });
    await asRole(`GRANT CREATE ON DATABASE ${database.name} TO $role`, async (client) => {
      await expect(install(client)).rejects.toMatchObject({
        message: expect.stringMatching(
          /GRANT TRIGGER ON public.audit_log TO "\w+"; GRANT SELECT, TRIGGER ON public.environments TO "\w+";.*; GRANT SELECT, TRIGGER ON public.projects TO/,
        ) as string,
      });
    });
    await onClient((client) => install(client));
    await asRole('', async (client) => {
      await expect(uninstall(client)).rejects.toMatchObject({
        message: expect.stringMatching(/installed by role \w+, .*Connect as \w+/) as string,
      });
    });
  });

  test('a role of the host that writes needs no privilege on schema flagcast', async () => {
    await onClient((client) => install(client));
    await database.pool.query('ALTER TABLE audit_log DROP CONSTRAINT audit_log_project_id_fkey');
    await database.pool.query('ALTER TABLE audit_log DROP CONSTRAINT audit_log_environment_id_fkey');
    await asRole(
      'GRANT INSERT ON audit_log TO $role; GRANT USAGE ON SEQUENCE audit_log_id_seq TO $role',
      async (client) => {
        await client.query("SET flagcast.notify = 'on'");
        await client.query(
          `INSERT INTO audit_log (feature_id, actor, action, project_id, environment_id)
         VALUES (gen_random_uuid(), 'user', 'create', gen_random_uuid(), 1)`,
        );
      },
    );
  });
});

import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { install, planInstall, planUninstall, uninstall } from '../src/install/install.js';
import { dumpCatalogue, installRefusal } from './catalogue.js';
import { createTestDatabase, insertAudit, seedProject, withClient, type TestDatabase } from './database.js';
import { makeChannel, makeHostTables, readLog } from './host-tables.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'none' });
});

afterEach(async () => {
  await database.drop();
});

const onClient = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(database.url, work);

/** How many sessions of this database wait for an advisory lock. */
async function sessionsWaiting(): Promise<number | null> {
  const { rowCount } = await database.pool.query(
    `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  return rowCount;
}

test('install --tables fills an empty database, and uninstall empties it again', async () => {
  const before = await dumpCatalogue(database.pool);
  const planned = await onClient((client) => planInstall(client, { tables: true }));
  expect(await dumpCatalogue(database.pool)).toEqual(before);
  const report = await onClient((client) => install(client, { tables: true }));
  // The catalogue shows whether the plan was complete.
  expect(report.lines).toEqual(planned.creates.map((object) => `created ${object}`));
  const { objects: made } = await onClient((client) => planUninstall(client));
  expect(planned.creates.toSorted()).toEqual(made.toSorted());
  expect(report.lines).toContain('created table public.pending_change_entities');
  expect(report.lines).toContain('created view public.v_realtime_events');
  expect(await onClient((client) => install(client, { tables: true }))).toEqual({
    changed: false,
    lines: [],
    notes: [],
  });
  expect(await onClient((client) => install(client))).toMatchObject({ changed: false, lines: [] });

  await seedProject(database.pool);
  const plan = await onClient((client) => planUninstall(client));
  expect(plan.ownTables).toBe(true);
  expect(plan.tables).toContainEqual({ table: 'public.environments', rows: 3 });
  expect(plan.rows).toBe(1 + 3 + 4 + 8 + 19);

  await onClient((client) => uninstall(client));
  expect(await dumpCatalogue(database.pool)).toEqual(before);
});

test('uninstall drops nothing while objects of the host depend on the tables', async () => {
  await onClient(async (client) => await install(client, { tables: true }));
  const dependents = {
    'constraint badges_user_id_fkey on table public.badges':
      'CREATE TABLE public.badges (user_id int REFERENCES users)',
    'view public.report depends on view public.v_realtime_events':
      'CREATE VIEW public.report AS SELECT source FROM public.v_realtime_events',
    'trigger mine on table public.badges':
      'CREATE TRIGGER mine AFTER INSERT ON public.badges EXECUTE FUNCTION flagcast.log_audit()',
  };
  for (const [name, statement] of Object.entries(dependents)) {
    await database.pool.query(statement);
    const error = await installRefusal(database, async (client) => await uninstall(client));
    expect(error.message).toContain(name);
    await database.pool.query('DROP VIEW IF EXISTS public.report');
    await database.pool.query('ALTER TABLE public.badges DROP CONSTRAINT IF EXISTS badges_user_id_fkey');
  }
});

test('install creates a dropped public view again', async () => {
  await onClient((client) => install(client, { tables: true }));
  const whole = await dumpCatalogue(database.pool);
  await database.pool.query('DROP VIEW flagcast.v_realtime_events CASCADE');
  const report = await onClient((client) => install(client));
  expect(report.lines).toContain('created view public.v_realtime_events');
  expect(await dumpCatalogue(database.pool)).toEqual(whole);
});

test('a role needs only SELECT on the public view to read it', async () => {
  await onClient((client) => install(client, { tables: true }));
  const { projectId, environments } = await seedProject(database.pool);
  await insertAudit(database.pool, { projectId, environmentId: environments.prod });
  const role = `report_${randomBytes(4).toString('hex')}`;
  await database.pool.query(`CREATE ROLE ${role}; GRANT SELECT ON v_realtime_events TO ${role}`);
  await onClient(async (client) => {
    await client.query(`SET ROLE ${role}`);
    const { rows } = await client.query('SELECT project_id, environment_key FROM public.v_realtime_events');
    expect(rows).toEqual([{ project_id: projectId, environment_key: 'prod' }]);
  });
  await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});

test('install --log-only: record_event is exact, a later install keeps the mode, and --tables ends it', async () => {
  const before = await dumpCatalogue(database.pool);
  const report = await onClient((client) => install(client, { logOnly: true }));
  expect(report.lines.filter((line) => line.includes('trigger flagcast_log'))).toEqual([]);
  await database.pool.query(
    `SELECT flagcast.record_event('audit', '17', 'shop', 'live', 'prod', 'flag', 'dark-mode', 'updated')`,
  );
  expect(await readLog(database.pool)).toMatchObject([
    {
      source: 'audit',
      row_id: '17',
      environment_id: 'live',
      environment_key: 'prod',
      entity_id: 'dark-mode',
    },
  ]);
  expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  expect(await onClient((client) => install(client, { logOnly: true }))).toMatchObject({ changed: false });
  // A copy of the schema without its rows: the reader must not expect triggers.
  await database.pool.query('DELETE FROM flagcast.log_state; SELECT flagcast.adopt_event_log()');
  expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  expect(await readLog(database.pool)).toEqual([]);
  await database.pool.query(
    `SELECT flagcast.record_event('audit', '18', 'shop', 'live', 'prod', 'flag', 'dark-mode', 'updated')`,
  );
  await database.pool.query('DROP FUNCTION flagcast.record_event');
  expect((await onClient((client) => install(client))).lines).toEqual([
    'created function flagcast.record_event()',
  ]);

  await onClient((client) => install(client, { tables: true }));
  const { projectId, environments } = await seedProject(database.pool);
  await insertAudit(database.pool, { projectId, environmentId: environments.prod });
  expect(await readLog(database.pool)).toHaveLength(2);
  // An id of another form does not break the view.
  const { rows } = await database.pool.query<{ project_id: string | null; action: string }>(
    'SELECT project_id, action FROM public.v_realtime_events ORDER BY created_at',
  );
  expect(rows).toEqual([
    { project_id: null, action: 'updated' },
    { project_id: projectId, action: 'updated' },
  ]);
  expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  await onClient((client) => uninstall(client));
  expect(await dumpCatalogue(database.pool)).toEqual(before);
});

test('install --log-only --role grants the role the privileges on the log', async () => {
  const role = `reader_${randomBytes(4).toString('hex')}`;
  await onClient((client) => install(client, { logOnly: true, role }));
  await onClient(async (client) => {
    await client.query(`SET ROLE ${role}`);
    await client.query('SELECT FROM flagcast.event_log, flagcast.log_state');
    expect((await client.query("SELECT flagcast.prune_event_log('1 day')")).rowCount).toBe(1);
    await expect(client.query('DELETE FROM flagcast.event_log')).rejects.toMatchObject({ code: '42501' });
  });
  expect((await onClient((client) => uninstall(client))).lines).toContain(`dropped role "${role}"`);
});

test('install --log-only removes the triggers of an earlier install on the tables', async () => {
  await makeHostTables(database.pool);
  await onClient((client) => install(client));
  await onClient((client) => install(client, { logOnly: true }));
  await insertAudit(database.pool, await makeChannel(database.pool));
  expect(await readLog(database.pool)).toEqual([]);
  expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
});

test('install is refused if a table of --tables was dropped, and the error says to restore it', async () => {
  await onClient((client) => install(client, { tables: true }));
  await database.pool.query('DROP TABLE audit_log CASCADE');
  const error = await installRefusal(database, (client) => install(client));
  expect(error.message).toContain('restore it from a backup');
});

test('install without --tables is refused on an empty database, and the error names --tables', async () => {
  const error = await installRefusal(database, (client) => install(client));
  expect(error.message).toContain('use --tables to create the tables in an empty one');
});

test('every project has its environments, and every feature its parameters in each of them', async () => {
  await onClient((client) => install(client, { tables: true }));
  const { projectId } = await seedProject(database.pool);
  // A feature and an environment that do not see each other until both are committed.
  const [one, two] = [await database.pool.connect(), await database.pool.connect()];
  try {
    await one.query('BEGIN');
    await one.query("INSERT INTO features (project_id, key, name, kind) VALUES ($1, 'a', 'A', 'simple')", [
      projectId,
    ]);
    const environment = two.query(
      "INSERT INTO environments (project_id, key, name) VALUES ($1, 'qa', 'QA')",
      [projectId],
    );
    await expect.poll(async () => await sessionsWaiting()).toBe(1);
    await one.query('COMMIT');
    await environment;
    const { rows } = await one.query(
      `SELECT e.key, p.enabled, p.default_value FROM feature_params p
       JOIN environments e ON e.id = p.environment_id ORDER BY e.key`,
    );
    expect(rows).toEqual(
      ['dev', 'prod', 'qa', 'stage'].map((key) => ({ key, enabled: false, default_value: '' })),
    );
  } finally {
    one.release();
    two.release();
  }
});

test('a second open change on one entity is refused, also a concurrent one', async () => {
  await onClient((client) => install(client, { tables: true }));
  const { projectId, environments } = await seedProject(database.pool);
  const entityId = '0c1f2f5e-0000-4000-8000-000000000001';
  const request = async (client: pg.ClientBase): Promise<string> => {
    const { rows } = await client.query<{ id: string }>(
      `WITH c AS (
         INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
         VALUES ($1, $2, 'bob', '{}') RETURNING id
       ) SELECT id FROM c`,
      [projectId, environments.prod],
    );
    const id = String(rows[0]?.id);
    await client.query(
      "INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)",
      [id, entityId],
    );
    return id;
  };
  const [one, two] = [await database.pool.connect(), await database.pool.connect()];
  try {
    await one.query('BEGIN');
    const first = await request(one);
    const second = request(two);
    const refused = expect(second).rejects.toMatchObject({
      code: '23505',
      constraint: 'pending_change_entities_one_open',
      message: `feature ${entityId} already has an open change, requested by bob`,
    });
    await expect.poll(async () => await sessionsWaiting()).toBe(1);
    await one.query('COMMIT');
    await refused;
    await one.query("UPDATE pending_changes SET status = 'rejected' WHERE id = $1", [first]);
    await request(two);
  } finally {
    one.release();
    two.release();
  }
});

test('roles have the permissions of the contract', async () => {
  await onClient((client) => install(client, { tables: true }));
  const { rows } = await database.pool.query<{ role: string; permissions: string[] }>(
    `SELECT r.key AS role, array_agg(p.key ORDER BY p.key) AS permissions FROM roles r
     JOIN role_permissions rp ON rp.role_id = r.id JOIN permissions p ON p.id = rp.permission_id
     GROUP BY r.key`,
  );
  const byRole = new Map(rows.map(({ role, permissions }) => [role, permissions]));
  expect(byRole.get('project_viewer')).toEqual(['feature.view', 'project.view']);
  expect(byRole.get('project_member')).toEqual(['feature.toggle', 'feature.view', 'project.view']);
  expect(byRole.get('project_owner')).toHaveLength(8);
  expect(byRole.get('project_manager')).toHaveLength(6);
});

import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { install, planInstall, uninstall } from '../src/install/install.js';
import { readInstallState } from '../src/install/install-state.js';
import { triggerProblem } from '../src/host/host-triggers.js';
import { dumpCatalogue, installRefusal } from './catalogue.js';
import { insertAudit, withClient, type TestDatabase } from './database.js';
import { createHostTables, makeChannel, readLog, value } from './host-tables.js';

let database: TestDatabase;
let before: string[];

beforeEach(async () => {
  database = await createHostTables();
  before = await dumpCatalogue(database.pool);
  await onClient((client) => install(client));
});

afterEach(async () => {
  await database.drop();
});

async function onClient<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  return await withClient(database.url, work);
}

async function problem(): Promise<string | null> {
  return await onClient(async (client) => triggerProblem((await readInstallState(client)).triggers));
}

const swap = `BEGIN; ALTER TABLE audit_log RENAME TO audit_log_old;
  CREATE TABLE audit_log (LIKE audit_log_old INCLUDING ALL); COMMIT`;

test.each([
  ['a table was replaced', swap, 'the table public.audit_log does not have the trigger flagcast_log'],
  [
    'all triggers were disabled',
    'ALTER TABLE audit_log DISABLE TRIGGER ALL',
    'the trigger flagcast_log on public.audit_log is disabled',
  ],
  [
    'a trigger fires for replication only',
    'ALTER TABLE pending_changes ENABLE REPLICA TRIGGER flagcast_log',
    'the trigger flagcast_log on public.pending_changes is disabled',
  ],
  [
    'a trigger was dropped',
    'DROP TRIGGER flagcast_log ON pending_change_entities',
    'the table public.pending_change_entities does not have the trigger flagcast_log',
  ],
  [
    'a trigger function was dropped',
    'DROP FUNCTION flagcast.log_audit CASCADE',
    'the table public.audit_log does not have the trigger flagcast_log',
  ],
  ['the triggers do not fire for replication any more', 'ALTER TABLE audit_log ENABLE TRIGGER ALL', null],
  ['another function was dropped', 'DROP FUNCTION flagcast.prune_event_log', null],
  ['the view was dropped', 'DROP VIEW flagcast.v_realtime_events', null],
  [
    'the trigger that drops replicated rows of the log was disabled',
    'ALTER TABLE flagcast.event_log DISABLE TRIGGER ALL; ALTER TABLE flagcast.event_log ENABLE TRIGGER ALL',
    null,
  ],
  [
    'a trigger that records deletions was disabled',
    'ALTER TABLE flagcast.event_log DISABLE TRIGGER flagcast_record_truncate',
    null,
  ],
  ['the record of what is installed was lost', 'DELETE FROM flagcast.schema_version', null],
])('install repairs the installation after %s', async (_case, damage, found) => {
  const whole = (await dumpCatalogue(database.pool)).filter((line) => !line.includes('audit_log'));
  const channel = await makeChannel(database.pool);
  await insertAudit(database.pool, channel);
  await database.pool.query('INSERT INTO flagcast.guarded_environments VALUES ($1, $2)', [
    channel.environmentId,
    'ada',
  ]);

  await database.pool.query(damage);
  if (found === null) expect(await problem()).toBeNull();
  else expect(await problem()).toContain(found);
  expect((await onClient((client) => install(client))).changed).toBe(true);
  expect(await onClient((client) => install(client))).toEqual({ changed: false, lines: [], notes: [] });

  expect(await problem()).toBeNull();
  expect((await dumpCatalogue(database.pool)).filter((line) => !line.includes('audit_log'))).toEqual(whole);
  const next = await insertAudit(database.pool, channel);
  const rows = (await readLog(database.pool)).filter(({ source }) => source === 'audit');
  expect(rows).toHaveLength(2);
  expect(rows[1]).toMatchObject({ entity_id: next.entityId, action: 'updated' });
  const view = await database.pool.query<{ entity_id: string; environment_key: string }>(
    'SELECT entity_id, environment_key FROM flagcast.v_realtime_events ORDER BY event_id::bigint',
  );
  expect(view.rows.at(-1)).toEqual({ entity_id: next.entityId, environment_key: 'prod' });
  const guards = await database.pool.query('SELECT FROM flagcast.guarded_environments');
  expect(guards.rowCount).toBe(1);
});

test('install removes the trigger from a replaced table, and uninstall leaves nothing', async () => {
  await database.pool.query(swap);
  await onClient((client) => install(client));
  const { rows } = await database.pool.query<{ table: string }>(
    `SELECT tgrelid::regclass::text AS "table" FROM pg_trigger WHERE tgname = 'flagcast_log' ORDER BY 1`,
  );
  expect(rows.map(({ table }) => table)).not.toContain('audit_log_old');
  await onClient((client) => uninstall(client));
  expect((await dumpCatalogue(database.pool)).filter((line) => /flagcast/.test(line))).toEqual([]);
});

test('uninstall removes the rest of a damaged installation', async () => {
  await database.pool.query(
    'DROP FUNCTION flagcast.log_audit CASCADE; DROP VIEW flagcast.v_realtime_events; DROP TABLE flagcast.log_state',
  );
  expect((await onClient((client) => uninstall(client))).changed).toBe(true);
  expect(await dumpCatalogue(database.pool)).toEqual(before);
});

test('a repair keeps manual grants, and views of the host over the view of Flagcast', async () => {
  const role = `host_${randomBytes(4).toString('hex')}`;
  const { pool } = database;
  await pool.query(`CREATE ROLE ${role};
    GRANT USAGE ON SCHEMA flagcast TO ${role};
    GRANT EXECUTE ON FUNCTION flagcast.record_event TO ${role};
    GRANT EXECUTE ON FUNCTION flagcast.prune_event_log TO PUBLIC;
    GRANT SELECT ON flagcast.v_realtime_events TO ${role} WITH GRANT OPTION;
    GRANT SELECT ON flagcast.v_realtime_events TO PUBLIC;
    CREATE VIEW public.report AS SELECT source FROM flagcast.v_realtime_events`);
  const whole = await dumpCatalogue(pool);
  await pool.query('DROP TRIGGER flagcast_log ON audit_log');
  expect((await onClient((client) => install(client))).lines).toEqual([
    'created trigger flagcast_log on public.audit_log',
    'granted EXECUTE ON FUNCTION flagcast.prune_event_log(interval,integer) TO PUBLIC',
  ]);
  const rights = (lines: readonly string[]): string[] =>
    lines.map((line) => line.replace(/\{([^}]*)\}/, (_, list: string) => list.split(',').toSorted().join()));
  expect(rights(await dumpCatalogue(pool))).toEqual(rights(whole));
  await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});

test('a repair is refused if a trigger of the host calls a function of Flagcast, and the error names it', async () => {
  await database.pool.query(
    `CREATE TRIGGER mine AFTER INSERT ON features FOR EACH ROW EXECUTE FUNCTION flagcast.log_audit();
     DROP TRIGGER flagcast_log ON audit_log`,
  );
  const error = await installRefusal(database, (client) => install(client));
  expect(error.message).toContain('trigger mine on table public.features');
});

test('uninstall is refused while a function of the host calls record_event', async () => {
  await database.pool.query(
    `CREATE FUNCTION note() RETURNS void LANGUAGE plpgsql AS
     $$ BEGIN PERFORM flagcast.record_event('audit', '1', 'p', 'e', 'k', 'flag', '1', 'updated'); END $$`,
  );
  const error = await installRefusal(database, (client) => uninstall(client));
  expect(error.message).toContain('note()');
  await database.pool.query('DROP FUNCTION note');
  expect((await onClient((client) => uninstall(client))).changed).toBe(true);
});

test('a role that does not own the tables installs triggers that replication does not fire, with a note', async () => {
  await onClient((client) => uninstall(client));
  const role = `installer_${randomBytes(4).toString('hex')}`;
  const { pool, name } = database;
  await pool.query(`CREATE ROLE ${role};
    GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA public TO ${role}; GRANT CREATE ON DATABASE ${name} TO ${role}`);
  const channel = await makeChannel(pool);
  const asRole = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
    await onClient(async (client) => {
      await client.query(`SET ROLE ${role}`);
      return await work(client);
    });
  const installed = await asRole((client) => install(client));
  expect(installed.notes).toEqual([
    expect.stringMatching(
      new RegExp(`^Role ${role} does not own public\\.audit_log, .*: rows that logical replication writes`),
    ),
  ]);
  expect(await asRole((client) => install(client))).toMatchObject({ changed: false });
  expect(await problem()).toBeNull();
  await insertAudit(pool, channel);
  expect(await readLog(pool)).toHaveLength(1);

  await pool.query('DROP TRIGGER flagcast_log ON audit_log');
  expect((await asRole((client) => install(client))).lines).toEqual([
    'created trigger flagcast_log on public.audit_log',
  ]);
  // The owner may enable them for replication.
  await onClient((client) => install(client));
  const { rows } = await pool.query(
    `SELECT FROM pg_trigger WHERE tgname = 'flagcast_log' AND tgenabled <> 'A'`,
  );
  expect(rows).toEqual([]);
  await onClient((client) => uninstall(client));
  await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});

test('install changes nothing if all triggers are correct', async () => {
  expect(await onClient((client) => planInstall(client))).toEqual({
    creates: [],
    grants: [],
    statements: [],
    notes: [],
  });
});

test('install and uninstall are complete in a session with session_replication_role = replica', async () => {
  await withClient(database.url, async (client) => {
    await uninstall(client);
    await client.query('SET session_replication_role = replica');
    await install(client);
    expect(await install(client)).toMatchObject({ changed: false });
    expect(await value(client, 'SELECT host_triggers FROM flagcast.log_state')).toBe(true);
    await uninstall(client);
    expect(await value(client, 'SHOW session_replication_role')).toBe('replica');
  });
});

import { execFile } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startEmbeddedPostgres } from '../src/database/embedded.js';
import { readGrants } from '../src/database/install-grants.js';
import { examine, type ExamineOptions } from '../src/doctor/examine.js';
import type { Finding } from '../src/doctor/finding.js';
import { chosenBinaries } from './chosen-binaries.js';
import {
  createTestCluster,
  createTestFolder,
  seedProject,
  withClient,
  type TestCluster,
} from './database.js';
import { createPatient, type Patient } from './doctor-patient.js';

const execute = promisify(execFile);

let cluster: TestCluster;
let patient: Patient;
const cleanUps: (() => Promise<void>)[] = [];

beforeAll(async () => {
  cluster = await createTestCluster();
});

beforeEach(async () => {
  patient = await createPatient(cluster);
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await patient.drop();
});

afterAll(async () => {
  await cluster.remove();
});

/** Makes the patient ill, follows what doctor says, and looks again: the complaint must have gone. */
async function heal(id: string, illness: string, options?: ExamineOptions): Promise<Finding> {
  await patient.run(illness);
  const complaints = await patient.complaints(id, options);
  const [complaint] = complaints;
  if (complaint === undefined) throw new Error(`doctor finds nothing wrong with ${id}`);
  for (const each of complaints) await patient.follow(each);
  expect(await patient.complaints(id, options)).toEqual([]);
  return complaint;
}

describe('doctor', () => {
  it('finds nothing wrong with a database in good health', async () => {
    const { role, findings } = await examine(patient.url);
    expect(role).toBe(patient.role);
    expect(findings.filter(({ level }) => level !== 'ok')).toEqual([]);
    expect(findings.map(({ id }) => id)).toEqual([
      'connection',
      'version',
      'replica',
      'guarantee',
      'installation',
      'rights',
      'view',
      'triggers',
      'wake',
      'listen',
      'index',
      'cost',
      'transactions',
      'clock',
      'commit-times',
    ]);
    expect(findings.find(({ id }) => id === 'guarantee')?.what).toMatch(/^exact: every committed event/);
  });

  it('changes nothing', async () => {
    const state = async (): Promise<unknown> =>
      (
        await patient.database.pool.query<object>(
          'SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_all_tables',
        )
      ).rows;
    const before = await state();
    await patient.findings();
    expect(await state()).toEqual(before);
  });

  it('a right that is missing, each of them', async () => {
    const { pool, name } = patient.database;
    await pool.query(`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT ON DATABASE ${name} TO ${patient.role};
      REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO ${patient.role};
      REVOKE SELECT ON flagcast.guarded_environments FROM PUBLIC; GRANT SELECT ON flagcast.guarded_environments TO ${patient.role}`);
    const grants = await withClient(
      patient.database.url,
      async (client: pg.Client) =>
        await readGrants(client, { database: name, ownTables: true, role: patient.role }),
    );
    // Without the first one there is no connection.
    const others = grants.filter((grant) => grant.name !== 'database');
    expect(others.every(({ held }) => held)).toBe(true);
    for (const { name: grant, right, need } of others) {
      const id = need === 'exact' ? 'guarantee' : 'rights';
      const { level, mend } = await heal(id, `REVOKE ${right} FROM ${patient.role}`);
      expect({ grant, level }).toEqual({
        grant,
        level: { serve: 'error', extra: 'note', exact: 'warning' }[need],
      });
      expect(mend?.text).toBe(`GRANT ${right} TO "${patient.role}";`);
    }
  });

  it('a superuser', async () => {
    const findings = await patient.findings({}, patient.database.url);
    expect(findings.find(({ id }) => id === 'rights')).toMatchObject({ level: 'note' });
  });

  it('tables that are missing', async () => {
    await patient.run('DROP TABLE memberships');
    const [complaint] = await patient.complaints('rights');
    expect(complaint).toMatchObject({ level: 'error' });
    expect(complaint?.what).toContain('public.memberships (who may see a project)');
  });

  it('an installation that is older, gone, newer, or not ours', async () => {
    const older = await heal(
      'installation',
      'DROP TABLE flagcast.granted_roles; DELETE FROM flagcast.schema_version WHERE version = 4',
    );
    expect(older).toMatchObject({ level: 'warning', what: 'installed by an older Flagcast: version 3 of 4' });

    await patient.run('INSERT INTO flagcast.schema_version (version) VALUES (99)');
    expect(await patient.complaints('installation')).toMatchObject([
      { level: 'warning', mend: { kind: 'advice' } },
    ]);

    await patient.run(
      'DROP VIEW public.v_realtime_events; DROP SCHEMA flagcast CASCADE; CREATE SCHEMA flagcast',
    );
    const [foreign] = await patient.complaints('installation');
    expect(foreign).toMatchObject({ level: 'error' });
    expect(foreign?.what).toContain('that Flagcast did not make');
    if (foreign !== undefined) await patient.follow(foreign);
    const [gone] = await patient.complaints('installation');
    expect(gone?.what).toContain('is not installed');
    if (gone !== undefined) await patient.follow(gone);
    expect(await patient.complaints('installation')).toEqual([]);
  });

  it('nothing installed, but tables that can be read all the same', async () => {
    await patient.run(
      `DROP VIEW public.v_realtime_events; DROP SCHEMA flagcast CASCADE; GRANT SELECT ON audit_log, pending_changes, pending_change_entities TO ${patient.role}`,
    );
    expect((await patient.findings()).find(({ id }) => id === 'guarantee')).toMatchObject({ level: 'ok' });
    const [complaint] = await patient.complaints('installation');
    expect(complaint).toMatchObject({ level: 'warning' });
    expect(complaint?.consequence).toContain('with the next poll');
    if (complaint !== undefined) await patient.follow(complaint);
    expect(await patient.complaints('installation')).toEqual([]);
  });

  it('a view of the host that does not tell transactions, and sessions that cannot be seen', async () => {
    const options = { view: 'public.v_realtime_events', overlapMs: 30_000 };
    await patient.run(
      `GRANT SELECT ON v_realtime_events TO ${patient.role}; REVOKE pg_read_all_stats FROM ${patient.role}`,
    );
    const [complaint] = await patient.complaints('guarantee', options);
    expect(complaint).toMatchObject({ level: 'warning' });
    expect(complaint?.what).toMatch(/^overlap: the view public\.v_realtime_events .* looks back for 30 s$/);
    if (complaint !== undefined) await patient.follow(complaint);
    const [seeing] = await patient.complaints('guarantee', options);
    expect(seeing).toMatchObject({ level: 'note' });
    expect(await patient.complaints('guarantee')).toEqual([]);
  });

  it('a view that does not exist, or is none of events', async () => {
    const [missing] = await patient.complaints('guarantee', { view: 'nowhere.events' });
    expect(missing).toMatchObject({ level: 'error' });
    expect(missing?.what).toContain('nowhere.events of FLAGCAST_VIEW cannot be read');
    const [other] = await patient.complaints('guarantee', { view: 'public.features' });
    expect(other?.what).toContain('the view public.features has no column source, event_id,');
  });

  it('a view that is gone, that lacks columns, or does not answer', async () => {
    expect(
      await heal('view', 'DROP VIEW public.v_realtime_events; DROP VIEW flagcast.v_realtime_events'),
    ).toMatchObject({ level: 'error' });
    const narrow = await heal(
      'view',
      `DROP VIEW public.v_realtime_events; DROP VIEW flagcast.v_realtime_events;
       CREATE VIEW flagcast.v_realtime_events AS SELECT 'audit' AS source, id::text AS event_id FROM public.audit_log`,
    );
    expect(narrow.what).toMatch(/has no column project_id, .*xid/);
    const owner = `owner_${patient.role}`;
    const mute = await heal(
      'view',
      `CREATE ROLE ${owner}; GRANT ALL ON SCHEMA flagcast, public TO ${owner};
       GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${owner}; ALTER VIEW flagcast.v_realtime_events OWNER TO ${owner};
       REVOKE SELECT ON audit_log FROM ${owner}`,
    );
    expect(mute.what).toContain('permission denied for table audit_log');
    await patient.run(
      `ALTER VIEW flagcast.v_realtime_events OWNER TO CURRENT_USER; DROP OWNED BY ${owner}; DROP ROLE ${owner}`,
    );
  });

  it('triggers that are gone or switched off', async () => {
    expect(await heal('triggers', 'DROP TRIGGER flagcast_wake ON audit_log')).toMatchObject({
      level: 'warning',
    });
    const off = await heal('triggers', 'ALTER TABLE pending_changes DISABLE TRIGGER flagcast_wake');
    expect(off.what).toBe('the trigger flagcast_wake on public.pending_changes is switched off');
  });

  it('triggers that somebody silenced', async () => {
    const { name } = patient.database;
    expect(await heal('wake', `ALTER DATABASE ${name} SET flagcast.notify = 'off'`)).toMatchObject({
      level: 'note',
    });
  });

  it('an index that is missing, and what reads cost without it', async () => {
    const { projectId, environments } = await seedProject(patient.database.pool);
    const drop = 'DROP INDEX audit_log_created_at_idx';
    expect(await heal('index', drop)).toMatchObject({ level: 'note' });
    await patient.database.pool.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, actor, action, created_at)
       SELECT $1, $2, gen_random_uuid(), 'user', 'update', now() - n * interval '1 minute' FROM generate_series(1, 12000) n`,
      [projectId, environments.prod],
    );
    await patient.run(`ANALYZE audit_log; ${drop}; DROP INDEX audit_log_environment_id_created_at_idx`);
    const [cost] = await patient.complaints('cost');
    expect(cost).toMatchObject({
      level: 'warning',
      what: 'a read is expected to go through all of public.audit_log, about 12000 rows',
    });
    const [index] = await patient.complaints('index');
    expect(index).toMatchObject({
      level: 'warning',
      mend: { text: 'CREATE INDEX CONCURRENTLY ON public.audit_log (created_at);' },
    });
    if (index !== undefined) await patient.follow(index);
    expect(await patient.complaints('index')).toEqual([]);
    expect(await patient.complaints('cost')).toEqual([]);
    for (const other of [
      'pending_change_entities_created_at_idx',
      'pending_change_entities_pending_change_id_idx',
      'audit_log_entity_id_idx',
    ]) {
      await heal('index', `DROP INDEX ${other}`);
    }
  });

  it('transactions that are open for long', async () => {
    const { pool } = patient.database;
    const asked = { oldTransactionMs: 0 };
    const idle = await pool.connect();
    await idle.query('BEGIN; SELECT 1');
    const [open] = await patient.complaints('transactions', asked);
    expect(open?.what).toMatch(
      /^the transaction of process \d+ \(role postgres, test, idle in transaction\) has been open for \d+ s$/,
    );
    await idle.query('CREATE TEMP TABLE mine (id int)');
    const [writing] = await patient.complaints('transactions', asked);
    expect(writing?.what).toMatch(/ and has written$/);
    expect(writing?.consequence).toMatch(/reads again what was written since/);
    if (writing !== undefined) await patient.follow(writing);
    await expect(idle.query('SELECT 1')).rejects.toThrow();
    idle.release(true);
    // The backend is told to end, and does so a moment later.
    await expect.poll(async () => await patient.complaints('transactions', asked)).toEqual([]);
  });

  it('row-level security', async () => {
    const found = await heal('row-security', 'ALTER TABLE users ENABLE ROW LEVEL SECURITY');
    expect(found).toMatchObject({ level: 'note' });
    expect(found.what).toContain('public.users');
  });

  it("the clock of the database, when it is not this machine's", async () => {
    const [skewed] = await patient.complaints('clock', { now: () => Date.now() - 90_000 });
    expect(skewed).toMatchObject({ level: 'warning' });
    expect(skewed?.what).toMatch(/^the database's clock is (90|89)\.\d s ahead of this machine's$/);
  });

  it('activity that is not tracked', async () => {
    const track = await heal('guarantee', 'ALTER SYSTEM SET track_activities = off; SELECT pg_reload_conf()');
    expect(track).toMatchObject({ level: 'warning' });
    await patient.run('ALTER SYSTEM RESET track_activities; SELECT pg_reload_conf()');
  });
});

describe('doctor, of servers that were set up otherwise', () => {
  it('triggers that stay silent where transactions can be prepared, commit times that are not recorded', async () => {
    const other = await createTestCluster({ max_prepared_transactions: '5', track_commit_timestamp: 'off' });
    cleanUps.push(async () => await other.remove());
    const there = await createPatient(other);
    cleanUps.push(async () => await there.drop());
    const [silent] = await there.complaints('wake');
    expect(silent).toMatchObject({ level: 'warning' });
    if (silent !== undefined) await there.follow(silent);
    expect(await there.complaints('wake')).toEqual([]);

    const [times] = await there.complaints('commit-times');
    expect(times).toMatchObject({ level: 'note' });
    if (times !== undefined) await there.follow(times);
    // The tests' own settings are on the command line, which wins; the file is what others restart with.
    const { rows } = await there.database.pool.query<{ setting: string }>(
      "SELECT setting FROM pg_file_settings WHERE name = 'track_commit_timestamp' ORDER BY seqno DESC LIMIT 1",
    );
    expect(rows).toEqual([{ setting: 'on' }]);

    await there.database.pool.query("BEGIN; CREATE TABLE kept (id int); PREPARE TRANSACTION 'it''s'");
    const [prepared] = await there.complaints('transactions', { oldTransactionMs: 0 });
    expect(prepared?.what).toContain(`the prepared transaction "it's"`);
    if (prepared !== undefined) await there.follow(prepared);
    expect(await there.complaints('transactions', { oldTransactionMs: 0 })).toEqual([]);
  });

  it('a replica', async () => {
    const primary = await createTestCluster();
    const there = await createPatient(primary);
    const { role } = there;
    const source = primary.postgres.dataDir;
    await there.database.pool.end();
    await primary.postgres.stop();
    cleanUps.push(async () => await rm(source, { recursive: true, force: true }));
    const folder = await createTestFolder();
    cleanUps.push(async () => await rm(folder, { recursive: true, force: true }));
    await execute('cp', ['-a', `${source}/.`, folder]);
    const inside = (await readdir(folder, { recursive: true })).find(
      (file) => path.basename(file) === 'postgresql.conf',
    );
    await writeFile(path.join(folder, path.dirname(inside ?? ''), 'standby.signal'), '');
    const standby = await startEmbeddedPostgres({
      dataDir: folder,
      settings: { fsync: 'off' },
      ...chosenBinaries(folder),
    });
    cleanUps.push(async () => await standby.stop('immediate'));
    const url = new URL(there.url);
    url.port = String(standby.port);
    const { findings } = await examine(url.toString());
    expect(findings[0]?.what).toContain(role);
    expect(findings.filter(({ level }) => level !== 'ok').map(({ id, level }) => `${level} ${id}`)).toEqual([
      'note replica',
      'note guarantee',
    ]);
  });
});

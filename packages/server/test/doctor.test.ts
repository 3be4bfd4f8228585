import { execFile } from 'node:child_process';
import { readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { startEmbeddedPostgres } from '../../demo/src/embedded/embedded.js';
import { install } from '../src/install/install.js';
import { readGrants } from '../src/install/grants.js';
import { examine, logWarnings } from '../src/install/doctor/examine.js';
import type { Finding } from '../src/install/doctor/facts.js';
import { chosenBinaries } from './chosen-binaries.js';
import { createTestCluster, createTestFolder, seedProject, withClient } from './database.js';
import { createDoctorFixture, useDoctorFixture } from './doctor-fixture.js';
import { installOld } from './install-0.1.js';

const execute = promisify(execFile);

const doctor = useDoctorFixture();

describe('doctor', () => {
  it('finds no problem after install', async () => {
    const { role, findings } = await examine(doctor.fixture.url);
    expect(role).toBe(doctor.fixture.role);
    expect(findings.filter(({ severity }) => severity !== 'ok')).toEqual([]);
    expect(findings.map(({ id }) => id)).toEqual([
      'connection',
      'guarantee',
      'installation',
      'log',
      'write-cost',
      'log-size',
      'retention',
      'wake',
      'index',
      'rights',
      'row-security',
      'listen',
      'version',
      'replica',
      'sessions',
      'transactions',
      'clock',
      'encoding',
      'replication',
      'commit-times',
    ]);
    expect(findings.find(({ id }) => id === 'guarantee')?.message).toMatch(/^exact: every committed event/);
  });

  it('never advises ANALYZE', async () => {
    const { projectId, environments } = await seedProject(doctor.fixture.database.pool);
    await doctor.fixture.database.pool.query(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, actor, action, created_at)
       SELECT $1, $2, gen_random_uuid(), 'user', 'update', now() - n * interval '1 minute'
       FROM generate_series(1, 12000) n`,
      [projectId, environments.prod],
    );
    expect(JSON.stringify(await doctor.fixture.findings())).not.toContain('ANALYZE');
    expect((await doctor.fixture.findings()).filter(({ severity }) => severity !== 'ok')).toEqual([]);
  });

  it('writes to no table', async () => {
    const state = async (): Promise<unknown> =>
      (
        await doctor.fixture.database.pool.query<object>(
          'SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_all_tables',
        )
      ).rows;
    const before = await state();
    await doctor.fixture.findings();
    expect(await state()).toEqual(before);
  });

  it('reports each missing privilege with the GRANT', async () => {
    const { pool, name } = doctor.fixture.database;
    await pool.query(`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC; GRANT CONNECT ON DATABASE ${name} TO ${doctor.fixture.role};
      REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO ${doctor.fixture.role};
      REVOKE SELECT ON flagcast.guarded_environments FROM PUBLIC; GRANT SELECT ON flagcast.guarded_environments TO ${doctor.fixture.role}`);
    const grants = await withClient(
      doctor.fixture.database.url,
      async (client: pg.Client) =>
        await readGrants(client, { database: name, ownTables: true, role: doctor.fixture.role }),
    );
    // Without CONNECT there is no connection. Only Togglr has the tables of tags.
    const others = grants.filter((grant) => grant.name !== 'database' && grant.exists);
    expect(others.every(({ held }) => held)).toBe(true);
    expect(others.map(({ name: grant }) => grant)).toContain(
      'function flagcast.prune_event_log(interval, integer)',
    );
    for (const { name: grant, right, need } of others) {
      await doctor.fixture.run(`REVOKE ${right} FROM ${doctor.fixture.role}`);
      const problems = await doctor.fixture.problems('rights');
      const fix = { kind: 'sql', text: `GRANT ${right} TO "${doctor.fixture.role}";` };
      expect([grant, problems]).toMatchObject([
        grant,
        [{ severity: need === 'serve' ? 'error' : 'note', fix }],
      ]);
      // The next one is the only problem again.
      await doctor.fixture.fix(problems[0]);
    }
    expect(await doctor.fixture.problems('rights')).toEqual([]);
  });

  it('notes a role that is a superuser', async () => {
    const findings = await doctor.fixture.findings({}, doctor.fixture.database.url);
    expect(findings.find(({ id }) => id === 'rights')).toMatchObject({ severity: 'note' });
  });

  it('reports missing tables', async () => {
    await doctor.fixture.run('DROP TABLE memberships');
    const [complaint] = await doctor.fixture.problems('rights');
    expect(complaint).toMatchObject({ severity: 'error' });
    expect(complaint?.message).toContain('public.memberships (access to projects)');
  });

  it('reports a missing installation, a newer one, and a foreign schema', async () => {
    await doctor.fixture.run('INSERT INTO flagcast.schema_version (version) VALUES (99)');
    expect(await doctor.fixture.problems('installation')).toMatchObject([
      { severity: 'warning', fix: { kind: 'advice' } },
    ]);

    await doctor.fixture.run(
      'DROP VIEW public.v_realtime_events; DROP SCHEMA flagcast CASCADE; CREATE SCHEMA flagcast',
    );
    const [foreign] = await doctor.fixture.problems('installation');
    expect(foreign).toMatchObject({ severity: 'error' });
    expect(foreign?.message).toContain('was not created by Flagcast');
    await doctor.fixture.fix(foreign);
    const [gone] = await doctor.fixture.problems('installation');
    expect(gone?.message).toContain('is not installed');
    await doctor.fixture.fix(gone);
    expect(await doctor.fixture.problems('installation')).toEqual([]);
  });

  it('reports an installation of Flagcast 0.1, which install upgrades', async () => {
    const old = await doctor.cluster.createDatabase({ schema: 'none' });
    doctor.cleanUps.push(async () => await old.drop());
    await installOld(old.pool, { mode: 'tables' });
    const findings = async (): Promise<Finding[]> =>
      (await examine(old.url, { listen: false })).findings.filter(({ severity }) => severity !== 'ok');
    const before = await findings();
    expect(before.find(({ id }) => id === 'installation')).toMatchObject({
      severity: 'warning',
      message: 'Flagcast 0.1 is installed, which has no event log: run flagcast install',
      fix: { kind: 'command', text: 'flagcast install --yes --database-url "$DATABASE_URL"' },
    });
    expect(before.find(({ id }) => id === 'guarantee')?.message).toMatch(/^overlap: serve reads its tables/);
    // The server logs it when it starts.
    const logged: unknown[] = [];
    await logWarnings(old.url, { logger: (_event, fields) => logged.push(fields) });
    expect(logged).toContainEqual(
      expect.objectContaining({ message: expect.stringContaining('run flagcast install') as string }),
    );
    await withClient(old.url, async (client) => await install(client));
    expect((await findings()).map(({ id }) => id)).toEqual(['rights']);
  });

  it('reports a copy of the schema without its data', async () => {
    const found = await doctor.fixture.expectFix(
      'installation',
      'DELETE FROM flagcast.schema_version; DELETE FROM flagcast.log_state',
    );
    expect(found.message).toContain('schema flagcast has no record of the installed version');
    expect(await doctor.fixture.problems('log')).toEqual([]);
  });

  it('reports parts of the installation that are missing or disabled', async () => {
    const dropped = await doctor.fixture.expectFix('installation', 'DROP FUNCTION flagcast.record_event');
    expect(dropped.message).toContain('function flagcast.record_event()');
    const skip = await doctor.fixture.expectFix(
      'installation',
      'ALTER TABLE flagcast.event_log ENABLE TRIGGER flagcast_skip_replicated',
    );
    expect(skip.message).toContain('trigger flagcast_skip_replicated on flagcast.event_log');
  });

  it('reports the guarantee overlap and its limits before install', async () => {
    await doctor.fixture.run(
      `DROP VIEW public.v_realtime_events; DROP SCHEMA flagcast CASCADE;
       GRANT SELECT ON audit_log, pending_changes, pending_change_entities TO ${doctor.fixture.role}`,
    );
    const [guarantee] = await doctor.fixture.problems('guarantee', { overlapMs: 30_000 });
    expect(guarantee).toMatchObject({
      severity: 'warning',
      message: 'overlap: serve reads its tables by created_at and looks back for 30 s',
    });
    expect(guarantee?.consequence).toMatch(
      /^an event is missed if its transaction commits more than 30 s after/,
    );
    expect(await doctor.fixture.problems('installation')).toMatchObject([{ severity: 'warning' }]);
    await withClient(doctor.fixture.database.url, async (client) => await install(client));
    const [forbidden] = await doctor.fixture.problems('guarantee');
    expect(forbidden).toMatchObject({ severity: 'error' });
    expect(forbidden?.message).toContain('this role may not read flagcast.event_log');
    for (const each of [guarantee, forbidden]) {
      expect(each?.fix?.text).toContain(
        `flagcast install --yes --role ${doctor.fixture.role} --database-url`,
      );
    }
    await doctor.fixture.fix(forbidden);
    expect((await doctor.fixture.findings()).filter(({ severity }) => severity !== 'ok')).toEqual([]);
  });

  it('reports the guarantee overlap for a view of the host', async () => {
    await doctor.fixture.run(
      `CREATE VIEW public.events AS SELECT * FROM v_realtime_events; GRANT SELECT ON events TO ${doctor.fixture.role}`,
    );
    const [problem] = await doctor.fixture.problems('guarantee', {
      view: 'public.events',
      overlapMs: 30_000,
    });
    expect(problem).toMatchObject({
      severity: 'warning',
      message: 'overlap: serve reads the view public.events by created_at and looks back for 30 s',
    });
    expect(problem?.fix?.text).toContain('--log-only');
    expect(await doctor.fixture.problems('guarantee')).toEqual([]);
  });

  it('reports a missing view, and a view without the columns of events', async () => {
    const [missing] = await doctor.fixture.problems('guarantee', { view: 'nowhere.events' });
    expect(missing).toMatchObject({ severity: 'error' });
    expect(missing?.message).toContain('nowhere.events of FLAGCAST_VIEW cannot be read');
    const [other] = await doctor.fixture.problems('guarantee', { view: 'public.features' });
    expect(other?.message).toContain('the view public.features has no column source, event_id,');
  });

  it('reports triggers that do not notify', async () => {
    const { name } = doctor.fixture.database;
    expect(
      await doctor.fixture.expectFix('wake', `ALTER DATABASE ${name} SET flagcast.notify = 'off'`),
    ).toMatchObject({
      severity: 'note',
    });
  });

  it('reports a missing index', async () => {
    const found = await doctor.fixture.expectFix('index', 'DROP INDEX audit_log_entity_id_idx');
    expect(found).toMatchObject({
      severity: 'note',
      fix: { text: 'CREATE INDEX CONCURRENTLY ON public.audit_log (entity_id);' },
    });
  });

  it('notes transactions that are open for a long time', async () => {
    const { pool } = doctor.fixture.database;
    // A role without pg_read_all_stats sees only its own transactions.
    const problems = async (): Promise<readonly Finding[]> =>
      (await doctor.fixture.findings({ oldTransactionMs: 0 }, doctor.fixture.database.url)).filter(
        ({ id, severity }) => id === 'transactions' && severity !== 'ok',
      );
    const idle = await pool.connect();
    await idle.query('BEGIN; SELECT 1');
    const [open] = await problems();
    expect(open?.message).toMatch(
      /^a transaction is open for a long time: process \d+ \(role postgres, application test, idle in transaction, for \d+ s\)$/,
    );
    expect(open).toMatchObject({
      severity: 'note',
      consequence: expect.stringMatching(/^no event is lost/) as string,
    });
    await doctor.fixture.fix(open);
    await expect(idle.query('SELECT 1')).rejects.toThrow();
    idle.release(true);
    // The backend ends a moment after pg_terminate_backend.
    await expect.poll(async () => await problems()).toEqual([]);
  });

  it('warns of row-level security that hides rows from the server or from the triggers', async () => {
    const found = await doctor.fixture.expectFix(
      'row-security',
      'ALTER TABLE users ENABLE ROW LEVEL SECURITY',
    );
    expect(found).toMatchObject({ severity: 'warning' });
    expect(found.message).toBe(`row-level security applies to role ${doctor.fixture.role} on public.users`);

    // Policies that show all rows, or only some.
    await doctor.fixture.run(
      `ALTER ROLE ${doctor.fixture.role} NOBYPASSRLS; CREATE POLICY everybody ON users USING (true)`,
    );
    expect(await doctor.fixture.problems('row-security')).toEqual([]);
    await doctor.fixture.run('CREATE POLICY few ON users AS RESTRICTIVE USING (id < 7)');
    expect(await doctor.fixture.problems('row-security')).toHaveLength(1);
    await doctor.fixture.run(
      `ALTER TABLE users DISABLE ROW LEVEL SECURITY; ALTER ROLE ${doctor.fixture.role} BYPASSRLS`,
    );

    const owner = `owner_${doctor.fixture.role}`;
    await doctor.fixture.run(`CREATE ROLE ${owner}; GRANT ALL ON SCHEMA flagcast, public TO ${owner};
      GRANT ALL ON ALL TABLES IN SCHEMA flagcast, public TO ${owner};
      ALTER FUNCTION flagcast.log_request OWNER TO ${owner}`);
    const logging = await doctor.fixture.expectFix(
      'row-security',
      'ALTER TABLE pending_changes ENABLE ROW LEVEL SECURITY',
    );
    expect(logging.message).toContain(
      `role ${owner}, which owns the trigger functions, on public.pending_changes`,
    );
    await doctor.fixture.run(
      `ALTER FUNCTION flagcast.log_request OWNER TO CURRENT_USER; DROP OWNED BY ${owner}; DROP ROLE ${owner}`,
    );
  });

  it("warns when the database's clock differs from this machine's", async () => {
    const [skewed] = await doctor.fixture.problems('clock', { now: () => Date.now() - 90_000 });
    expect(skewed).toMatchObject({ severity: 'warning' });
    expect(skewed?.message).toMatch(/^the database's clock is (90|89)\.\d s ahead of this machine's$/);
  });
});

describe('doctor, with other settings of PostgreSQL', () => {
  it('reports triggers that do not notify because of prepared transactions, and missing commit times', async () => {
    const other = await createTestCluster({ max_prepared_transactions: '5', track_commit_timestamp: 'off' });
    doctor.cleanUps.push(async () => await other.remove());
    const there = await createDoctorFixture(other);
    doctor.cleanUps.push(async () => await there.drop());
    const [silent] = await there.problems('wake');
    expect(silent).toMatchObject({ severity: 'warning' });
    await there.fix(silent);
    expect(await there.problems('wake')).toEqual([]);

    const [times] = await there.problems('commit-times');
    expect(times).toMatchObject({ severity: 'note' });
    await there.fix(times);
    // The settings of the tests are on the command line, which overrides the file that ALTER SYSTEM writes.
    const { rows } = await there.database.pool.query<{ setting: string }>(
      "SELECT setting FROM pg_file_settings WHERE name = 'track_commit_timestamp' ORDER BY seqno DESC LIMIT 1",
    );
    expect(rows).toEqual([{ setting: 'on' }]);

    await there.database.pool.query("BEGIN; CREATE TABLE kept (id int); PREPARE TRANSACTION 'it''s'");
    const [prepared] = await there.problems('transactions', { oldTransactionMs: 0 });
    expect(prepared?.message).toContain(`prepared transaction "it's"`);
    await there.fix(prepared);
    expect(await there.problems('transactions', { oldTransactionMs: 0 })).toEqual([]);
  });

  it('examines a replica', async () => {
    const primary = await createTestCluster();
    const there = await createDoctorFixture(primary);
    const { role } = there;
    const source = primary.postgres.dataDir;
    await there.database.pool.end();
    await primary.postgres.stop();
    doctor.cleanUps.push(async () => await rm(source, { recursive: true, force: true }));
    const folder = await createTestFolder();
    doctor.cleanUps.push(async () => await rm(folder, { recursive: true, force: true }));
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
    doctor.cleanUps.push(async () => await standby.stop('immediate'));
    const url = new URL(there.url);
    url.port = String(standby.port);
    const { findings } = await examine(url.toString());
    expect(findings[0]?.message).toContain(role);
    expect(
      findings.filter(({ severity }) => severity !== 'ok').map(({ id, severity }) => `${severity} ${id}`),
    ).toEqual(['note replica']);
  });
});

import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { useDoctorFixture } from './doctor-fixture.js';

const doctor = useDoctorFixture();

describe('doctor', () => {
  it.each([
    [
      'a replaced table',
      'ALTER TABLE audit_log RENAME TO audit_log_old; CREATE TABLE audit_log (LIKE audit_log_old INCLUDING ALL)',
      'the table public.audit_log does not have the trigger flagcast_log (was the table replaced?)',
    ],
    [
      'a missing trigger',
      'DROP TRIGGER flagcast_log ON environments',
      'the table public.environments does not have the trigger flagcast_log (was the table replaced?)',
    ],
    [
      'a disabled trigger',
      'ALTER TABLE pending_changes DISABLE TRIGGER ALL',
      'the trigger flagcast_log on public.pending_changes is disabled',
    ],
  ])('reports %s as an error, which install fixes', async (_case, damage, message) => {
    const found = await doctor.fixture.expectFix('log', damage);
    expect(found).toMatchObject({ severity: 'error', message, fix: { kind: 'command' } });
    expect(found.fix?.text).toContain('flagcast install --yes');
    // The role has no privileges on a new table.
    if (damage.includes('CREATE TABLE'))
      await doctor.fixture.run(`GRANT SELECT ON audit_log TO ${doctor.fixture.role}`);
    expect((await doctor.fixture.findings()).filter(({ severity }) => severity !== 'ok')).toEqual([]);
  });

  it('reports a renamed column that the triggers read', async () => {
    await doctor.fixture.run('ALTER TABLE audit_log RENAME COLUMN username TO user_name');
    const [problem] = await doctor.fixture.problems('log');
    expect(problem).toMatchObject({ severity: 'error', fix: { kind: 'advice' } });
    expect(problem?.message).toContain('the table public.audit_log has no column username');
  });

  it('reports that the owner of the trigger functions may not read the requests', async () => {
    const owner = `owner_${doctor.fixture.role}`;
    await doctor.fixture.run(`CREATE ROLE ${owner}; GRANT CREATE ON SCHEMA flagcast TO ${owner};
      ALTER FUNCTION flagcast.log_request OWNER TO ${owner}`);
    const problems = await doctor.fixture.problems('log');
    expect(problems).toMatchObject([
      {
        severity: 'error',
        message: `role ${owner}, which owns the trigger functions, may not read public.pending_change_entities, public.pending_changes`,
      },
    ]);
    await doctor.fixture.fix(problems[0]);
    expect(await doctor.fixture.problems('log')).toEqual([]);
    await doctor.fixture.run(
      `ALTER FUNCTION flagcast.log_request OWNER TO CURRENT_USER; DROP OWNED BY ${owner}; DROP ROLE ${owner}`,
    );
  });

  it('reports an event log of another cluster', async () => {
    const found = await doctor.fixture.expectFix(
      'log',
      "UPDATE flagcast.log_state SET system_identifier = '1'",
    );
    expect(found).toMatchObject({ severity: 'warning' });
    expect(found.message).toContain('written in another cluster');
  });

  it('shows the size, the oldest row and the growth of the event log, and warns if no server deletes old rows', async () => {
    const { pool } = doctor.fixture.database;
    await pool.query(
      `INSERT INTO flagcast.event_log (source, logged_at)
       SELECT 'audit', now() - n * interval '1 minute' FROM generate_series(2880, 1, -1) n`,
    );
    await pool.query('ANALYZE flagcast.event_log');
    const findings = await doctor.fixture.findings({ logRetentionMs: 4 * 86_400_000 });
    const size = findings.find(({ id }) => id === 'log-size')?.message ?? '';
    const [, total, perDay, kept] =
      /^the event log takes (\d+) kB with about 2880 rows, the oldest of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: about 1440 rows, (\d+) kB a day, so (\d+) kB in the 4 days that servers keep \(FLAGCAST_LOG_RETENTION\)$/.exec(
        size,
      ) ?? [];
    expect(Math.abs(Number(perDay) - Number(total) / 2)).toBeLessThanOrEqual(1);
    expect(Math.abs(Number(kept) - Number(total) * 2)).toBeLessThanOrEqual(2);
    const [problem] = await doctor.fixture.problems('retention');
    expect(problem).toMatchObject({
      severity: 'warning',
      message: 'no server has ever looked for old rows of the event log',
    });
    await pool.query("SELECT flagcast.prune_event_log('7 days')");
    expect(await doctor.fixture.problems('retention')).toEqual([]);
    await pool.query("UPDATE flagcast.log_state SET pruned_at = now() - interval '3 hours'");
    expect((await doctor.fixture.problems('retention'))[0]?.message).toMatch(
      /^no server since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ has looked for old rows of the event log$/,
    );
    await pool.query("SELECT flagcast.prune_event_log('30 minutes')");
    expect(await doctor.fixture.problems('retention')).toEqual([]);
    // No row is older than an hour.
    await pool.query('UPDATE flagcast.log_state SET pruned_at = NULL');
    expect(await doctor.fixture.problems('retention')).toEqual([]);
  });

  it('reports triggers that do not fire for a subscription of logical replication', async () => {
    const { pool, name } = doctor.fixture.database;
    await pool.query(
      `CREATE SUBSCRIPTION mirror_${name} CONNECTION 'dbname=nowhere' PUBLICATION all_tables WITH (connect = false)`,
    );
    doctor.cleanUps.push(async () => {
      await pool.query(
        `ALTER SUBSCRIPTION mirror_${name} SET (slot_name = NONE); DROP SUBSCRIPTION mirror_${name}`,
      );
    });
    expect((await doctor.fixture.findings()).find(({ id }) => id === 'replication')).toMatchObject({
      severity: 'ok',
      message: '1 subscription of logical replication: replicated rows are logged',
    });
    const found = await doctor.fixture.expectFix(
      'replication',
      'ALTER TABLE audit_log ENABLE TRIGGER flagcast_log',
    );
    expect(found).toMatchObject({ severity: 'warning' });
    expect(found.message).toContain('public.audit_log');
  });

  it('notes an encoding in which some texts cannot be converted to UTF-8', async () => {
    const name = `ascii_${randomBytes(6).toString('hex')}`;
    const url = new URL(doctor.fixture.database.url);
    url.pathname = `/${name}`;
    await doctor.fixture.database.pool.query(
      `CREATE DATABASE ${name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0`,
    );
    doctor.cleanUps.push(async () => {
      await doctor.fixture.database.pool.query(`DROP DATABASE ${name}`);
    });
    const findings = await doctor.fixture.findings({}, url.toString());
    expect(findings.find(({ id }) => id === 'encoding')).toMatchObject({
      severity: 'note',
      message: 'SQL_ASCII: a text may have bytes that have no equivalent in UTF-8',
      consequence: expect.stringContaining('without the state of the feature') as string,
    });
  });
});

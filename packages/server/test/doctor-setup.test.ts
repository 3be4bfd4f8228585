import { describe, expect, it } from 'vitest';
import { examine } from '../src/install/doctor/examine.js';
import { useDoctorFixture } from './doctor-fixture.js';

const doctor = useDoctorFixture();

describe('doctor', () => {
  it('names a locked table and the holder of the lock, and runs the checks that do not need the table', async () => {
    const holder = await doctor.fixture.database.pool.connect();
    doctor.cleanUps.push(async () => {
      await holder.query('ROLLBACK');
      holder.release();
    });
    await holder.query(
      `SET application_name = 'migration'; BEGIN; LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE`,
    );
    const { rows } = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const pid = String(rows[0]?.pid);
    const findings = await doctor.fixture.findings({ queryTimeoutMs: 500 });
    const lock = findings.find(({ id }) => id === 'locks');
    expect(lock?.message).toMatch(
      new RegExp(
        `^a table cannot be read: process ${pid} \\(role \\w+, application migration.*\\) holds a lock on public.audit_log$`,
      ),
    );
    expect(lock?.fix?.text).toContain(`pg_terminate_backend(${pid})`);
    expect(lock?.consequence).toMatch(
      /^these checks were not possible: guarantee, installation, log, write-cost, log-size, retention, wake; until /,
    );
    const names = lock?.consequence?.split(/: |, |; /).slice(1, 8);
    expect(findings.filter(({ id }) => names?.includes(id) === true)).toEqual([]);
    expect(findings.filter(({ severity }) => severity === 'error').map(({ id }) => id)).toEqual(['locks']);
    expect(findings.find(({ id }) => id === 'connection')?.severity).toBe('ok');
    expect(findings.map(({ id }) => id)).toEqual(expect.arrayContaining(['rights', 'index', 'clock']));
  });

  it('names the holder of a lock on a table that events do not need', async () => {
    const holder = await doctor.fixture.database.pool.connect();
    doctor.cleanUps.push(async () => {
      await holder.query('ROLLBACK');
      holder.release();
    });
    for (const table of ['users', 'memberships', 'projects']) {
      // A lock on a table that Flagcast does not read is not reported.
      await holder.query(`BEGIN; CREATE TABLE public.theirs (); LOCK TABLE theirs IN ACCESS EXCLUSIVE MODE`);
      expect(await doctor.fixture.problems('locks')).toEqual([]);
      await holder.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
      const [lock] = await doctor.fixture.problems('locks');
      expect(lock?.message).toMatch(
        new RegExp(`^a table cannot be read: process \\d+ .* holds a lock on public.${table}$`),
      );
      expect(lock?.consequence).toMatch(/^until the lock is released, requests that read the table /);
      await holder.query('ROLLBACK');
    }
  });

  it('advises --tables in an empty database, and does not report the index of a missing table', async () => {
    const database = await doctor.cluster.createDatabase({ schema: 'none' });
    doctor.cleanUps.push(async () => await database.drop());
    const { findings } = await examine(database.url, { listen: false });
    const broken = findings.find(({ id }) => id === 'installation');
    expect(broken).toMatchObject({ severity: 'error', fix: { kind: 'command' } });
    expect(broken?.fix?.text).toContain('flagcast install --yes --tables ');
    expect(findings.find(({ id }) => id === 'index')).toBeUndefined();
    await doctor.fixture.fix(broken, database.url);
    const repaired = await examine(database.url, { listen: false });
    expect(repaired.findings.filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  it('reports missing privileges for writes, with the GRANT, only if writes are on', async () => {
    expect(await doctor.fixture.problems('writes')).toEqual([]);
    const found = await doctor.fixture.expectFix('writes', 'SELECT 1', { writes: true });
    expect(found.severity).toBe('warning');
    expect(found.message).toContain('INSERT, UPDATE, DELETE ON TABLE public.features');
    expect(found.message).toContain('USAGE ON SEQUENCE public.audit_log_id_seq');
    expect(found.consequence).toContain('database_forbids');
  });

  it('reports that the role may not read e-mail addresses if tokens identify users by them', async () => {
    expect(await doctor.fixture.problems('rights')).toEqual([]);
    const found = await doctor.fixture.expectFix('rights', 'SELECT 1', { userClaim: 'mail:email' });
    expect(found).toMatchObject({ severity: 'error', fix: { kind: 'sql' } });
    expect(found.message).toContain('SELECT (email) ON TABLE public.users');
  });
});

import { describe, expect, it } from 'vitest';
import { examine } from '../src/install/doctor/examine.js';
import type { Finding } from '../src/install/doctor/facts.js';
import { hasTerminals, RunningCommand, runHere } from './command.js';
import { useDoctorFixture } from './doctor-fixture.js';
import { DeafLine, hasPgBouncer, PgBouncer } from './pooler.js';
import { freePort } from '../../../testing/testkit/program.ts';

const doctor = useDoctorFixture();

describe('flagcast doctor', () => {
  const run = async (url: string, ...args: string[]): ReturnType<typeof runHere> =>
    await runHere(['doctor', ...args], { DATABASE_URL: url });

  it('exits with 0 for ok and warnings, and with 1 for errors', async () => {
    const well = await run(doctor.fixture.url);
    expect(well).toMatchObject({ code: 0, stderr: '' });
    expect(well.stdout).toMatch(
      /^127\.0\.0\.1:\d+\/test_\w+, as role reader_\w+\n\nok {2}connection +connected/,
    );
    expect(well.stdout).toMatch(/\n\nNo problems found\.\n$/);

    await doctor.fixture.run('DROP FUNCTION flagcast.record_event');
    const warned = await run(doctor.fixture.url);
    expect(warned).toMatchObject({ code: 0, stderr: '' });
    expect(warned.stdout).toMatch(
      /\nwarning {2}installation +parts of the installation are missing: [^\n]+\n +consequence: .+\n +fix: \$ flagcast install /,
    );
    expect(warned.stdout).toMatch(/\n1 warning\.\n$/);

    await doctor.fixture.run(`REVOKE SELECT ON features FROM ${doctor.fixture.role}`);
    const failed = await run(doctor.fixture.url);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(/\n1 error, 1 warning\.\nRun the SQL as [^\n]+\n$/);
  });

  it('prints everything as JSON with --json', async () => {
    await doctor.fixture.run(`REVOKE SELECT ON features FROM ${doctor.fixture.role}`);
    const { code, stdout } = await run(doctor.fixture.url, '--json');
    expect(code).toBe(1);
    const report = JSON.parse(stdout) as { database: string; role: string; findings: Finding[] };
    expect(report.role).toBe(doctor.fixture.role);
    expect(report.findings.filter(({ severity }) => severity !== 'ok')).toEqual([
      {
        id: 'rights',
        severity: 'error',
        message: `role ${doctor.fixture.role} lacks SELECT ON TABLE public.features`,
        consequence:
          'flagcast serve fails where it needs them: the state of a feature in events and snapshots',
        fix: { kind: 'sql', text: `GRANT SELECT ON TABLE public.features TO "${doctor.fixture.role}";` },
      },
    ]);
  });

  it.each([
    [
      'the port is closed',
      async (url: URL) => (url.port = String(await freePort())),
      /ECONNREFUSED/,
      /start PostgreSQL, or correct the host and port in --database-url/,
    ],
    ['the host is unknown', (url: URL) => (url.hostname = 'db.invalid'), /db\.invalid/, /correct the host/],
    [
      'the password is wrong',
      (url: URL) => (url.password = 'hunter3'),
      /28P01/,
      /correct the user or password/,
    ],
    [
      'the password is missing',
      (url: URL) => (url.password = ''),
      /SASL/,
      /add the password to --database-url .*, or set PGPASSWORD/,
    ],
    ['there is no such database', (url: URL) => (url.pathname = '/nowhere'), /3D000/, /create the database/],
  ])('reports that %s, without the password', async (_case, spoil, reason, fix) => {
    const url = new URL(doctor.fixture.url);
    await spoil(url);
    const { code, stdout, stderr } = await run(url.toString());
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toMatch(reason);
    expect(stdout).toMatch(/consequence: nothing else could be checked\n +fix: .*--database-url/);
    expect(stdout).toMatch(fix);
    expect(stdout).not.toContain('hunter');
  });

  it.skipIf(!hasTerminals)('has colours on a terminal, unless NO_COLOR is set', async () => {
    const onTerminal = async (env: Record<string, string>): Promise<string> => {
      const command = new RunningCommand(['doctor'], {
        terminal: true,
        env: { DATABASE_URL: doctor.fixture.url, TERM: 'xterm-256color', ...env },
      });
      doctor.cleanUps.push(async () => await command.end());
      return (await command.ended).stdout;
    };
    expect(await onTerminal({})).toContain('\x1b[32mok\x1b[39m');
    expect(await onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b');
    expect((await run(doctor.fixture.url)).stdout).not.toContain('\x1b');
  });
});

describe('LISTEN', () => {
  const listen = async (url: string, listenUrl: string | null = null): Promise<Finding | undefined> =>
    (await examine(url, { listenUrl })).findings.find(({ id }) => id === 'listen');

  it('warns for a connection that loses notifications, and is ok for a direct one', async () => {
    const line = await DeafLine.open(Number(new URL(doctor.fixture.url).port));
    doctor.cleanUps.push(async () => await line.close());
    const url = new URL(doctor.fixture.url);
    url.port = String(line.port);
    expect(await listen(url.toString())).toMatchObject({
      severity: 'warning',
      fix: { kind: 'advice', text: expect.stringContaining('set FLAGCAST_LISTEN_URL') as string },
    });
    expect(await listen(doctor.fixture.url)).toMatchObject({ severity: 'ok' });
    expect(await listen(url.toString(), doctor.fixture.url)).toMatchObject({
      severity: 'ok',
      message: expect.stringContaining('FLAGCAST_LISTEN_URL') as string,
    });
    expect(await listen(doctor.fixture.url, url.toString())).toMatchObject({
      severity: 'warning',
      message: expect.stringContaining('FLAGCAST_LISTEN_URL receives nothing') as string,
    });
  });

  it('warns if FLAGCAST_LISTEN_URL leads to another database or to a missing one, without the password', async () => {
    const url = new URL(doctor.fixture.url);
    url.pathname = '/postgres';
    expect((await listen(doctor.fixture.url, url.toString()))?.message).toMatch(/leads to another database/);
    url.pathname = '/nowhere';
    const { stdout } = await runHere(['doctor'], {
      DATABASE_URL: doctor.fixture.url,
      FLAGCAST_LISTEN_URL: url.toString(),
    });
    expect(stdout).toMatch(/LISTEN through FLAGCAST_LISTEN_URL could not be tested \(.*3D000/);
    expect(stdout).not.toContain('hunter');
  });

  it.skipIf(!hasPgBouncer)(
    'warns for PgBouncer in transaction mode, and is ok in session mode (skipped where pgbouncer is not on the PATH)',
    async () => {
      for (const [mode, severity] of [
        ['transaction', 'warning'],
        ['session', 'ok'],
      ] as const) {
        const pooler = await PgBouncer.start(doctor.fixture.url, { poolMode: mode });
        doctor.cleanUps.push(async () => await pooler.stop());
        expect({ mode, ...(await listen(pooler.url)) }).toMatchObject({ mode, severity });
      }
    },
  );
});

describe('flagcast serve', () => {
  it('logs the warnings and errors of doctor when it starts', async () => {
    await doctor.fixture.run(
      `DROP TRIGGER flagcast_log ON environments; DROP FUNCTION flagcast.record_event;
       UPDATE flagcast.log_state SET pruned_at = now() - interval '1 day';
       INSERT INTO flagcast.event_log (source, logged_at) VALUES ('audit', now() - interval '1 day')`,
    );
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: {
        DATABASE_URL: doctor.fixture.url,
        FLAGCAST_JWT_SECRET: 'a secret for tests that is long enough',
      },
    });
    doctor.cleanUps.push(async () => await serve.end());
    const log = await serve.logged('doctor_warning', ({ finding }) => finding === 'log');
    expect(log).toMatchObject({
      level: 'warn',
      message: expect.stringContaining(
        'public.environments does not have the trigger flagcast_log',
      ) as string,
      consequence: expect.stringContaining('never delivered') as string,
      fix: expect.stringContaining('flagcast install --yes') as string,
    });
    await serve.logged('doctor_warning', ({ finding }) => finding === 'installation');
    await serve.logged('reader_started');
    serve.signal('SIGTERM');
    const { code, stdout } = await serve.ended;
    expect(code).toBe(0);
    expect(stdout).not.toContain('hunter2');
    // This server deletes old rows itself.
    expect(stdout).not.toContain('"retention"');
  });

  it('logs one warning when it starts with FLAGCAST_WRITES=on and a role that cannot write', async () => {
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: {
        DATABASE_URL: doctor.fixture.url,
        FLAGCAST_JWT_SECRET: 'a secret for tests that is long enough',
        FLAGCAST_WRITES: 'on',
      },
    });
    doctor.cleanUps.push(async () => await serve.end());
    const log = await serve.logged('doctor_warning');
    expect(log).toMatchObject({
      finding: 'writes',
      message: expect.stringContaining('INSERT ON TABLE public.audit_log') as string,
      fix: expect.stringContaining('GRANT INSERT ON TABLE public.audit_log TO') as string,
    });
  });

  it('logs a warning when it starts with users identified by email and a role that cannot read the column', async () => {
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: {
        DATABASE_URL: doctor.fixture.url,
        FLAGCAST_JWT_SECRET: 'a secret for tests that is long enough',
        FLAGCAST_JWT_USER_CLAIM: 'email:email',
      },
    });
    doctor.cleanUps.push(async () => await serve.end());
    const log = await serve.logged('doctor_warning');
    expect(log).toMatchObject({
      message: expect.stringContaining('lacks SELECT (email) ON TABLE public.users') as string,
      fix: expect.stringContaining('GRANT SELECT (email)') as string,
    });
  });
});

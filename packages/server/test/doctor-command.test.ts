import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkListen } from '../src/doctor/listen-check.js';
import { readFacts } from '../src/doctor/facts.js';
import type { Finding } from '../src/doctor/finding.js';
import { openSession } from '../src/database/session.js';
import { hasTerminals, RunningCommand, runCommand, type CommandResult } from './command.js';
import { createTestCluster, type TestCluster } from './database.js';
import { createPatient, type Patient } from './doctor-patient.js';
import { DeafLine, hasPgBouncer, PgBouncer } from './pooler.js';
import { unusedPort } from './relay.js';

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

describe('flagcast doctor', () => {
  const run = async (url: string, ...args: string[]): Promise<CommandResult> =>
    await runCommand(['doctor', ...args], { env: { DATABASE_URL: url } });

  it('ends with 0 where all is well, or only worth a warning, and with 1 for an error', async () => {
    const well = await run(patient.url);
    expect(well).toMatchObject({ code: 0, stderr: '' });
    expect(well.stdout).toMatch(
      /^127\.0\.0\.1:\d+\/test_\w+, as role reader_\w+\n\nok {2}connection +connected/,
    );
    expect(well.stdout).toMatch(/\n\nAll is well\.\n$/);

    await patient.run('DROP TRIGGER flagcast_wake ON audit_log');
    const warned = await run(patient.url);
    expect(warned).toMatchObject({ code: 0, stderr: '' });
    expect(warned.stdout).toMatch(
      /\nwarning {2}triggers +the trigger flagcast_wake is missing on public\.audit_log\n +so: .+\n +mend: \$ flagcast install /,
    );
    expect(warned.stdout).toMatch(/\n1 warning\.\n$/);

    await patient.run(`REVOKE SELECT ON features FROM ${patient.role}`);
    const failed = await run(patient.url);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(/\n1 error, 1 warning\.\nThe SQL is for [^\n]+\n$/);
  });

  it('--json tells all of it to programs', async () => {
    await patient.run(`REVOKE SELECT ON features FROM ${patient.role}`);
    const { code, stdout } = await run(patient.url, '--json');
    expect(code).toBe(1);
    const report = JSON.parse(stdout) as { database: string; role: string; findings: Finding[] };
    expect(report.role).toBe(patient.role);
    expect(report.findings.filter(({ level }) => level !== 'ok')).toEqual([
      {
        id: 'rights',
        level: 'error',
        what: `role ${patient.role} lacks SELECT ON TABLE public.features`,
        consequence:
          'flagcast serve fails where it needs that: the state of a feature in events and snapshots',
        mend: { kind: 'sql', text: `GRANT SELECT ON TABLE public.features TO "${patient.role}";` },
      },
    ]);
  });

  it.each([
    ['nobody listens', async (url: URL) => (url.port = String(await unusedPort())), /ECONNREFUSED/],
    ['the password is wrong', (url: URL) => (url.password = 'hunter3'), /28P01/],
    ['there is no such database', (url: URL) => (url.pathname = '/nowhere'), /3D000/],
  ])('says so where %s, without the password', async (_case, spoil, reason) => {
    const url = new URL(patient.url);
    await spoil(url);
    const { code, stdout, stderr } = await run(url.toString());
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toMatch(reason);
    expect(stdout).toMatch(/so: nothing else could be looked at\n +mend: .*--database-url/);
    expect(stdout).not.toContain('hunter');
  });

  it.skipIf(!hasTerminals)('has colours on a terminal, unless NO_COLOR says otherwise', async () => {
    const onTerminal = async (env: Record<string, string>): Promise<string> => {
      const command = new RunningCommand(['doctor'], {
        terminal: true,
        env: { DATABASE_URL: patient.url, ...env },
      });
      cleanUps.push(async () => await command.end());
      return (await command.ended).stdout;
    };
    expect(await onTerminal({})).toContain('\x1b[32mok\x1b[39m');
    expect(await onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b');
    expect((await run(patient.url)).stdout).not.toContain('\x1b');
  });
});

describe('LISTEN', () => {
  const listen = async (url: string, listenUrl: string | null = null): Promise<Finding> => {
    const client = await openSession({ databaseUrl: url, applicationName: 'test', queryTimeoutMs: 5_000 });
    try {
      const options = { databaseUrl: url, listenUrl, timeoutMs: 300 };
      const facts = await readFacts(client, { view: null, overlapMs: 60_000, authorizeSql: null });
      return await checkListen(client, facts, options);
    } finally {
      await client.end();
    }
  };

  it('is found wanting on a line that loses notifications, and well on the direct one', async () => {
    const line = await DeafLine.open(Number(new URL(patient.url).port));
    cleanUps.push(async () => await line.close());
    const url = new URL(patient.url);
    url.port = String(line.port);
    expect(await listen(url.toString())).toMatchObject({
      level: 'warning',
      mend: { kind: 'advice', text: expect.stringContaining('set FLAGCAST_LISTEN_URL') as string },
    });
    expect(await listen(patient.url)).toMatchObject({ level: 'ok' });
    expect(await listen(url.toString(), patient.url)).toMatchObject({
      level: 'ok',
      what: expect.stringContaining('FLAGCAST_LISTEN_URL') as string,
    });
    expect(await listen(patient.url, url.toString())).toMatchObject({
      level: 'warning',
      what: expect.stringContaining('FLAGCAST_LISTEN_URL hears nothing') as string,
    });
  });

  it('is found wanting where FLAGCAST_LISTEN_URL leads to another database, or nowhere, without the password', async () => {
    const url = new URL(patient.url);
    url.pathname = '/postgres';
    expect((await listen(patient.url, url.toString())).what).toMatch(/leads to another database/);
    url.pathname = '/nowhere';
    const { stdout } = await runCommand(['doctor'], {
      env: { DATABASE_URL: patient.url, FLAGCAST_LISTEN_URL: url.toString() },
    });
    expect(stdout).toMatch(/LISTEN by FLAGCAST_LISTEN_URL could not be tried \(.*3D000/);
    expect(stdout).not.toContain('hunter');
  });

  it.skipIf(!hasPgBouncer)(
    'through PgBouncer: not with transactions, but with sessions (skipped where pgbouncer is not on the PATH)',
    async () => {
      for (const [mode, level] of [
        ['transaction', 'warning'],
        ['session', 'ok'],
      ] as const) {
        const pooler = await PgBouncer.start(patient.url, { poolMode: mode });
        cleanUps.push(async () => await pooler.stop());
        expect({ mode, ...(await listen(pooler.url)) }).toMatchObject({ mode, level });
      }
    },
  );
});

describe('flagcast serve', () => {
  it('logs at its start what doctor would warn of', async () => {
    await patient.run(
      `DROP TRIGGER flagcast_wake ON audit_log; REVOKE pg_read_all_stats FROM ${patient.role}`,
    );
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: { DATABASE_URL: patient.url, FLAGCAST_JWT_SECRET: 'a secret for tests that is long enough' },
    });
    cleanUps.push(async () => await serve.end());
    const guarantee = await serve.logged('doctor_warning', ({ finding }) => finding === 'guarantee');
    expect(guarantee).toMatchObject({
      level: 'warn',
      what: expect.stringContaining('may not see since when the transactions of others are open') as string,
      mend: `GRANT pg_read_all_stats TO "${patient.role}";`,
    });
    await serve.logged('doctor_warning', ({ finding }) => finding === 'triggers');
    await serve.logged('reader_started');
    serve.signal('SIGTERM');
    const { code, stdout } = await serve.ended;
    expect(code).toBe(0);
    expect(stdout).not.toContain('hunter2');
  });
});

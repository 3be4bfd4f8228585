import { spawnSync } from 'node:child_process';
import { chmod, chown, rm } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findAccount } from '../../demo/src/embedded/embedded-account.js';
import { connectionSettings } from '../src/postgres/connection-settings.js';
import { createFlagcast } from '../src/flagcast.js';
import { runCommand, runHere } from './command.js';
import { createTestCluster, createTestFolder, type TestCluster, type TestDatabase } from './database.js';
import { createUser, nextEvent, startTestServer, testSecret } from './server.js';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
if (!hasOpenssl)
  process.stdout.write('database-tls: no openssl here, so TLS to the database is not tested\n');

async function makeCertificate(folder: string, file: string): Promise<void> {
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=database', '-addext', 'subjectAltName=DNS:localhost'],
    ...['-keyout', path.join(folder, `${file}.key`), '-out', path.join(folder, `${file}.pem`)],
  ]);
  expect(made.status).toBe(0);
  await chmod(path.join(folder, `${file}.key`), 0o600);
  const account = await findAccount();
  if (account !== null) await chown(path.join(folder, `${file}.key`), account.uid, account.gid);
}

describe.skipIf(!hasOpenssl)('with TLS to the database', () => {
  let folder: string;
  let cluster: TestCluster;
  let database: TestDatabase;
  /** The certificate of the server is for localhost, the URL has 127.0.0.1. */
  let url: string;
  const fileOf = (name: string): string => path.join(folder, `${name}.pem`);

  beforeAll(async () => {
    folder = await createTestFolder();
    for (const file of ['database', 'stranger']) await makeCertificate(folder, file);
    cluster = await createTestCluster({
      ssl: 'on',
      ssl_cert_file: fileOf('database'),
      ssl_key_file: path.join(folder, 'database.key'),
    });
    database = await cluster.createDatabase({ schema: 'tables' });
    url = database.url;
  });
  afterAll(async () => {
    await database.drop();
    await cluster.remove();
    await rm(folder, { recursive: true });
  });

  const withParameters = (parameters: string, to = url): string =>
    `${to}?${parameters.replaceAll(/=(\w+)\.pem/g, (_all, name: string) => `=${fileOf(name)}`)}`;

  it('every connection of a server is encrypted, and to a server of the authority that the URL names', async () => {
    const local = url.replace('127.0.0.1', 'localhost');
    const server = await startTestServer(
      withParameters('sslmode=verify-full&sslrootcert=database.pem', local),
      { database: { pollIntervalMs: 50 } },
    );
    // One session of the reader, and one that reads the rights of a user.
    const { token } = await createUser(database.pool, 'ann');
    const headers = { Authorization: `Bearer ${token}` };
    expect((await fetch(`${server.httpUrl}/api/projects`, { headers })).status).toBe(200);
    const { rows } = await database.pool.query<{ name: string; ssl: boolean }>(
      `SELECT application_name AS name, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
     WHERE application_name LIKE 'flagcast%'`,
    );
    expect(rows.length).toBeGreaterThanOrEqual(2);
    expect(rows.filter(({ ssl }) => !ssl)).toEqual([]);
    await server.close();

    const misled = createFlagcast({
      database: { url: withParameters('sslmode=verify-full&sslrootcert=stranger.pem', local) },
      auth: { secret: testSecret },
    });
    const failed = nextEvent(misled.lifecycle, 'reader:failed');
    void misled.ready();
    expect((await failed).error.message).toMatch(/self-signed certificate/);
    await misled.close();
  });

  /** Whether the connection is encrypted, or the reason why it failed. */
  async function connect(
    parameters: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    const client = new pg.Client(connectionSettings(withParameters(parameters), environment));
    try {
      await client.connect();
      const { rows } = await client.query<{ ssl: boolean }>(
        'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
      );
      return rows[0]?.ssl;
    } catch (error) {
      return error instanceof Error ? error.message : error;
    } finally {
      await client.end();
    }
  }

  it.each([
    { parameters: '', expected: false },
    { parameters: 'sslmode=disable&sslrootcert=system', expected: false },
    { parameters: 'sslmode=require', expected: true },
    { parameters: 'sslmode=no-verify', expected: true },
    { parameters: 'sslmode=require&sslnegotiation=direct', expected: true },
    { parameters: 'sslmode=require&sslrootcert=database.pem', expected: true },
    { parameters: 'sslmode=require&sslrootcert=stranger.pem', expected: /self-signed certificate/ },
    { parameters: 'sslmode=verify-ca&sslrootcert=database.pem', expected: true },
    { parameters: 'sslmode=verify-ca&sslrootcert=stranger.pem', expected: /self-signed certificate/ },
    {
      parameters: 'sslmode=verify-full&sslrootcert=database.pem',
      expected: /does not match certificate|IP: 127/,
    },
    { parameters: 'sslrootcert=database.pem', expected: /does not match certificate|IP: 127/ },
    { parameters: 'sslmode=verify-full', expected: /self-signed certificate/ },
    { parameters: 'sslmode=verify-full&sslrootcert=system', expected: /self-signed certificate/ },
    { parameters: 'sslrootcert=system', expected: /self-signed certificate/ },
  ])('a connection with "$parameters" is as in libpq: $expected', async ({ parameters, expected }) => {
    const result = await connect(parameters, {});
    if (expected instanceof RegExp) expect(result).toMatch(expected);
    else expect(result).toBe(expected);
  });

  it('the variables of libpq apply, and the URL takes precedence', async () => {
    expect(await connect('', { PGSSLMODE: 'require' })).toBe(true);
    expect(await connect('', { PGSSLMODE: 'verify-ca', PGSSLROOTCERT: fileOf('database') })).toBe(true);
    expect(await connect('', { PGSSLMODE: 'require', PGSSLROOTCERT: fileOf('stranger') })).toMatch(
      /self-signed/,
    );
    expect(
      await connect('sslmode=verify-ca&sslrootcert=database.pem', {
        PGSSLMODE: 'disable',
        PGSSLROOTCERT: fileOf('stranger'),
      }),
    ).toBe(true);
  });

  it.each([
    ['sslmode=prefer', 'sslmode=require'],
    ['sslmode=allow', 'sslmode=disable'],
    ['sslmode=verify_full', 'disable, require, verify-ca, verify-full'],
    ['sslmode=verify-ca', 'add sslrootcert'],
    ['sslmode=require&sslrootcert=system', 'write sslmode=verify-full'],
    ['sslrootcert=missing.pem', 'cannot be read (ENOENT'],
  ])('a command ends at once with one line for "%s"', async (parameters, fix) => {
    const { code, stderr } = await runHere(['doctor', '--database-url', withParameters(parameters)]);
    expect({ code, stderr }).toStrictEqual({ code: 1, stderr: expect.stringContaining(fix) as string });
    expect(stderr.trim()).not.toContain('\n');
  });

  it('a command reads PGSSLROOTCERT, and trusts the authorities of Node with sslrootcert=system', async () => {
    const local = url.replace('127.0.0.1', 'localhost');
    const doctor = async (parameters: string, env: Readonly<Record<string, string>>): Promise<string> => {
      const { stdout, stderr } = await runCommand(
        ['doctor', '--database-url', withParameters(parameters, local)],
        { env },
      );
      return stdout + stderr;
    };
    const refused = /self-signed certificate/;
    expect(await doctor('sslmode=verify-full', { PGSSLROOTCERT: fileOf('database') })).not.toMatch(refused);
    expect(await doctor('sslmode=verify-full', { PGSSLROOTCERT: fileOf('stranger') })).toMatch(refused);
    expect(await doctor('sslrootcert=system', { NODE_EXTRA_CA_CERTS: fileOf('database') })).not.toMatch(
      refused,
    );
    expect(await doctor('sslrootcert=system', {})).toMatch(refused);
  });
});

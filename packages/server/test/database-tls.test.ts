import { spawnSync } from 'node:child_process';
import { chmod, chown, rm } from 'node:fs/promises';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { findAccount } from '../../demo/src/embedded/embedded-account.js';
import { createFlagcast } from '../src/flagcast.js';
import { createTestCluster, createTestFolder } from './database.js';
import { nextEvent, startTestServer, testSecret } from './server.js';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
if (!hasOpenssl)
  process.stdout.write('database-tls: no openssl here, so TLS to the database is not tested\n');

async function makeCertificate(folder: string, file: string): Promise<void> {
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=database', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    ...['-keyout', path.join(folder, `${file}.key`), '-out', path.join(folder, `${file}.pem`)],
  ]);
  expect(made.status).toBe(0);
  await chmod(path.join(folder, `${file}.key`), 0o600);
  const account = await findAccount();
  if (account !== null) await chown(path.join(folder, `${file}.key`), account.uid, account.gid);
}

it.skipIf(!hasOpenssl)(
  'every connection to the database is over TLS, with the authority that the URL names',
  async () => {
    const folder = await createTestFolder();
    onTestFinished(async () => await rm(folder, { recursive: true }));
    for (const file of ['database', 'stranger']) await makeCertificate(folder, file);
    const cluster = await createTestCluster({
      ssl: 'on',
      ssl_cert_file: path.join(folder, 'database.pem'),
      ssl_key_file: path.join(folder, 'database.key'),
    });
    onTestFinished(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    const withAuthority = (file: string): string =>
      `${database.url}?sslmode=verify-full&sslrootcert=${path.join(folder, `${file}.pem`)}`;

    const server = await startTestServer(withAuthority('database'), { pollIntervalMs: 50 });
    expect(await (await fetch(`${server.httpUrl}/readyz`)).json()).toEqual({ status: 'ready' });
    const { rows } = await database.pool.query<{ name: string; ssl: boolean }>(
      `SELECT application_name AS name, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
     WHERE application_name LIKE 'flagcast%'`,
    );
    expect(rows.length).toBeGreaterThanOrEqual(2);
    expect(rows.filter(({ ssl }) => !ssl)).toEqual([]);
    await server.close();

    const misled = createFlagcast({ databaseUrl: withAuthority('stranger'), auth: { secret: testSecret } });
    const failed = nextEvent(misled.lifecycle, 'reader:failed');
    misled.start();
    expect((await failed).error.message).toMatch(/self-signed certificate/);
    await misled.close();
    await database.drop();
  },
);

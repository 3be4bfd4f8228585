import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { parseRelayUrl } from '../../server/src/cli/setting-parsers.js';
import { RunningCommand } from '../../server/test/command.js';
import { createTestDatabase, insertAudit, seedProject } from '../../server/test/database.js';
import { hasNatsServer, startNats } from '../../../testing/testkit/nats-server.ts';
import { PlainClient } from '../../server/test/plain-client.js';
import { createUser, testSecret } from '../../server/test/server.js';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
if (!hasOpenssl) process.stdout.write('relay-tls: no openssl here, so TLS to NATS is not tested\n');

it.skipIf(!hasNatsServer || !hasOpenssl)(
  'servers that trust the certificate authority connect to NATS over TLS; the others report the error and read for themselves',
  async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'flagcast-relay-tls-'));
    onTestFinished(async () => await rm(folder, { recursive: true }));
    const [certFile, keyFile] = [path.join(folder, 'nats.pem'), path.join(folder, 'nats.key')];
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '2', '-subj', '/CN=nats', '-addext', 'subjectAltName=DNS:localhost'],
      ...['-keyout', keyFile, '-out', certFile],
    ]);
    expect(made.status).toBe(0);
    const nats = await startNats({ certificate: { certFile, keyFile } });
    onTestFinished(async () => await nats.remove());
    const database = await createTestDatabase({ schema: 'tables' });
    onTestFinished(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const { token } = await createUser(database.pool, 'viewer', { superuser: true });

    const serve = (env: Readonly<Record<string, string>>): RunningCommand => {
      const command = new RunningCommand(['serve', '--port', '0', '--poll-interval', '100ms'], {
        env: {
          DATABASE_URL: database.url,
          FLAGCAST_JWT_SECRET: testSecret,
          FLAGCAST_RELAY_URL: nats.url,
          ...env,
        },
      });
      onTestFinished(async () => await command.end());
      return command;
    };
    const reader = serve({ NODE_EXTRA_CA_CERTS: certFile });
    await reader.logged('relay_elected');
    // The server does not require TLS, but NATS does.
    const follower = serve({
      NODE_EXTRA_CA_CERTS: certFile,
      FLAGCAST_RELAY_URL: nats.url.replace('tls:', 'nats:'),
    });
    const stranger = serve({});
    const [, { error }] = await Promise.all([
      follower.logged('relay_following'),
      stranger.logged('relay_lost'),
    ]);
    // The text in brackets depends on the version of Node.
    expect(error).toMatch(
      /^DEPTH_ZERO_SELF_SIGNED_CERT: the certificate of NATS is not accepted \(self-signed certificate.*\): set NODE_EXTRA_CA_CERTS to its certificate authority, and use the host name of the certificate$/,
    );

    const clients: PlainClient[] = [];
    for (const command of [reader, follower, stranger]) {
      const { url } = await command.logged('server_listening');
      const wsUrl = `${String(url).replace('http', 'ws')}/api/ws`;
      clients.push(await PlainClient.connect(wsUrl, { project_id: projectId, env: 'prod' }, { token }));
    }
    const { entityId } = await insertAudit(database.pool, { projectId, environmentId: environments.prod });
    for (const client of clients) {
      await client.received((message) => message.entity_id === entityId);
      await client.close();
    }
    for (const command of [reader, follower]) expect(command.stdout).not.toContain('relay_direct');
    expect(stranger.stdout.split('relay_lost')).toHaveLength(2);
    expect(stranger.stdout).not.toContain('relay_connected');
    expect(stranger.stdout).not.toContain('secret@');
  },
);

it('an address with tls:// has a host name, because certificates are checked by name', () => {
  expect(parseRelayUrl('tls://nats.example.com').servers).toEqual(['nats.example.com:4222']);
  for (const url of ['tls://192.0.2.1:4222', 'tls://nats.example.com,tls://[2001:db8::1]']) {
    expect(() => parseRelayUrl(url)).toThrow('write the names of the NATS servers');
  }
});

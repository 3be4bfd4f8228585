import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { hasIoUring } from './io-uring-here.js';
import { PlainClient } from './plain-client.js';
import { createUser, startTestServer, testSecret, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let token: string;
let channel: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
});

afterAll(async () => await database.drop());

/** That all clients of a server get each event, in order. */
async function expectEvents(wsUrl: string): Promise<void> {
  const query = { project_id: channel.projectId, env_id: channel.environmentId };
  const connect = async (): Promise<PlainClient> => await PlainClient.connect(wsUrl, query, { token });
  const plain = await Promise.all([connect(), connect(), connect()]);
  const session = await V1Client.connect(wsUrl, { token, query });
  await session.message((message) => 'type' in message && message.type === 'caught_up');

  const written: string[] = [];
  for (let count = 0; count < 3; count += 1) {
    written.push((await insertAudit(database.pool, channel)).entityId);
  }
  const last = written.at(-1) ?? '';
  await session.event(last);
  await Promise.all(plain.map(async (client) => await client.received((each) => each.entity_id === last)));
  for (const { messages } of plain) expect(messages.map((each) => each.entity_id)).toEqual(written);
  expect(session.events.map((each) => each.entity_id)).toEqual(written);
}

async function fanOutWith(options: { ioUring?: boolean }): Promise<TestServer['fanOut']> {
  const server = await startTestServer(database.url, { pollIntervalMs: 50, ...options });
  onTestFinished(async () => await server.close());
  await expectEvents(server.wsUrl);
  return server.fanOut;
}

describe('a server says how it writes to its clients, and writes to them:', () => {
  it.skipIf(!hasIoUring)('to many in one system call', async () => {
    expect(await fanOutWith({})).toEqual({ by: 'io_uring', reason: null });
  });

  it('to each by itself, where that is asked for', async () => {
    expect(await fanOutWith({ ioUring: false })).toEqual({ by: 'write', reason: 'it is switched off' });
  });

  it.skipIf(!hasIoUring)('to each by itself, where a seccomp filter refuses the other', async () => {
    const serve = new RunningCommand(['serve', '--port', '0', '--poll-interval', '50ms'], {
      env: {
        DATABASE_URL: database.url,
        FLAGCAST_JWT_SECRET: testSecret,
        NODE_OPTIONS: `--import=${new URL('refuse-io-uring.js', import.meta.url).href}`,
      },
    });
    onTestFinished(async () => await serve.end());
    const { url } = await serve.logged('server_listening');
    expect(await serve.logged('fan_out_chosen')).toMatchObject({
      by: 'write',
      reason: 'the kernel refuses io_uring (errno 1)',
    });
    await serve.logged('reader_started');
    await expectEvents(`${String(url).replace('http', 'ws')}/api/ws`);
    serve.signal('SIGTERM');
    expect(await serve.ended).toMatchObject({ code: 0, stderr: '' });
  });
});

import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ioUring } from '../../io-uring/src/index.js';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { hasIoUring } from './io-uring-here.js';
import { PlainClient } from './plain-client.js';
import { createUser, startTestServer, testSecret } from './server.js';
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

/** All clients of a server receive each event, in order: enough of them for io_uring. */
async function expectEvents(wsUrl: string): Promise<void> {
  const query = { project_id: channel.projectId, env_id: channel.environmentId };
  const plain = await Promise.all(
    Array.from({ length: 70 }, async () => await PlainClient.connect(wsUrl, query, { token })),
  );
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

describe('createFlagcast', () => {
  it.runIf(hasIoUring)('writes with the socketWriter it is given, and logs its name', async () => {
    const server = await startTestServer(database.url, {
      database: { pollIntervalMs: 50 },
      socketWriter: ioUring,
    });
    onTestFinished(async () => await server.close());
    expect(server.socketWriter).toEqual({ writer: 'io_uring', reason: null });
    await expectEvents(server.wsUrl);
  });

  it('writes to each connection by itself without a socketWriter', async () => {
    const server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
    onTestFinished(async () => await server.close());
    expect(server.socketWriter).toEqual({ writer: 'plain', reason: 'no socketWriter is set' });
    await expectEvents(server.wsUrl);
  });
});

describe('serve', () => {
  it.runIf(hasIoUring)(
    'logs the reason and writes to each connection by itself where a seccomp filter forbids io_uring',
    async () => {
      const serve = new RunningCommand(['serve', '--port', '0', '--poll-interval', '50ms'], {
        env: {
          DATABASE_URL: database.url,
          FLAGCAST_JWT_SECRET: testSecret,
          NODE_OPTIONS: `--import=${new URL('refuse-io-uring.js', import.meta.url).href}`,
        },
      });
      onTestFinished(async () => await serve.end());
      const { url } = await serve.logged('server_listening');
      expect(await serve.logged('socket_writer_chosen')).toMatchObject({
        writer: 'plain',
        reason: 'the kernel refuses io_uring (errno 1)',
      });
      await serve.logged('reader_started');
      await expectEvents(`${String(url).replace('http', 'ws')}/api/ws`);
      serve.signal('SIGTERM');
      expect(await serve.ended).toMatchObject({ code: 0, stderr: '' });
    },
  );
});

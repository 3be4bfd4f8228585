import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { hasIoUring } from './io-uring-here.js';
import { PlainClient } from './plain-client.js';
import { createUser, startTestServer, type TestServer } from './server.js';
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

/** How a server with this option writes to its clients, all of which get each event, in order. */
async function fanOutWith(options: { ioUring?: boolean }): Promise<TestServer['fanOut']> {
  const server = await startTestServer(database.url, { pollIntervalMs: 50, ...options });
  onTestFinished(async () => await server.close());
  const query = { project_id: channel.projectId, env_id: channel.environmentId };
  const connect = async (): Promise<PlainClient> => await PlainClient.connect(server.wsUrl, query, { token });
  const plain = await Promise.all([connect(), connect(), connect()]);
  const session = await V1Client.connect(server.wsUrl, { token, query });
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
  return server.fanOut;
}

describe('a server says how it writes to its clients, and writes to them:', () => {
  it.skipIf(!hasIoUring)('to many in one system call', async () => {
    expect(await fanOutWith({})).toEqual({ by: 'io_uring', reason: null });
  });

  it('to each by itself, where that is asked for', async () => {
    expect(await fanOutWith({ ioUring: false })).toEqual({ by: 'write', reason: 'it is switched off' });
  });
});

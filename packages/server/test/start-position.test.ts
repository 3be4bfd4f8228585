import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CloseCode } from '@flagcast/protocol';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { createFlagcast } from '../src/flagcast.js';
import type { Flagcast, FlagcastOptions } from '../src/flagcast-options.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { PlainClient, Refused } from './plain-client.js';
import { createUser, nextEvent, testSecret } from './server.js';
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

/** A server that listens, and has not begun to read. */
async function listen(
  options: Partial<FlagcastOptions> = {},
): Promise<{ flagcast: Flagcast; wsUrl: string }> {
  const flagcast = createFlagcast({
    database: { url: database.url },
    auth: { secret: testSecret },
    ...options,
  });
  const http = createServer(flagcast.requestListener);
  flagcast.attach(http);
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  onTestFinished(async () => {
    await flagcast.close();
    http.closeAllConnections();
    http.close();
  });
  return { flagcast, wsUrl: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/api/ws` };
}

async function connectPlain(wsUrl: string): Promise<PlainClient> {
  const { projectId, environmentId } = channel;
  return await PlainClient.connect(wsUrl, { project_id: projectId, env_id: environmentId }, { token });
}

it('a server refuses connections before its first read, because it does not deliver events that were committed before', async () => {
  const { wsUrl } = await listen({ timeouts: { handshakeTimeoutMs: 200 } });
  const refused: unknown = await connectPlain(wsUrl).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect(refused).toMatchObject({ status: 503 });
  const client = await V1Client.connect(wsUrl, { token });
  expect(await client.closed).toMatchObject({ code: CloseCode.unavailable });
});

it('a server accepts connections that wait for its first read, and delivers everything committed after it', async () => {
  const { flagcast, wsUrl } = await listen();
  const order: string[] = [];
  const started = nextEvent(flagcast.lifecycle, 'reader:started').then(() => order.push('read'));
  const arriving = Promise.all([connectPlain(wsUrl), V1Client.connect(wsUrl, { token })]);
  const joined = arriving.then(() => order.push('joined'));
  void flagcast.ready();
  await Promise.all([started, joined]);
  expect(order).toEqual(['read', 'joined']);
  const [plain, v1] = await arriving;
  await v1.caughtUp(channel);
  const { entityId } = await insertAudit(database.pool, channel);
  await Promise.all([plain.received(({ entity_id }) => entity_id === entityId), v1.event(entityId)]);
  plain.socket.terminate();
  v1.socket.terminate();
});

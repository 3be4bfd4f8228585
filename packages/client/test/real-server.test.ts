import { randomUUID } from 'node:crypto';
import { afterEach, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
} from '../../server/test/database.js';
import { createUser, startTestServer, type TestServer } from '../../server/test/server.js';
import { createClient, type Client, type WebSocketClass } from '../src/index.js';
import { type Tab, TestBrowser } from './tabs.js';
import { until, untilStatus } from './watching.js';

let database: TestDatabase;
let server: TestServer;
let client: Client;
afterEach(async () => {
  client.close();
  await server.close();
  await database.drop();
});

const noWebSocket = function () {
  throw new Error('no WebSockets here');
} as unknown as WebSocketClass;

it.each(['WebSocket', 'server-sent events'])('%s: the store follows the database', async (way) => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  const { projectId, environments } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  client = createClient({
    url: server.httpUrl,
    getToken: () => token,
    WebSocket: way === 'WebSocket' ? WebSocket : noWebSocket,
  });
  const channel = client.channel({ projectId, env: 'prod' });
  await untilStatus(channel, 'live');
  const { rows } = await database.pool.query<{ id: string }>(
    `INSERT INTO features (id, project_id, key, name, kind)
     VALUES (gen_random_uuid(), $1, 'a', 'A', 'simple') RETURNING id::text`,
    [projectId],
  );
  const featureId = String(rows[0]?.id);
  const audited = { projectId, environmentId: environments['prod'], featureId, entityId: featureId };
  await insertAudit(database.pool, { ...audited, action: 'create' });
  const added = await until(channel, ({ features }) => features.has(featureId));
  expect(added.features.get(featureId)).toMatchObject({ key: 'a', enabled: false });
  expect(added.lagMs).toBeLessThan(10_000);
  await database.pool.query('UPDATE feature_params SET enabled = true WHERE feature_id = $1', [featureId]);
  await insertAudit(database.pool, { ...audited, entity: 'rule', entityId: randomUUID(), action: 'create' });
  await until(channel, ({ features }) => features.get(featureId)?.enabled === true);
  await database.pool.query('DELETE FROM features WHERE id = $1', [featureId]);
  await insertAudit(database.pool, { ...audited, action: 'delete' });
  await until(channel, ({ features }) => !features.has(featureId));
  expect(channel.getState().activity.map(({ type }) => type)).toEqual([
    'feature_deleted',
    'rule_created',
    'feature_created',
  ]);
});

it('tabs: a succession in the middle of writing loses nothing and repeats nothing', async () => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  const { projectId, environments } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const browser = new TestBrowser();
  const open = { url: server.httpUrl, getToken: () => token, onError: () => undefined };
  const tabs = [browser.open(open), browser.open(open), browser.open(open)];
  client = (tabs[2] as Tab).client;
  const channels = tabs.map((tab) => tab.client.channel({ projectId, env: 'prod' }));
  await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
  const ids: string[] = [];
  channels[2]?.onEvent(({ entity_id }) => ids.push(entity_id));
  const written: string[] = [];
  for (let index = 0; index < 60; index += 1) {
    const entityId = randomUUID();
    const audited = { projectId, environmentId: environments['prod'], featureId: randomUUID(), entityId };
    await insertAudit(database.pool, { ...audited, entity: 'rule', action: 'update' });
    written.push(entityId);
    if (index === 20) tabs[0]?.client.close();
    if (index === 40) tabs[1]?.crash();
  }
  await vi.waitFor(() => expect(ids).toHaveLength(written.length), 20_000);
  expect([...ids].sort()).toEqual([...written].sort());
  browser.close();
});

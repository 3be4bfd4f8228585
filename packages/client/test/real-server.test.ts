import { randomUUID } from 'node:crypto';
import { afterEach, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import {
  createTestDatabase,
  decideRequest,
  insertAudit,
  insertRequest,
  seedProject,
  type TestDatabase,
  withClient,
} from '../../server/test/database.js';
import { addMember, createUser, startTestServer, type TestServer } from '../../server/test/server.js';
import { approvals } from '../src/approvals/index.js';
import { type Channel, createClient, type Client, type WebSocketClass } from '../src/index.js';
import { type Tab, TestBrowser } from './unit/test-browser.js';
import { until, untilConnection, untilStatus } from './unit/client-fixture.js';

let database: TestDatabase;
let server: TestServer;
let client: Client;
afterEach(async () => {
  client.close();
  await server.close();
  await database.drop();
});

const noWebSocket = function () {
  throw new Error('WebSockets are not available');
} as unknown as WebSocketClass;

it.each(['WebSocket', 'server-sent events'])('%s: the store follows the database', async (transport) => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  const { projectId, environments } = await seedProject(database.pool);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  client = createClient({
    url: server.httpUrl,
    getToken: () => token,
    WebSocket: transport === 'WebSocket' ? WebSocket : noWebSocket,
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
  const beforeMs = Date.now();
  await insertAudit(database.pool, { ...audited, action: 'create' });
  const added = await until(channel, ({ features }) => features.has(featureId));
  expect(added.features.get(featureId)).toMatchObject({ key: 'a', enabled: false });
  expect(added.lagMs).toBeLessThanOrEqual(Date.now() - beforeMs);
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

it.each(['WebSocket', 'server-sent events'])(
  '%s: channels follow environments that swap their keys, and close when these are deleted',
  async (transport) => {
    database = await createTestDatabase({ schema: 'tables' });
    server = await startTestServer(database.url);
    const { projectId, environments } = await seedProject(database.pool);
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
    client = createClient({
      url: server.httpUrl,
      lingerMs: 0,
      getToken: () => token,
      WebSocket: transport === 'WebSocket' ? WebSocket : noWebSocket,
      onError: () => undefined,
    });
    const keys = ['prod', 'stage'] as const;
    const [prod, stage] = keys.map((env) => client.channel({ projectId, env })) as [Channel, Channel];
    await Promise.all([untilStatus(prod, 'live'), untilStatus(stage, 'live')]);
    const rename = `UPDATE environments SET key = $2 WHERE id = $1`;
    await withClient(database.url, async (connection) => {
      await connection.query('BEGIN');
      await connection.query(rename, [environments.prod, 'swapping']);
      await connection.query(rename, [environments.stage, 'prod']);
      await connection.query(rename, [environments.prod, 'stage']);
      await connection.query('COMMIT');
    });
    await until(prod, ({ environment }) => environment === 'stage');
    await until(stage, ({ environment }) => environment === 'prod');
    const audited = { projectId, featureId: randomUUID(), entity: 'rule', action: 'update' };
    const first = await insertAudit(database.pool, { ...audited, environmentId: environments.prod });
    const second = await insertAudit(database.pool, { ...audited, environmentId: environments.stage });
    await until(prod, ({ lastEvent }) => lastEvent?.entity_id === first.entityId);
    await until(stage, ({ lastEvent }) => lastEvent?.entity_id === second.entityId);
    expect([prod, stage].map((channel) => channel.getState().activity.length)).toEqual([1, 1]);

    // The key is resolved again: the channel belongs to the environment that has the key now.
    const again = client.channel({ projectId, env: 'prod' });
    expect((await untilStatus(again, 'live')).environment).toBe('prod');
    const third = await insertAudit(database.pool, { ...audited, environmentId: environments.stage });
    for (const channel of [stage, again]) {
      await until(channel, ({ lastEvent }) => lastEvent?.entity_id === third.entityId);
    }

    await database.pool.query('DELETE FROM environments WHERE id = $1', [environments.prod]);
    const { status } = await untilStatus(prod, 'closed');
    expect(status.state === 'closed' && status.error?.code).toBe('environment_deleted');
    expect(again.getState().status).toEqual({ state: 'live' });
    await database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [projectId]);
    for (const channel of [stage, again]) {
      const ended = await untilStatus(channel, 'closed');
      expect(ended.status.state === 'closed' && ended.status.error?.code).toBe('project_archived');
    }
    await untilConnection(client, 'idle');
  },
);

it.each(['WebSocket', 'server-sent events'])(
  '%s: a channel is stale while the server cannot read the database',
  async (transport) => {
    database = await createTestDatabase({ schema: 'tables' });
    server = await startTestServer(database.url, {
      database: { pollIntervalMs: 50 },
      timeouts: { readinessGraceMs: 500 },
    });
    const { projectId } = await seedProject(database.pool);
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
    client = createClient({
      url: server.httpUrl,
      lingerMs: 0,
      getToken: () => token,
      WebSocket: transport === 'WebSocket' ? WebSocket : noWebSocket,
    });
    const channel = client.channel({ projectId, env: 'prod' });
    await untilStatus(channel, 'live');
    await withClient(database.url, async (connection) => {
      await connection.query('BEGIN');
      await connection.query('LOCK TABLE flagcast.event_log');
      const { status } = await untilStatus(channel, 'stale');
      expect(status.state === 'stale' && status.reason).toMatch(/^read_/);
      expect(status.state === 'stale' && status.sinceMs).toBeLessThanOrEqual(Date.now());
      await connection.query('COMMIT');
    });
    await untilStatus(channel, 'live');
  },
);

it.each(['WebSocket', 'server-sent events'])(
  '%s: the approvals feed follows the requests of all environments, and the rights of the user',
  async (transport) => {
    database = await createTestDatabase({ schema: 'tables' });
    server = await startTestServer(database.url);
    const [first, second] = [await seedProject(database.pool), await seedProject(database.pool)];
    const root = await createUser(database.pool, 'root', { superuser: true });
    const ann = await createUser(database.pool, 'ann', { ttlMs: 600_000 });
    await addMember(database.pool, first.projectId, ann.id, 'project_viewer');
    const request = async (
      { projectId, environments }: typeof first,
      env: 'prod' | 'dev',
    ): Promise<string> => {
      const environmentId = environments[env];
      return (await insertRequest(database.pool, { projectId, environmentId, requestedBy: root })).id;
    };
    const [open, foreign] = [await request(first, 'prod'), await request(second, 'prod')];
    let requests = 0;
    client = createClient({
      url: server.httpUrl,
      lingerMs: 0,
      getToken: () => ann.token,
      WebSocket: transport === 'WebSocket' ? WebSocket : noWebSocket,
      fetch: (async (address: string, init) => {
        if (address.includes('/snapshot')) requests += 1;
        return await fetch(address, init);
      }) as typeof fetch,
      onError: () => undefined,
    });
    const feed = approvals(client);
    await until(feed, ({ status }) => status.state === 'live');
    expect([...feed.getState().open.keys()]).toEqual([open]);
    const inDev = await request(first, 'dev');
    await until(feed, (state) => state.open.has(inDev));
    await decideRequest(database.pool, open, 'rejected');
    const { decided } = await until(feed, (state) => state.decided.has(open));
    expect(decided.get(open)).toMatchObject({ decided_by: 'root', decision_reason: 'not on Fridays' });
    expect(requests).toBe(1);
    await addMember(database.pool, second.projectId, ann.id, 'project_viewer');
    await until(feed, ({ open: all, status }) => all.has(foreign) && status.state === 'live');
    await database.pool.query('DELETE FROM memberships WHERE project_id = $1', [second.projectId]);
    await until(feed, (state) => !state.open.has(foreign));
    await until(feed, ({ status }) => status.state === 'live');
    feed.close();
    await until(feed, ({ status }) => status.state === 'closed');
  },
);

it('shared tabs: a change of the leader during writes loses and repeats no event', async () => {
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
  await vi.waitFor(() => expect(ids).toHaveLength(written.length), 60_000);
  expect([...ids].sort()).toEqual([...written].sort());
  browser.close();
});

it('two clients with seven channels each become live although a user may load only two snapshots at a time', async () => {
  database = await createTestDatabase({ schema: 'tables' });
  server = await startTestServer(database.url);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const projects = await Promise.all(
    Array.from({ length: 7 }, async () => (await seedProject(database.pool)).projectId),
  );
  const connect = (): Client =>
    createClient({ url: server.httpUrl, getToken: () => token, WebSocket, onError: () => undefined });
  client = connect();
  const other = connect();
  const channels = [client, other].flatMap((each) =>
    projects.map((projectId) => each.channel({ projectId, env: 'prod' })),
  );
  await Promise.all(channels.map(async (channel) => await untilStatus(channel, 'live')));
  other.close();
});

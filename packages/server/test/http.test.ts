import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLoggedFlagcast } from '../src/cli/server.js';
import { loadConfig } from '../src/cli/config.js';
import { createFlagcast } from '../src/flagcast.js';
import { createLogger } from '../src/operations/log.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { V1Client } from './v1-client.js';
import { scrape } from './scrape.js';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  testSecret,
  type TestUser,
} from './server.js';

let database: TestDatabase;
let server: TestServer;
/** The server's way to the database. */
let relay: FaultyProxy;
let shop: SeededProject;
let billing: SeededProject;
let root: TestUser;
let alice: TestUser;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { pool } = database;
  shop = await seedProject(pool, { name: 'shop' });
  billing = await seedProject(pool, { name: 'billing' });
  const archived = await seedProject(pool, { name: 'archived' });
  await pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [archived.projectId]);
  root = await createUser(pool, 'root', { superuser: true, ttlMs: 600_000 });
  alice = await createUser(pool, 'alice', { ttlMs: 600_000 });
  await addMember(pool, shop.projectId, alice.id, 'project_viewer');
  const url = new URL(database.url);
  relay = await FaultyProxy.open([Number(url.port)]);
  url.port = String(relay.port);
  server = await startTestServer(url.toString(), {
    database: { pollIntervalMs: 50 },
    timeouts: { readinessGraceMs: 2_000 },
  });
});

afterAll(async () => {
  await server.close();
  await relay.close();
  await database.drop();
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

async function ask(path: string, init: RequestInit = {}, httpUrl = server.httpUrl): Promise<Answer> {
  const response = await fetch(`${httpUrl}${path}`, { ...init, signal: AbortSignal.timeout(60_000) });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

function as({ token }: TestUser): RequestInit {
  return { headers: { Authorization: `Bearer ${token}` } };
}

describe('/healthz and /readyz', () => {
  it('report a server that serves', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: { status: 'ok' } });
    // On a busy machine a read may take longer than the short grace of this test.
    await expect
      .poll(async () => await ask('/readyz'))
      .toMatchObject({ status: 200, body: { status: 'ready' } });
  });

  it('report when the database is unavailable, and when it is back', async () => {
    const { port } = relay;
    await relay.close();
    const reason = expect.stringMatching(/^stale since \d{4}-\S+Z: the database does not answer$/) as string;
    await expect
      .poll(async () => await ask('/readyz'))
      .toMatchObject({ status: 503, body: { status: 'not ready', reason } });
    // It is alive: a restart would not help.
    expect(await ask('/healthz')).toMatchObject({ status: 200 });
    const unavailable = await ask('/api/projects', as(alice));
    expect(unavailable).toMatchObject({ status: 503, body: { code: 'unavailable' } });
    expect(unavailable.headers.get('retry-after')).toBe('2');

    const recovered = nextEvent(server.flagcast.lifecycle, 'reader:recovered');
    relay = await FaultyProxy.open([Number(new URL(database.url).port)], { port });
    await recovered;
    expect(await ask('/readyz')).toMatchObject({ status: 200 });
    expect(await ask('/api/projects', as(alice))).toMatchObject({ status: 200 });
  });

  it('report a server before its first read, and one that shuts down', async () => {
    const flagcast = createFlagcast({ database: { url: database.url }, auth: { secret: testSecret } });
    const http: Server = createServer(flagcast.requestListener).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const ready = async (): Promise<unknown> => (await ask('/readyz', {}, url)).body;
    expect(await ready()).toStrictEqual({
      status: 'not ready',
      reason: 'the database has not been read yet',
    });
    const started = nextEvent(flagcast.lifecycle, 'reader:started');
    void flagcast.ready();
    await started;
    expect(await ready()).toStrictEqual({ status: 'ready' });
    const closing = flagcast.close();
    expect(await ready()).toStrictEqual({ status: 'not ready', reason: 'draining' });
    await closing;
    expect(await ask('/readyz', {}, url)).toMatchObject({ status: 503 });
    expect(await ask('/healthz', {}, url)).toMatchObject({ status: 200 });
    http.closeAllConnections();
    http.close();
  });

  it('report an unavailable database after FLAGCAST_READY_GRACE', async () => {
    const way = await FaultyProxy.open([Number(new URL(database.url).port)]);
    const url = new URL(database.url);
    url.port = String(way.port);
    const environment = {
      DATABASE_URL: url.toString(),
      FLAGCAST_JWT_SECRET: testSecret,
      FLAGCAST_POLL_INTERVAL: '50ms',
      FLAGCAST_READY_GRACE: '1s',
    };
    const settings = loadConfig(environment, {});
    const flagcast = await createLoggedFlagcast(
      { ...settings, databaseUrl: url.toString(), auth: { secret: testSecret }, demoUsers: [] },
      { logger: createLogger({ human: false, output: { write: () => undefined } }) },
    );
    const http: Server = createServer(flagcast.requestListener).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const started = nextEvent(flagcast.lifecycle, 'reader:started');
    void flagcast.ready();
    await started;
    await way.close();
    const httpUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    // Less than the default.
    await expect.poll(async () => (await ask('/readyz', {}, httpUrl)).status).toBe(503);
    await flagcast.close();
    http.closeAllConnections();
    http.close();
  });

  it('do not report an outage during a long poll interval', async () => {
    const patient = await startTestServer(database.url, {
      database: { pollIntervalMs: 60_000 },
      timeouts: { readinessGraceMs: 100, heartbeatIntervalMs: 100 },
    });
    const client = await V1Client.connect(patient.wsUrl, { token: root.token });
    for (let beats = 0; beats < 4; beats += 1) await client.control('heartbeat', client.messages.length);
    expect(await ask('/readyz', {}, patient.httpUrl)).toMatchObject({ status: 200 });
    await client.close();
    await patient.close();
  });
});

describe('/metrics', () => {
  it('counts events, and has no user names', async () => {
    const beforeS = Math.floor(Date.now() / 1_000);
    const before = await scrape(server.httpUrl);
    const client = await PlainClient.connect(
      server.wsUrl,
      { project_id: shop.projectId, env: 'prod' },
      { token: alice.token },
    );
    const { entityId } = await insertAudit(database.pool, {
      projectId: shop.projectId,
      environmentId: shop.environments.prod,
    });
    await client.received(({ entity_id: id }) => id === entityId);
    await handshake(server.wsUrl, `project_id=${shop.projectId}&env=prod`);
    const during = await scrape(server.httpUrl);
    const grown = (name: string): number => (during.get(name) ?? 0) - (before.get(name) ?? 0);
    expect(during.get('flagcast_connections')).toBe(1);
    expect(grown('flagcast_events_total')).toBe(1);
    expect(grown('flagcast_deliveries_total')).toBe(1);
    expect(grown('flagcast_connections_refused_total{code="token_missing"}')).toBe(1);
    // A notification may have caused the read that found the event; the next poll is a second away at most.
    const polls = 'flagcast_reads_total{trigger="poll"}';
    await expect
      .poll(async () => (await scrape(server.httpUrl)).get(polls) ?? 0)
      .toBeGreaterThan(before.get(polls) ?? 0);
    expect((await scrape(server.httpUrl)).get('flagcast_read_seconds_count')).toBeGreaterThan(
      before.get('flagcast_read_seconds_count') ?? 0,
    );
    for (const name of [
      'flagcast_read_failures_total',
      'flagcast_listen_failures_total',
      'flagcast_stale_seconds',
      'flagcast_read_pages_failed_total',
      'flagcast_log_rows_pruned_total',
      'flagcast_remembered_events',
      'flagcast_event_loop_delay_seconds{statistic="p99"}',
    ]) {
      expect(during.get(name)).toBeGreaterThanOrEqual(0);
    }
    expect(during.get('flagcast_last_read_timestamp_seconds')).toBeGreaterThanOrEqual(beforeS);
    expect(during.get('flagcast_last_read_timestamp_seconds')).toBeLessThanOrEqual(Date.now() / 1_000);

    // A peer chooses its own close code: it must not make a series of each.
    for (const code of [1000, 3999, 4999]) {
      const closed = nextEvent(server.flagcast.lifecycle, 'connection:closed');
      const other = await PlainClient.connect(
        server.wsUrl,
        { project_id: shop.projectId, env: 'prod' },
        { token: alice.token },
      );
      other.socket.close(code);
      await closed;
    }
    const after = await scrape(server.httpUrl);
    expect(after.get('flagcast_connections_closed_total{code="1000"}')).toBeGreaterThanOrEqual(1);
    expect(after.get('flagcast_connections_closed_total{code="other"}')).toBe(2);
    const text = [...after.keys()].join('\n');
    for (const secret of [shop.projectId, 'alice', 'prod', '4999', '127.0.0.1']) {
      expect(text).not.toContain(secret);
    }
    await client.close();
  });
});

describe('/api/projects', () => {
  it('lists the projects that the user may see, with their environments, by name', async () => {
    const listed = ({ projectId, environments }: SeededProject, name: string): object => ({
      id: projectId,
      name,
      environments: Object.entries(environments)
        .map(([key, id]) => ({
          id,
          key,
          name: expect.any(String) as string,
          guarded: false,
          guarded_by: null,
          guarded_at: null,
        }))
        .sort((one, other) => Number(one.id) - Number(other.id)),
    });
    const nobody = await createUser(database.pool, 'nobody');
    const mine = await ask('/api/projects', as(alice));
    expect(mine).toMatchObject({ status: 200 });
    expect(mine.headers.get('cache-control')).toBe('no-store');
    expect(mine.body).toStrictEqual({ projects: [listed(shop, 'shop')] });
    const all = { projects: [listed(billing, 'billing'), listed(shop, 'shop')] };
    expect((await ask('/api/projects', as(root))).body).toStrictEqual(all);
    expect((await ask('/api/projects', as(nobody))).body).toStrictEqual({ projects: [] });
  });

  it('refuses requests like every other entry point', async () => {
    const idle = await createUser(database.pool, 'idle', { active: false });
    const foreign = { Authorization: `Bearer ${alice.token}`, Origin: 'https://evil.example' };
    const withoutToken = await ask('/api/projects');
    expect(withoutToken).toMatchObject({ status: 401, body: { code: 'token_missing' } });
    expect(withoutToken.headers.get('www-authenticate')).toBe('Bearer');
    expect(await ask('/api/projects?token=' + alice.token)).toMatchObject({ status: 401 });
    expect(await ask('/api/projects', as(idle))).toMatchObject({
      status: 403,
      body: { code: 'user_inactive' },
    });
    expect(await ask('/api/projects', { headers: foreign })).toMatchObject({
      status: 403,
      body: { code: 'origin_forbidden' },
    });
  });
});

describe('other requests', () => {
  it.each([
    ['GET', '/nothing'],
    ['GET', '/api'],
    ['GET', '/healthz/more'],
    ['POST', '/healthz'],
    ['DELETE', '/api/projects'],
    ['GET', '/%00%ff/..;/"quoted"'],
  ])('%s %s gets 404', async (method, path) => {
    const { status, body } = await ask(path, { method });
    expect(status).toBe(404);
    expect(body).toStrictEqual({
      code: 'not_found',
      message: expect.stringMatching(/^There is nothing at \/[^\n]*$/) as string,
    });
  });

  it('GET /api/ws gets 426', async () => {
    const { status, headers, body } = await ask('/api/ws?project_id=x&env=prod');
    expect(status).toBe(426);
    expect(headers.get('upgrade')).toBe('websocket');
    expect(body).toStrictEqual({
      code: 'upgrade_required',
      message: 'This is a WebSocket endpoint: connect with ws:// or wss://',
    });
  });
});

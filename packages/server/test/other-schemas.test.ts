import { afterAll, beforeAll, expect, it } from 'vitest';
import { signForName } from '../src/cli/token.js';
import { examine } from '../src/install/doctor/examine.js';
import { RunningCommand } from './command.js';
import { createOtherHost, type OtherHost } from './other-host.js';
import { PlainClient } from './plain-client.js';
import { startTestServer, testSecret } from './server.js';
import { V1Client } from './v1-client.js';

let host: OtherHost;
let serve: RunningCommand;
let httpUrl = '';
let wsUrl = '';

beforeAll(async () => {
  host = await createOtherHost();
  serve = new RunningCommand(['serve', '--port', '0'], {
    env: {
      ...host.settings,
      DATABASE_URL: host.url,
      FLAGCAST_JWT_SECRET: testSecret,
      FLAGCAST_AUTHORIZE_SQL: host.authorizeSql,
      // Only a notification wakes the reader.
      FLAGCAST_POLL_INTERVAL: '1h',
    },
  });
  httpUrl = String((await serve.logged('server_listening'))['url']);
  wsUrl = `${httpUrl.replace('http', 'ws')}/api/ws`;
  await serve.logged('listener_listening');
});

afterAll(async () => {
  serve.signal('SIGTERM');
  const { code, stdout } = await serve.ended;
  await host.drop();
  expect(code).toBe(0);
  expect(stdout).not.toContain('"warn"');
});

async function tokenOf(user: string): Promise<string> {
  return await signForName(testSecret, user, 600_000);
}

async function get(path: string, user: string): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${httpUrl}${path}`, {
    headers: { Authorization: `Bearer ${await tokenOf(user)}` },
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

it('the commands of the guide for other schemas work unchanged', async () => {
  expect(await serve.logged('reader_started')).toMatchObject({
    guarantee: 'exact',
    source: 'flagcast.event_log',
  });
});

it('a change is delivered to plain clients of its channel, and to no others', async () => {
  const shop = { project_id: 'shop', env: 'prod' };
  const ada = await PlainClient.connect(wsUrl, shop, { token: await tokenOf('ada') });
  const flag = await host.change('shop');
  expect(await ada.received(({ entity_id: id }) => id === flag)).toStrictEqual({
    source: 'audit',
    type: 'feature_updated',
    timestamp: expect.stringMatching(/^\d{4}-.*Z$/) as string,
    project_id: 'shop',
    environment: 'prod',
    entity: 'feature',
    entity_id: flag,
    action: 'updated',
  });
  await ada.close();
  for (const user of ['bob', 'eve', 'nobody']) {
    const connecting = PlainClient.connect(wsUrl, shop, { token: await tokenOf(user) });
    await expect(connecting).rejects.toMatchObject({ status: 403, body: { code: 'forbidden' } });
  }
});

it('the steps of a request are delivered to flagcast.v1 clients, and missed events after a snapshot', async () => {
  const channel = { projectId: 'shop', environmentId: 'shop-live' };
  const snapshot = await get('/api/snapshot?project_id=shop&env_id=shop-live', 'ada');
  expect(snapshot).toMatchObject({
    status: 200,
    body: { features: [], pending_changes: [], embedded_state: false },
  });
  const missed = await host.change('shop');

  const client = await V1Client.connect(wsUrl, { token: await tokenOf('ada') });
  expect(await client.control('hello')).toMatchObject({
    user_id: 'ada',
    guarantee: 'exact',
    guarantee_reason: 'event_log',
    embedded_state: false,
  });
  await client.caughtUp(channel, String(snapshot.body['cursor']));
  await client.event(missed);

  const { rows } = await host.database.pool.query<{ id: string }>(
    `INSERT INTO app.change_requests (stage, flag, requested_by) VALUES ('shop-live', 'dark', 'ada') RETURNING id`,
  );
  const id = rows[0]?.id ?? '';
  expect(await client.event('dark')).toMatchObject({
    type: 'pending_change_created',
    actor: 'ada',
    feature_id: 'dark',
  });
  await host.database.pool.query(
    `UPDATE app.change_requests SET state = 'approved', decided_by = 'bob', decided_at = now() WHERE id = $1`,
    [id],
  );
  expect(
    await client.message((message) => 'source' in message && message.action === 'approved'),
  ).toMatchObject({ type: 'pending_change_approved', entity_id: 'dark', actor: 'bob' });
  expect(client.events.map(({ type }) => type)).toStrictEqual([
    'feature_updated',
    'pending_change_created',
    'pending_change_approved',
  ]);

  const refused = await client.subscribe({ projectId: 'billing', environmentId: 'billing-live' });
  expect(refused).toMatchObject({ type: 'error', code: 'forbidden' });
  await client.close();
});

it('G3: channels whose concatenated ids are equal stay separate', async () => {
  const { pool } = host.database;
  await pool.query(`
    INSERT INTO app.teams VALUES ('a', 'A'), ('a/b', 'A/B');
    INSERT INTO app.stages VALUES ('b/c', 'a', 'prod'), ('c', 'a/b', 'prod');
    INSERT INTO app.seats VALUES ('bob', 'a')`);
  const query = { project_id: 'a', env_id: 'b/c' };
  const bob = await PlainClient.connect(wsUrl, query, { token: await tokenOf('bob') });
  await pool.query(`INSERT INTO app.flag_changes (stage, flag, what) VALUES ('c', 'secret', 'added')`);
  await pool.query(`INSERT INTO app.flag_changes (stage, flag, what) VALUES ('b/c', 'own', 'added')`);
  await bob.received(({ entity_id: id }) => id === 'own');
  expect(bob.messages.map(({ entity_id: id }) => id)).toStrictEqual(['own']);
  await bob.close();
});

it('the endpoints that the guide lists as missing respond with 501, and the others work', async () => {
  const { body } = await get('/api/projects', 'ada');
  expect(body).toMatchObject({ projects: [{ id: 'shop', name: 'Web shop' }] });
  const [shop] = body['projects'] as { environments: unknown[] }[];
  expect(new Set(shop?.environments)).toStrictEqual(
    new Set([
      { id: 'shop-live', key: 'prod', name: 'prod', guarded: false, guarded_by: null, guarded_at: null },
      { id: 'shop-test', key: 'test', name: 'test', guarded: false, guarded_by: null, guarded_at: null },
    ]),
  );
  expect(await get('/api/auth/mode', 'ada')).toMatchObject({ status: 200, body: { sign_in: 'token' } });
  expect(await get('/api/auth/me', 'ada')).toMatchObject({ status: 200, body: { writes: false } });
  for (const path of [
    '/api/features?project_id=shop&env=prod',
    '/api/pending-changes',
    '/api/audit?project_id=shop&env=prod',
  ]) {
    expect(await get(path, 'ada')).toMatchObject({ status: 501, body: { code: 'not_available' } });
  }
});

it('doctor finds no problem in another schema, and reports a query that does not work', async () => {
  const { authorizeSql } = host;
  const healthy = await examine(host.url, { authorizeSql });
  const serious = (found: typeof healthy) =>
    found.findings.filter(({ severity }) => severity === 'warning' || severity === 'error');
  expect(serious(healthy)).toStrictEqual([]);
  expect(healthy.findings).toContainEqual(
    expect.objectContaining({ id: 'authorization', severity: 'ok' }) as unknown,
  );
  const ill = await examine(host.url, { authorizeSql: 'SELECT * FROM app.flags' });
  expect(serious(ill)).toMatchObject([
    {
      id: 'authorization',
      message: expect.stringContaining('column a.user_id does not exist') as string,
      fix: { kind: 'advice' },
    },
  ]);
  // The session can be used for the following checks.
  expect(ill.findings.at(-1)).toStrictEqual(healthy.findings.at(-1));
});

it('a view without an installation is read with the guarantee overlap', async () => {
  const other = await createOtherHost({ reads: 'view' });
  expect(other.settings).toStrictEqual({ FLAGCAST_VIEW: 'app.live_events' });
  const server = await startTestServer(other.url, {
    database: { view: other.settings['FLAGCAST_VIEW'], pollIntervalMs: 50 },
    auth: { secret: testSecret, authorizeSql: other.authorizeSql },
  });
  const client = await V1Client.connect(server.wsUrl, { token: await tokenOf('ada') });
  expect(await client.control('hello')).toMatchObject({
    guarantee: 'overlap',
    guarantee_reason: 'view',
    overlap_ms: 60_000,
  });
  await client.caughtUp({ projectId: 'shop', environmentId: 'shop-live' });
  const flag = await other.change('shop');
  expect(await client.event(flag)).toMatchObject({ type: 'feature_updated', actor: 'ada' });
  const { pool } = other.database;
  await pool.query(
    `INSERT INTO app.change_requests (stage, flag, requested_by) VALUES ('shop-live', 'dark', 'ada')`,
  );
  await client.message(({ type }) => type === 'pending_change_created');
  await pool.query(
    `UPDATE app.change_requests SET state = 'rejected', decided_by = 'bob', decided_at = now()`,
  );
  expect(await client.message(({ type }) => type === 'pending_change_rejected')).toMatchObject({
    actor: 'bob',
  });
  expect(client.events).toHaveLength(3);
  await client.close();
  await server.close();
  await other.drop();
});

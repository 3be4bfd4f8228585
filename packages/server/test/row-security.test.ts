import { randomUUID } from 'node:crypto';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createTestCluster, insertAudit, seedProject, type TestCluster } from './database.js';
import { createDoctorFixture, type DoctorFixture } from './doctor-fixture.js';
import { startTestReader } from './reader.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let cluster: TestCluster;
let fixture: DoctorFixture;
let token: string;
let server: TestServer | null = null;

beforeAll(async () => {
  cluster = await createTestCluster();
});

afterAll(async () => {
  await cluster.remove();
});

beforeEach(async () => {
  fixture = await createDoctorFixture(cluster);
  ({ token } = await createUser(fixture.database.pool, 'visitor', { superuser: true, ttlMs: 600_000 }));
});

afterEach(async () => {
  await server?.close();
  server = null;
  await fixture.drop();
});

async function start(pollIntervalMs = 50): Promise<TestServer> {
  server = await startTestServer(fixture.url, { database: { pollIntervalMs } });
  return server;
}

/** What a new connection reads in `hello`. */
async function guarantee({ wsUrl }: TestServer): Promise<unknown> {
  const client = await V1Client.connect(wsUrl, { token });
  const hello = await client.control('hello');
  await client.close();
  return { guarantee: hello.guarantee, reason: hello.guarantee_reason, overlapMs: hello.overlap_ms };
}

const exact = { guarantee: 'exact', reason: 'event_log', overlapMs: null };
const partial = { ...exact, guarantee: 'partial' };

it.each(['audit_log', 'pending_changes', 'features', 'projects', 'users', 'environments'])(
  'row-level security on %s makes the guarantee partial: in hello, in /api/auth/mode and for doctor',
  async (table) => {
    // The user of the request must stay visible.
    await fixture.run(
      `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY; ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
       CREATE POLICY most ON ${table} USING (${table === 'users' ? 'id > 0' : 'false'})`,
    );
    const running = await start();
    expect(await guarantee(running)).toStrictEqual(partial);
    const mode = await fetch(`${running.httpUrl}/api/auth/mode`);
    expect(await mode.json()).toMatchObject({ guarantee: 'partial', guarantee_reason: 'event_log' });
    expect(await fixture.problems('guarantee')).toMatchObject([
      {
        severity: 'warning',
        message: `partial: row-level security may hide rows of public.${table}`,
      },
    ]);
    expect(await fixture.problems('row-security')).toHaveLength(1);
  },
);

it('row-level security that hides the event log makes the guarantee partial', async () => {
  await fixture.run('ALTER TABLE flagcast.event_log ENABLE ROW LEVEL SECURITY');
  expect(await guarantee(await start())).toStrictEqual(partial);
});

it('row-level security that hides nothing leaves the guarantee exact', async () => {
  await fixture.run(
    `ALTER TABLE features ENABLE ROW LEVEL SECURITY; CREATE POLICY everybody ON features USING (true);
     ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON audit_log USING (false);
     ALTER ROLE ${fixture.role} BYPASSRLS; ALTER TABLE features FORCE ROW LEVEL SECURITY`,
  );
  expect(await guarantee(await start())).toStrictEqual(exact);
  expect(await fixture.problems('guarantee')).toEqual([]);
});

it('row-level security is noticed while a server runs, and so is its end: channels get a resync', async () => {
  const { projectId, environments } = await seedProject(fixture.database.pool);
  const running = await start();
  const client = await V1Client.connect(running.wsUrl, { token });
  await client.caughtUp({ projectId, environmentId: environments.prod });
  expect(await guarantee(running)).toStrictEqual(exact);

  const { lifecycle } = running.flagcast;
  for (const [statement, expected] of [
    ['ALTER TABLE features ENABLE ROW LEVEL SECURITY', partial],
    [`ALTER ROLE ${fixture.role} BYPASSRLS`, exact],
  ] as const) {
    const lost = nextEvent(lifecycle, 'reader:history-lost');
    const started = nextEvent(lifecycle, 'reader:started');
    await fixture.run(statement);
    expect((await lost).reason).toMatch(
      /^row-level security (may hide rows of public.features|hides no rows) now$/,
    );
    expect(await started).toMatchObject({ guarantee: expected.guarantee });
    expect(await guarantee(running)).toStrictEqual(expected);
  }
  await client.control('resync');
  await client.close();
});

it('a cursor of a snapshot that lacked hidden rows gets a resync after the end of row-level security', async () => {
  const { projectId, environments } = await seedProject(fixture.database.pool);
  const channel = { projectId, environmentId: environments.prod };
  await fixture.run('ALTER TABLE features ENABLE ROW LEVEL SECURITY');
  const running = await start();
  const before = await V1Client.connect(running.wsUrl, { token });
  const cursor = await before.caughtUp(channel);
  await before.close();
  const started = nextEvent(running.flagcast.lifecycle, 'reader:started');
  await fixture.run('ALTER TABLE features DISABLE ROW LEVEL SECURITY');
  await started;
  const after = await V1Client.connect(running.wsUrl, { token });
  expect(await after.subscribe(channel, cursor)).toMatchObject({ type: 'resync', reason: 'history_changed' });
  await after.close();
});

const noPoll = 3_600_000;

/** A channel with one feature. */
async function channelWithFeature(): Promise<{ channel: TestChannel; featureId: string }> {
  const { pool } = fixture.database;
  const { projectId, environments } = await seedProject(pool);
  const featureId = randomUUID();
  await pool.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, 'flag', 'A flag', 'simple')`,
    [featureId, projectId],
  );
  return { channel: { projectId, environmentId: environments.prod }, featureId };
}

/** A client of a server that does not poll, which has missed an event of the feature since its cursor. */
async function missOneEvent() {
  const { channel, featureId } = await channelWithFeature();
  const { projectId, environmentId } = channel;
  const before = await V1Client.connect((await start(noPoll)).wsUrl, { token });
  const cursor = await before.caughtUp(channel);
  await before.close();
  await server?.close();
  await insertAudit(fixture.database.pool, { ...channel, featureId });
  const running = await start(noPoll);
  const client = await V1Client.connect(running.wsUrl, { token });
  const snapshot = async (): Promise<Response> =>
    await fetch(`${running.httpUrl}/api/snapshot?project_id=${projectId}&env_id=${environmentId}`, {
      headers: { authorization: `Bearer ${token}` },
    });
  return { channel, featureId, cursor, client, snapshot, lifecycle: running.flagcast.lifecycle };
}

it('a read fails while row-level security hides rows and the reader has not noticed it: no state lacks them', async () => {
  const { channel, featureId } = await channelWithFeature();
  const running = await start(noPoll);
  const client = await V1Client.connect(running.wsUrl, { token });
  await client.caughtUp(channel);
  const started = nextEvent(running.flagcast.lifecycle, 'reader:started');
  await fixture.run('ALTER TABLE features ENABLE ROW LEVEL SECURITY');
  await insertAudit(fixture.database.pool, { ...channel, featureId });
  await client.control('resync');
  expect(client.messages.filter((message) => 'source' in message)).toEqual([]);
  expect(await started).toMatchObject({ guarantee: 'partial' });
  await client.close();
});

it('snapshots and missed events are refused while row-level security hides rows and the reader has not noticed it', async () => {
  const { channel, featureId, cursor, client, snapshot } = await missOneEvent();
  await fixture.run('ALTER TABLE features ENABLE ROW LEVEL SECURITY');
  expect((await snapshot()).status).toBe(503);
  expect(await client.subscribe(channel, cursor)).toMatchObject({ type: 'error', code: 'unavailable' });
  await fixture.run('ALTER TABLE features DISABLE ROW LEVEL SECURITY');
  expect(await (await snapshot()).json()).toMatchObject({ features: [{ id: featureId }] });
  await client.caughtUp(channel, cursor);
  expect(await client.event(featureId)).toMatchObject({ feature: { id: featureId } });
  await client.close();
});

it('row-level security that shows all rows changes nothing for a server that has not noticed it, as one that follows the relay', async () => {
  const { channel, featureId, cursor, client, snapshot } = await missOneEvent();
  await fixture.run(
    'ALTER TABLE features ENABLE ROW LEVEL SECURITY; CREATE POLICY everybody ON features USING (true)',
  );
  expect(await (await snapshot()).json()).toMatchObject({ features: [{ id: featureId }] });
  await client.caughtUp(channel, cursor);
  expect(await client.event(featureId)).toMatchObject({ feature: { id: featureId } });
  await client.close();
});

it('snapshots and missed events are refused while a list cannot be read and the reader has not noticed it', async () => {
  const { channel, featureId, cursor, client, snapshot, lifecycle } = await missOneEvent();
  expect(await (await snapshot()).json()).toMatchObject({ features: [{ id: featureId, rules: [] }] });
  const started = nextEvent(lifecycle, 'reader:started');
  await fixture.run(`REVOKE SELECT ON rules FROM ${fixture.role}`);
  const answers = await Promise.all([snapshot(), client.subscribe(channel, cursor)]);
  expect(answers).toMatchObject([{ status: 503 }, { type: 'error', code: 'unavailable' }]);
  // Both have asked the reader to look.
  await started;
  const { features } = (await (await snapshot()).json()) as Snapshot;
  expect(features).toMatchObject([{ id: featureId, schedules: [] }]);
  expect(features[0]).not.toHaveProperty('rules');
  await client.close();
});

it('policies that hid rows between two polls begin a new history, so that no client keeps a state without the rows', async () => {
  const { channel, featureId } = await channelWithFeature();
  await fixture.run(
    'ALTER TABLE features ENABLE ROW LEVEL SECURITY; CREATE POLICY everybody ON features USING (true)',
  );
  const { reader, lifecycle, events, read } = await startTestReader(fixture);
  await fixture.run('ALTER POLICY everybody ON features USING (false)');
  await insertAudit(fixture.database.pool, { ...channel, featureId });
  await read();
  expect(events).toMatchObject([{ featureId, featureJson: null }]);
  await fixture.run('ALTER POLICY everybody ON features USING (true)');
  const lost = nextEvent(lifecycle, 'reader:history-lost');
  reader.pause();
  // With a poll.
  reader.resume();
  expect((await lost).reason).toMatch(/rights on them, were changed/);
  await reader.stop();
});

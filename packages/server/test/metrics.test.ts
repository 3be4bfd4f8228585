import { afterAll, beforeAll, expect, it } from 'vitest';
import { type MetricDefinition, metricTable } from '../src/operations/metric-table.js';
import type { BroadcastBatch } from '../src/lifecycle.js';
import {
  createTestDatabase,
  insertAudit,
  insertAudits,
  insertRequest,
  seedProject,
  type TestDatabase,
} from './database.js';
import { scrape } from './scrape.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

/** Of the first process, and only where there are several. */
const ofWorkers = 'flagcast_workers_ended_total';

let database: TestDatabase;
let server: TestServer;
let token: string;
let shop: TestChannel;
let billing: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const channels = [];
  for (const name of ['shop', 'billing']) {
    const { projectId, environments } = await seedProject(database.pool, { name });
    channels.push({ projectId, environmentId: environments.prod });
  }
  [shop, billing] = channels as [TestChannel, TestChannel];
  server = await startTestServer(database.url, {
    database: { pollIntervalMs: 20 },
    timeouts: { heartbeatIntervalMs: 50 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

it('the response of /metrics has the metrics of the table', async () => {
  const text = await (await fetch(`${server.httpUrl}/metrics`)).text();
  const served = [...text.matchAll(/^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)$/gm)].map(
    ([, name = '', help, type]) => [name, { help, type }] as const,
  );
  const defined = Object.entries<MetricDefinition>(metricTable).map(
    ([name, { help, type }]) => [name, { help, type }] as const,
  );
  expect(new Map(served)).toEqual(new Map(defined.filter(([name]) => name !== ofWorkers)));
});

it('metrics measure the delay of events, the size of batches and the connections of channels', async () => {
  const before = await scrape(server.httpUrl);
  const clients = await Promise.all(
    [[shop], [shop], [shop, billing]].map(async (channels) => {
      const client = await V1Client.connect(server.wsUrl, { token });
      for (const channel of channels) await client.caughtUp(channel);
      return client;
    }),
  );
  const sent = nextEvent(server.flagcast.lifecycle, 'batch:broadcast');
  await insertAudits(database.pool, shop, 3);
  await sent;
  const after = await scrape(server.httpUrl);
  const grown = (name: string): number => (after.get(name) ?? NaN) - (before.get(name) ?? NaN);
  expect(grown('flagcast_deliveries_total')).toBe(9);
  expect(grown('flagcast_batch_events_sum')).toBe(3);
  expect(grown('flagcast_batch_events_count')).toBe(1);
  for (const name of ['flagcast_commit_to_seen_seconds', 'flagcast_seen_to_sent_seconds']) {
    expect(grown(`${name}_count`)).toBe(1);
    expect(grown(`${name}_bucket{le="30"}`)).toBe(1);
  }
  expect(after.get('flagcast_delivery_lag_seconds')).toBe(0);
  expect(after.get('flagcast_ready')).toBe(1);
  expect(after.get('flagcast_listening')).toBe(1);
  expect(after.get('flagcast_process_resident_bytes')).toBeGreaterThan(1e6);
  expect(grown('flagcast_process_cpu_seconds_total')).toBeGreaterThan(0);
  // One channel has one connection, one has three, in every scrape.
  for (const samples of [after, await scrape(server.httpUrl)]) {
    const upTo = (bound: number): number | undefined =>
      samples.get(`flagcast_channel_connections_bucket{le="${bound}"}`);
    expect([upTo(1), upTo(2), upTo(5)]).toEqual([1, 1, 2]);
    expect(samples.get('flagcast_channel_connections_sum')).toBe(4);
  }
  for (const client of clients) await client.close();
  expect((await scrape(server.httpUrl)).get('flagcast_channel_connections_count')).toBe(0);
});

it('metrics count the connections with the approvals feed, and the feed as no channel', async () => {
  const clients = await Promise.all(
    [1, 2].map(async () => {
      const client = await V1Client.connect(server.wsUrl, { token });
      await client.caughtUpFeed();
      return client;
    }),
  );
  const samples = await scrape(server.httpUrl);
  expect(samples.get('flagcast_approvals_connections')).toBe(2);
  expect(samples.get('flagcast_channel_connections_count')).toBe(0);
  const sent = nextEvent(server.flagcast.lifecycle, 'batch:broadcast');
  await insertRequest(database.pool, shop);
  expect((await sent).channels).toBe(1);
  for (const client of clients) await client.close();
  expect((await scrape(server.httpUrl)).get('flagcast_approvals_connections')).toBe(0);
});

it('the delay is measured from the first commit of a batch, and is never negative if clocks differ', async () => {
  const seenAtMs = Date.now();
  const batch = { events: 2, channels: 1, deliveries: 0, readMs: 1, seenAtMs, sentAtMs: seenAtMs + 250 };
  const sumsAfter = async (...committed: BroadcastBatch['committed'][]): Promise<number[]> => {
    const names = ['flagcast_commit_to_seen_seconds_sum', 'flagcast_seen_to_sent_seconds_sum'];
    const before = await scrape(server.httpUrl);
    for (const each of committed) {
      server.flagcast.lifecycle.emit('batch:broadcast', { ...batch, committed: each });
    }
    const after = await scrape(server.httpUrl);
    return names.map((name) => Math.round(((after.get(name) ?? 0) - (before.get(name) ?? 0)) * 1_000));
  };
  const early = { firstAtMs: seenAtMs - 4_000, lastAtMs: seenAtMs - 1_000 };
  const ahead = { firstAtMs: seenAtMs + 4_000, lastAtMs: seenAtMs + 5_000 };
  expect(await sumsAfter(early, ahead, null)).toEqual([4_000, 750]);
});

it('metrics count resumes, resyncs and refused connections', async () => {
  const before = await scrape(server.httpUrl);
  const client = await V1Client.connect(server.wsUrl, { token });
  await client.caughtUp(shop);
  // The server does not keep the events of its first read, so the cursor has to be a later one.
  await insertAudit(database.pool, shop);
  const cursor = await client.settled(database.pool);
  await client.close();
  await insertAudit(database.pool, shop);
  const again = await V1Client.connect(server.wsUrl, { token });
  await again.caughtUp(shop, cursor);
  expect(await again.subscribe(billing, 'nonsense')).toMatchObject({ type: 'resync' });
  await again.close();
  for (const path of ['/api/projects', '/api/events?project_id=x&env=prod']) {
    await fetch(`${server.httpUrl}${path}`, { headers: { Authorization: 'Bearer forged' } });
  }
  const after = await scrape(server.httpUrl);
  const grown = (name: string): number => (after.get(name) ?? NaN) - (before.get(name) ?? NaN);
  expect(grown('flagcast_resumes_total{source="buffer"}')).toBe(1);
  expect(grown('flagcast_resyncs_total{reason="cursor_malformed"}')).toBe(1);
  expect(after.get('flagcast_requests_refused_total{code="token_malformed"}')).toBe(2);
});

it('metrics count the reads that follow a notification', async () => {
  const followUps = async (): Promise<number> =>
    (await scrape(server.httpUrl)).get('flagcast_reads_total{trigger="follow_up"}') ?? NaN;
  const before = await followUps();
  const late = await database.pool.connect();
  await late.query('BEGIN');
  await insertAudit(late, shop);
  const read = nextEvent(server.flagcast.lifecycle, 'reader:read', ({ trigger }) => trigger === 'follow_up');
  await insertAudit(database.pool, shop);
  await read;
  expect(await followUps()).toBeGreaterThan(before);
  await late.query('COMMIT');
  late.release();
});

import { CloseCode } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { examine } from '../src/install/doctor/examine.js';
import { covers } from '../src/events/position.js';
import { Lifecycle } from '../src/lifecycle.js';
import { WakeListener } from '../src/reader/listener.js';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestCluster,
  type TestDatabase,
  withClient,
  insertAudits,
} from './database.js';
import { PlainClient } from './plain-client.js';
import { sessionOpener, startTestReader } from './reader.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { scrape } from './scrape.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { Standby } from './standby.js';
import { V1Client } from './v1-client.js';
import { compare, watch } from './watched.js';
import { runWriters } from './writers.js';

const anHour = 3_600_000;

describe('on a streaming replica', () => {
  const cleanUps: (() => Promise<void>)[] = [];
  let cluster: TestCluster;
  let standby: Standby;
  let database: TestDatabase;
  let project: SeededProject;

  beforeAll(async () => {
    cluster = await createTestCluster({ max_prepared_transactions: '50' });
    // Reads are cancelled immediately if they conflict with the replay.
    standby = await Standby.start(cluster.postgres, {
      max_prepared_transactions: '50',
      max_standby_streaming_delay: '0',
    });
  });

  afterAll(async () => {
    await standby.remove();
    await cluster.remove();
  });

  beforeEach(async () => {
    database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    project = await seedProject(database.pool);
    await replayed(standby);
  });

  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  /** Until the replica shows all that has been committed. */
  async function replayed(there: Standby): Promise<void> {
    const { rows } = await database.pool.query<{ end: string }>('SELECT pg_current_wal_lsn() AS end');
    await withClient(there.postgres.url(), async (client) => {
      await expect
        .poll(async () => {
          const answer = await client.query<{ there: boolean }>(
            'SELECT pg_last_wal_replay_lsn() >= $1 AS there',
            [rows[0]?.end],
          );
          return answer.rows[0]?.there;
        })
        .toBe(true);
    });
  }

  async function serve(...args: Parameters<typeof startTestServer>): Promise<TestServer> {
    const server = await startTestServer(...args);
    cleanUps.push(async () => await server.close());
    return server;
  }

  /** In a session that has the setting for notifications. */
  async function write(): Promise<string> {
    const row = { projectId: project.projectId, environmentId: project.environments.prod };
    return await withClient(database.url, async (client) => (await insertAudit(client, row)).entityId);
  }

  it('every event arrives once, after notifications of the primary', async () => {
    const server = await serve(standby.urlOf(database), {
      database: { listenUrl: database.url, pollIntervalMs: anHour },
    });
    const clients = await watch(database, server);
    await replayed(standby);
    const channels = [...clients.keys()];
    await runWriters({ databaseUrl: database.url, channels, writers: 8, minEvents: 300 });
    await write();
    expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
  });

  it('reads are repeated after a notification of the primary until the replica has replayed the commit', async () => {
    const server = await serve(standby.urlOf(database), {
      database: { listenUrl: database.url, pollIntervalMs: anHour },
    });
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    await replayed(standby);
    const query = { project_id: project.projectId, env: 'prod' };
    const client = await PlainClient.connect(server.wsUrl, query, { token });
    await standby.query('SELECT pg_wal_replay_pause()');
    const entityId = await write();
    // The notification has arrived, and several reads after it have returned no rows.
    for (let reads = 0; reads < 5; reads += 1) await nextEvent(server.flagcast.lifecycle, 'reader:read');
    await standby.query('SELECT pg_wal_replay_resume()');
    await client.received((message) => message.entity_id === entityId);
    await client.close();
  });

  it('polling, snapshots and resuming work without LISTEN, and the listener reports why it is off', async () => {
    const server = await serve(standby.urlOf(database), { database: { pollIntervalMs: 50 } });
    expect(server.listening).toMatchObject({
      reason: 'replica',
      fix: expect.stringContaining('FLAGCAST_LISTEN_URL') as string,
    });
    const channel = { projectId: project.projectId, environmentId: project.environments.prod };
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    await replayed(standby);
    const client = await V1Client.connect(server.wsUrl, { token });
    const cursor = await client.caughtUp(channel);
    const entityId = await write();
    await client.event(entityId);
    const coming = await V1Client.connect(server.wsUrl, { token });
    await coming.caughtUp(channel, cursor);
    expect(coming.events.map((event) => event.entity_id)).toEqual([entityId]);
    const url = `${server.httpUrl}/api/snapshot?project_id=${project.projectId}&env=prod`;
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
    const snapshot = (await answer.json()) as { cursor: string };
    const later = await V1Client.connect(server.wsUrl, { token });
    await later.caughtUp(channel, snapshot.cursor);
    expect(later.events).toEqual([]);
    for (const each of [client, coming, later]) await each.close();
  });

  it('a change through the server is refused with the code database_read_only', async () => {
    const server = await serve(standby.urlOf(database), { writes: true });
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    await replayed(standby);
    const answer = await fetch(`${server.httpUrl}/api/features`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ project_id: project.projectId, key: 'new', name: 'New' }),
    });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ code: 'database_read_only' });
  });

  it('the listener reports once that a replica accepts no LISTEN, however often it tries', async () => {
    const lifecycle = new Lifecycle();
    let reports = 0;
    lifecycle.on('listener:unavailable', () => (reports += 1));
    lifecycle.on('listener:failed', () => (reports += 1));
    const listener = new WakeListener({
      openSession: sessionOpener({ url: standby.urlOf(database) }),
      lifecycle,
      onWake: () => undefined,
      unavailableRetryMs: 1,
    });
    listener.start();
    cleanUps.push(async () => await listener.stop());
    await withClient(standby.postgres.url(), async (client) => {
      const seen = new Set<number>();
      await expect
        .poll(async () => {
          const { rows } = await client.query<{ pid: number }>(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'flagcast listener'",
          );
          for (const { pid } of rows) seen.add(pid);
          return seen.size;
        })
        .toBeGreaterThan(3);
    });
    expect(reports).toBe(1);
  });

  it('a transaction that was open when the reader began is delivered when the replica has replayed its commit', async () => {
    const channel = { projectId: project.projectId, environmentId: project.environments.prod };
    const late = await database.pool.connect();
    await late.query('BEGIN');
    const first = await insertAudit(late, channel);
    const before = await write();
    await replayed(standby);
    const { delivered, events, batches, arrival } = await startTestReader(
      { url: standby.urlOf(database) },
      { pollIntervalMs: 20 },
    );
    const meanwhile = await write();
    const { xid } = await arrival(meanwhile);
    // The snapshots of a replica do not list transactions in flight, so the cursor lists the delivered ones.
    const position = batches.at(-1)?.position;
    expect(position).toMatchObject({ listed: 'delivered' });
    expect(position === undefined || covers(position, xid)).toBe(true);
    await late.query('COMMIT');
    late.release();
    const { xid: lateXid } = await arrival(first.entityId);
    expect(lateXid < xid).toBe(true);
    const last = await write();
    await arrival(last);
    expect(delivered()).toEqual([meanwhile, first.entityId, last]);
    expect(delivered()).not.toContain(before);
    expect(new Set(events.map(({ id }) => id)).size).toBe(3);
  });

  it('a transaction with more rows than a page is delivered once and in order', async () => {
    const { delivered, arrival } = await startTestReader(
      { url: standby.urlOf(database) },
      { pollIntervalMs: 20 },
    );
    await insertAudits(
      database.pool,
      { projectId: project.projectId, environmentId: project.environments.prod },
      1_200,
    );
    const last = await write();
    const { rows } = await database.pool.query<{ id: string }>(
      'SELECT entity_id AS id FROM flagcast.event_log ORDER BY seq',
    );
    await arrival(rows.at(-2)?.id ?? '');
    await arrival(last);
    expect(delivered().toSorted()).toEqual(rows.map(({ id }) => id).toSorted());
    expect(delivered().filter((id) => id !== last)).toEqual(rows.slice(0, -1).map(({ id }) => id));
  });

  it('a read that the replica cancels is repeated', async () => {
    const server = await serve(standby.urlOf(database), { database: { pollIntervalMs: 50 } });
    const { lifecycle } = server.flagcast;
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    await replayed(standby);
    const query = { project_id: project.projectId, env: 'prod' };
    const client = await PlainClient.connect(server.wsUrl, query, { token });
    // A lock makes a read wait while it holds other tables, one of which the primary locks next.
    const cancelled = nextEvent(lifecycle, 'reader:failed');
    await withClient(database.url, async (first) => {
      // The write-ahead log is sent when it is flushed, and locks alone do not flush it.
      await first.query('BEGIN; LOCK TABLE features; SELECT pg_switch_wal()');
      await withClient(standby.postgres.url(), async (observer) => {
        await expect
          .poll(async () => {
            const { rowCount } = await observer.query(
              "SELECT FROM pg_stat_activity WHERE application_name = 'flagcast reader' AND wait_event_type = 'Lock'",
            );
            return rowCount;
          })
          .toBe(1);
      });
      await withClient(database.url, async (second) => {
        await second.query('BEGIN; LOCK TABLE flagcast.event_log; SELECT pg_switch_wal()');
        expect((await cancelled).error).toMatchObject({ code: '40001' });
      });
    });
    const entityId = await write();
    await client.received((message) => message.entity_id === entityId);
    await client.close();
  });

  it('doctor reports how the primary can wake the reader, and whether it does', async () => {
    const url = standby.urlOf(database);
    const alone = await examine(url);
    const findings = alone.findings.filter(({ severity }) => severity !== 'ok');
    expect(findings.map(({ id }) => id)).toContain('replica');
    expect(findings.find(({ id }) => id === 'replica')?.fix?.text).toContain('FLAGCAST_LISTEN_URL');
    const listen = async (listenUrl: string): Promise<string | undefined> =>
      (await examine(url, { listenUrl })).findings.find(({ id }) => id === 'listen')?.message;
    expect(await listen(database.url)).toMatch(/^LISTEN through FLAGCAST_LISTEN_URL works/);
    expect(await listen(url)).toMatch(/leads to a replica/);
  });

  it('a promotion of the replica gives all clients a resync, also those that were ahead of it', async () => {
    const primary = new URL(cluster.postgres.url());
    const stream = await FaultyProxy.open([Number(primary.port)]);
    const login = `user=${primary.username} password=${primary.password}`;
    const other = await Standby.start(cluster.postgres, {
      max_prepared_transactions: '50',
      primary_conninfo: `host=127.0.0.1 port=${stream.port} ${login}`,
    });
    cleanUps.push(async () => await other.remove());
    const { token } = await createUser(database.pool, 'root', { superuser: true });
    await replayed(other);
    const url = other.urlOf(database);
    const server = await serve(url, { database: { pollIntervalMs: 50 } });
    const channel = { projectId: project.projectId, environmentId: project.environments.prod };
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);

    // A server on the primary, by an address that will lead to the promoted one.
    let address = await FaultyProxy.open([Number(new URL(database.url).port)]);
    cleanUps.push(async () => await address.close());
    const { port } = address;
    const through = new URL(database.url);
    through.port = String(port);
    const ahead = await serve(through.toString(), { database: { pollIntervalMs: 50 } });
    const watching = await V1Client.connect(ahead.wsUrl, { token });
    const cursor = await watching.caughtUp(channel);
    const plain = await PlainClient.connect(
      ahead.wsUrl,
      { project_id: channel.projectId, env: 'prod' },
      { token },
    );
    // What is committed now the standby does not get any more.
    await stream.close();
    const lost = await write();
    await watching.event(lost);

    const started = nextEvent(server.flagcast.lifecycle, 'reader:started');
    await other.query('SELECT pg_promote()');
    expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    await started;
    await client.caughtUp(channel);
    const { entityId } = await withClient(url, async (session) => await insertAudit(session, channel));
    await client.event(entityId);
    await client.close();

    const restarted = nextEvent(ahead.flagcast.lifecycle, 'reader:started');
    await address.close();
    address = await FaultyProxy.open([Number(new URL(url).port)], { port });
    expect(await watching.control('resync')).toMatchObject({ reason: 'history_changed' });
    expect(await plain.closed).toMatchObject({ code: CloseCode.historyLost });
    await restarted;
    expect((await scrape(ahead.httpUrl)).get('flagcast_history_lost_total')).toBe(1);
    expect(await watching.subscribe(channel, cursor)).toMatchObject({
      type: 'resync',
      reason: 'history_changed',
    });
    await watching.caughtUp(channel);
    const after = await withClient(url, async (session) => await insertAudit(session, channel));
    await watching.event(after.entityId);
    await watching.close();
  });
});

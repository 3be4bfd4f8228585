import type { ResyncReason, Snapshot } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { decodeCursor, encodeCursor, type Position } from '../src/events/position.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestServerOptions } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let token: string;
let stage: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { name, url } = database;
  await withClient(url, async (client) => {
    await client.query(`ALTER DATABASE ${name} SET flagcast.notify = 'on'`);
    await client.query(`ALTER DATABASE ${name} SET lock_timeout = '300ms'`);
  });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  stage = { projectId, environmentId: environments.stage };
  server = await startTestServer(url, {
    database: { pollIntervalMs: 50 },
    timeouts: { heartbeatIntervalMs: 50 },
  });
  // Its replay buffer starts with its first batch of events.
  const client = await V1Client.connect(server.wsUrl, { token });
  await client.caughtUp(stage);
  await insertAudit(database.pool, stage);
  await client.settled(database.pool);
  await client.close();
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function freshServer(options: TestServerOptions = {}): Promise<TestServer> {
  const fresh = await startTestServer(database.url, options);
  onTestFinished(async () => await fresh.close());
  return fresh;
}

async function freshChannel(): Promise<TestChannel> {
  const { projectId, environments } = await seedProject(database.pool);
  return { projectId, environmentId: environments.prod };
}

async function connect(at = server): Promise<V1Client> {
  const client = await V1Client.connect(at.wsUrl, { token });
  onTestFinished(() => client.socket.terminate());
  return client;
}

/** The cursor of a client of the channel that disconnects now. */
async function leave(channel: TestChannel, at = server): Promise<string> {
  const client = await connect(at);
  await client.caughtUp(channel);
  const cursor = await client.settled(database.pool);
  await client.close();
  return cursor;
}

/** Writes events in transactions of a hundred, and waits until the servers have read them. */
async function write(channel: TestChannel, events: number): Promise<string[]> {
  const watcher = await connect();
  await watcher.caughtUp(channel);
  const entityIds: string[] = [];
  for (let written = 0; written < events; written += 100) {
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action)
       SELECT $1, $2, id, 'feature', id, 'system', 'update'
       FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $3)) AS made
       RETURNING entity_id AS id`,
      [channel.projectId, channel.environmentId, Math.min(100, events - written)],
    );
    entityIds.push(...rows.map(({ id }) => id));
  }
  const last = entityIds.at(-1);
  if (last !== undefined) await watcher.event(last);
  await watcher.close();
  return entityIds;
}

interface Resumed {
  readonly client: V1Client;
  readonly source: string;
  readonly events: number;
}

async function resume(channel: TestChannel, cursor: string, at = server): Promise<Resumed> {
  const client = await connect(at);
  const resumed = nextEvent(at.flagcast.lifecycle, 'channel:resumed');
  await client.caughtUp(channel, cursor);
  const { source, events } = await resumed;
  return { client, source, events };
}

function received({ events }: V1Client): string[] {
  return events.map((event) => event.entity_id);
}

/** A cursor of the server's, with something about it changed. */
function changed(cursor: string, change: (position: Position) => Partial<Position>): string {
  const position = decodeCursor(cursor);
  if (position === null) throw new Error('not a cursor');
  return encodeCursor({ ...position, ...change(position) });
}

describe('G5: a client that resumes', () => {
  it.each([0, 1, 900])(
    'receives all of the %i events that it missed, in order, and then new ones',
    async (count) => {
      const channel = await freshChannel();
      const cursor = await leave(channel);
      const missed = await write(channel, count);
      // Events of other channels are not counted.
      await write(stage, 5);
      const later = await freshServer();
      const watcher = await connect(later);
      await watcher.caughtUp(channel);
      for (const [at, source] of [
        [server, 'buffer'],
        [later, 'database'],
      ] as const) {
        const resumed = await resume(channel, cursor, at);
        expect(resumed).toMatchObject({ source, events: missed.length });
        const { client } = resumed;
        expect(received(client)).toStrictEqual(missed);
        // The cursor follows all events before it.
        expect(client.events.filter((event) => 'cursor' in event)).toStrictEqual([]);
        const types = client.withoutHeartbeats.map(({ type }) => type);
        expect(types.at(-1)).toBe('caught_up');
        const { entityId } = await insertAudit(database.pool, channel);
        await client.event(entityId);
        // An event that a server has not read yet comes after `caught_up`.
        await watcher.event(entityId);
        missed.push(entityId);
        expect(received(client)).toStrictEqual(missed);
        await client.close();
      }
    },
  );

  it('gets a resync from any server when it missed more than 1,000, and continues from a snapshot', async () => {
    const channel = await freshChannel();
    const cursor = await leave(channel);
    await write(channel, 1_000);
    expect((await resume(channel, cursor)).events).toBe(1_000);
    await write(channel, 9_000);
    for (const at of [server, await freshServer()]) {
      const client = await connect(at);
      expect(await client.subscribe(channel, cursor)).toStrictEqual({
        type: 'resync',
        project_id: channel.projectId,
        environment: 'prod',
        environment_id: channel.environmentId,
        reason: 'too_many_missed',
      });
      const response = await fetch(
        `${at.httpUrl}/api/snapshot?project_id=${channel.projectId}&env_id=${channel.environmentId}`,
        { headers: { Authorization: `Bearer ${token}` } },
      );
      await client.caughtUp(channel, ((await response.json()) as Snapshot).cursor);
      const { entityId } = await insertAudit(database.pool, channel);
      await client.event(entityId);
      expect(received(client)).toStrictEqual([entityId]);
    }
  });

  it('G7: may resume on another server, or on a restarted one, also from the cursor of a heartbeat', async () => {
    const channel = await freshChannel();
    const other = await freshServer({
      database: { pollIntervalMs: 50 },
      timeouts: { heartbeatIntervalMs: 50 },
    });
    const all: string[] = [];
    let cursor = await leave(channel);
    for (let time = 0; time < 3; time += 1) {
      all.push(...(await write(channel, 3)));
      const { client } = await resume(channel, cursor, other);
      // Events that the other server had not read yet follow after caught_up.
      await client.event(all.at(-1) ?? '');
      expect(received(client)).toStrictEqual(all.slice(-3));
      cursor = await client.settled(database.pool);
      await client.close();
      all.push(...(await write(channel, 2)));
      const back = await resume(channel, cursor);
      expect(received(back.client)).toStrictEqual(all.slice(-2));
      cursor = await back.client.settled(database.pool);
    }
    const missed = await write(channel, 2);
    const restarted = await resume(channel, cursor, await freshServer());
    expect(received(restarted.client)).toStrictEqual(missed);
  });

  it('G4: receives no event twice that another server has sent and this one has not read yet', async () => {
    const channel = await freshChannel();
    // The server reads after a NOTIFY, and the first write does not send one.
    const behind = await freshServer({ database: { pollIntervalMs: 3_600_000 } });
    const quick = await freshServer({
      database: { pollIntervalMs: 20 },
      timeouts: { heartbeatIntervalMs: 20 },
    });
    const before = await connect(quick);
    await before.caughtUp(channel);
    const late = await database.pool.connect();
    await late.query('BEGIN; SELECT pg_current_xact_id()');
    const first = await withClient(database.url, async (client) => {
      await client.query(`SET flagcast.notify = 'off'`);
      return await insertAudit(client, channel);
    });
    await before.event(first.entityId);
    await late.query(`SET LOCAL flagcast.notify = 'off'`);
    const second = await insertAudit(late, channel);
    await late.query('COMMIT');
    late.release();
    await before.event(second.entityId);
    const client = await connect(behind);
    await client.caughtUp(channel, await before.settled(database.pool));
    const third = await insertAudit(database.pool, channel);
    await client.event(third.entityId);
    expect(received(client)).toStrictEqual([third.entityId]);
  });

  it('gets an error while the database does not answer, and resumes when it does', async () => {
    const channel = await freshChannel();
    const cursor = await leave(channel);
    const missed = await write(channel, 2);
    const fresh = await freshServer({ database: { pollIntervalMs: 3_600_000 } });
    const client = await connect(fresh);
    const answer = await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE flagcast.event_log');
      return await client.subscribe(channel, cursor);
    });
    expect(answer).toMatchObject({ type: 'error', code: 'unavailable' });
    await client.caughtUp(channel, cursor);
    expect(received(client)).toStrictEqual(missed);
  });
});

describe('a cursor that cannot be continued', () => {
  const rows: [what: string, reason: ResyncReason, change: (cursor: string) => string][] = [
    ['is malformed', 'cursor_malformed', (cursor) => `${cursor}.`],
    [
      'is of version 1',
      'cursor_malformed',
      () => Buffer.from('1|h|1|1|2026-01-01T00:00:00.000000Z|').toString('base64url'),
    ],
    [
      'is of another database',
      'history_changed',
      (cursor) => changed(cursor, () => ({ history: 'elsewhere' })),
    ],
    [
      'is ahead of the database',
      'cursor_ahead',
      (cursor) => changed(cursor, ({ xmax }) => ({ xmax: xmax + 1_000n })),
    ],
  ];
  it.each(rows)('because it %s gets a resync: %s', async (_, reason, change) => {
    const channel = await freshChannel();
    const cursor = await leave(channel);
    await write(channel, 1);
    const resync = nextEvent(server.flagcast.lifecycle, 'channel:resync');
    const client = await connect();
    expect(await client.subscribe(channel, change(cursor))).toMatchObject({ type: 'resync', reason });
    expect(await resync).toMatchObject({ reason });
    // It is not subscribed now, and can be.
    await client.caughtUp(channel);
    expect(client.events).toStrictEqual([]);
  });
});

it('a cursor whose events were deleted by retention gets a resync, and later cursors are continued', async () => {
  // Its own: a cursor lists the transactions that are in flight in other databases, too.
  const cluster = await createTestCluster({ max_prepared_transactions: '0' });
  onTestFinished(async () => await cluster.remove());
  const own = await cluster.createDatabase({ schema: 'tables' });
  onTestFinished(async () => await own.drop());
  const { token: pass } = await createUser(own.pool, 'root', { superuser: true });
  const { projectId, environments } = await seedProject(own.pool);
  const channel = { projectId, environmentId: environments.prod };
  const first = await startTestServer(own.url, { timeouts: { heartbeatIntervalMs: 20 } });
  onTestFinished(async () => await first.close());
  const open = async (at: TestServer): Promise<V1Client> => {
    const client = await V1Client.connect(at.wsUrl, { token: pass });
    onTestFinished(() => client.socket.terminate());
    return client;
  };
  const watcher = await open(first);
  await watcher.caughtUp(channel);
  // The replay buffer replays only for cursors after its first read.
  await own.pool.query('SELECT pg_current_xact_id()');
  const before = await watcher.settled(own.pool);
  const deleted = (await insertAudit(own.pool, channel)).entityId;
  await watcher.event(deleted);
  const after = await watcher.settled(own.pool);
  await own.pool.query(`SELECT flagcast.prune_event_log('0', 1000000)`);
  const missed = (await insertAudit(own.pool, channel)).entityId;
  await watcher.event(missed);

  const fresh = await startTestServer(own.url);
  onTestFinished(async () => await fresh.close());
  const late = await open(fresh);
  expect(await late.subscribe(channel, before)).toMatchObject({ type: 'resync', reason: 'cursor_expired' });
  const later = await open(fresh);
  await later.caughtUp(channel, after);
  expect(received(later)).toContain(missed);
  expect(received(later)).not.toContain(deleted);
  // The replay buffer of that server reaches further back.
  const remembered = await open(first);
  await remembered.caughtUp(channel, before);
  expect(received(remembered)).toEqual(expect.arrayContaining([deleted, missed]));
});

it('G5: a cursor of a server that has just started repeats no event that was committed before the last checkpoint', async () => {
  // Its own: the commits of other tests would flush the write-ahead log.
  const cluster = await createTestCluster();
  onTestFinished(async () => await cluster.remove());
  const own = await cluster.createDatabase({ schema: 'tables' });
  onTestFinished(async () => await own.drop());
  const { token: pass } = await createUser(own.pool, 'root', { superuser: true });
  const { projectId, environments } = await seedProject(own.pool);
  const channel = { projectId, environmentId: environments.prod };
  await own.pool.query(
    `WITH change AS (
       INSERT INTO pending_changes (project_id, environment_id, requested_by, change, status)
       VALUES ($1, $2, 'bob', '{"entities":[]}', 'rejected') RETURNING id
     )
     INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
     SELECT id, 'feature', gen_random_uuid() FROM change`,
    [projectId, environments.prod],
  );
  await own.pool.query('CHECKPOINT');
  const before = await startTestServer(own.url);
  onTestFinished(async () => await before.close());
  await withClient(own.url, async (writer) => {
    // What was written and not committed is in the write-ahead log and not on the disk.
    await writer.query('BEGIN');
    await insertAudit(writer, channel);
    const justStarted = await startTestServer(own.url);
    onTestFinished(async () => await justStarted.close());
    const first = await V1Client.connect(justStarted.wsUrl, { token: pass });
    const cursor = await first.caughtUp(channel);
    await first.close();
    const second = await V1Client.connect(before.wsUrl, { token: pass });
    await second.caughtUp(channel, cursor);
    expect(received(second)).toStrictEqual([]);
    await second.close();
  });
});

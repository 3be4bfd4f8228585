import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Lifecycle } from '../../server/src/lifecycle.js';
import {
  createTestDatabase,
  decideRequest,
  insertAudit,
  insertRequest,
  installRole,
  seedProject,
  type TestDatabase,
} from '../../server/test/database.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { type FleetMember, startMember, startRelayed } from './relay-fleet.js';
import { createUser, nextEvent, startTestServer } from '../../server/test/server.js';
import { type TestChannel, V1Client } from '../../server/test/v1-client.js';
import { compare, watchAll } from '../../server/test/watched.js';
import { runWriters } from '../../server/test/writers.js';

describe.skipIf(!hasNatsServer)('servers that share a reader through NATS', () => {
  let nats: TestNats;
  let database: TestDatabase;
  let token: string;
  let channels: { prod: TestChannel; stage: TestChannel };
  const cleanUps: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    nats = await startNats();
  });
  afterAll(async () => {
    await nats.remove();
  });
  beforeEach(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    const { projectId, environments } = await seedProject(database.pool);
    const { prod, stage } = environments;
    channels = { prod: { projectId, environmentId: prod }, stage: { projectId, environmentId: stage } };
    token = (await createUser(database.pool, 'viewer', { superuser: true })).token;
  });
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    await database.drop();
  });

  async function start(relayUrl = nats.url): Promise<FleetMember> {
    const member = await startMember(database, relayUrl);
    cleanUps.push(async () => await member.server.close());
    return member;
  }

  async function connect({ server }: Pick<FleetMember, 'server'>): Promise<V1Client> {
    const client = await V1Client.connect(server.wsUrl, { token });
    cleanUps.push(async () => await client.close());
    return client;
  }

  async function write(channel: TestChannel, count: number): Promise<string[]> {
    const entityIds: string[] = [];
    for (let index = 0; index < count; index += 1) {
      entityIds.push((await insertAudit(database.pool, channel)).entityId);
    }
    return entityIds;
  }

  const receivedIds = (client: V1Client): string[] => client.events.map((event) => event.entity_id);

  it('have one leader that reads, and the clients of all servers receive every event once and in order', async () => {
    const [reader, follower] = [await start(), await start()];
    expect([reader.leads, follower.leads]).toEqual([true, false]);
    let reads = 0;
    follower.lifecycle.on('reader:read', () => (reads += 1));
    const clients = [await connect(reader), await connect(follower)];
    for (const client of clients) await client.caughtUp(channels.prod);
    const written = await write(channels.prod, 20);
    for (const client of clients) {
      await client.event(written.at(-1) ?? '');
      expect(receivedIds(client)).toEqual(written);
    }
    expect(reads).toBe(0);
  });

  it('replay missed events of a channel without subscribers from the log in NATS', async () => {
    const [reader, follower] = [await start(), await start()];
    const first = await connect(reader);
    await first.caughtUp(channels.stage);
    // The log starts with the first read of the elected reader, and the cursor has to be later.
    await write(channels.prod, 1);
    const cursor = await first.settled(database.pool);
    const missed = await write(channels.stage, 5);
    await first.event(missed.at(-1) ?? '');
    const resumed = nextEvent(follower.lifecycle, 'channel:resumed');
    const second = await connect(follower);
    // This server may not have applied commits that the leader has already delivered.
    await second.caughtUp(channels.stage, cursor);
    await second.event(missed.at(-1) ?? '');
    expect(receivedIds(second)).toEqual(missed);
    expect((await resumed).source).toBe('log');
    const [later = ''] = await write(channels.stage, 1);
    await second.event(later);
    expect(receivedIds(second)).toEqual([...missed, later]);
  });

  it('deliver the approvals feed on every server, in order, with and without subscribed channels', async () => {
    const [reader, follower] = [await start(), await start()];
    const clients = [await connect(reader), await connect(follower), await connect(follower)];
    await clients[2]?.caughtUp(channels.prod);
    for (const client of clients) await client.caughtUpFeed();
    const requested: string[] = [];
    for (const channel of [channels.prod, channels.stage, channels.prod, channels.stage]) {
      await write(channel, 2);
      requested.push((await insertRequest(database.pool, channel)).id);
    }
    await decideRequest(database.pool, requested[0] ?? '', 'rejected');
    const expected = [...requested.map((id) => [id, 'pending']), [requested[0], 'rejected']];
    for (const client of clients) {
      await client.message(
        (message) => 'feed' in message && 'source' in message && message.action === 'rejected',
      );
      const steps = client.events.filter(({ feed }) => feed === 'approvals');
      expect(steps.map((step) => [step.pending_change_id, step.action])).toEqual(expected);
      expect(steps.at(-1)?.pending_change?.decision_reason).toBe('not on Fridays');
    }
    // The channel got each event once, too.
    const ofChannel = clients[2]?.events.filter((event) => event.feed === undefined) ?? [];
    expect(new Set(ofChannel.map(({ id }) => id)).size).toBe(ofChannel.length);
    expect(ofChannel).toHaveLength(7);
  });

  it('can be mixed with a server without the relay: clients resume on any of them', async () => {
    const relayed = [await start(), await start()];
    const timing = { heartbeatIntervalMs: 200 };
    const alone = {
      server: await startTestServer(database.url, { database: { pollIntervalMs: 100 }, timeouts: timing }),
    };
    cleanUps.push(async () => await alone.server.close());
    let cursor: string | undefined;
    const seen: string[] = [];
    const written: string[] = [];
    for (const server of [relayed[1], alone, relayed[0], alone, relayed[1]]) {
      if (server === undefined) throw new Error('no server');
      const client = await connect(server);
      await client.caughtUp(channels.prod, cursor);
      const ids = [...(await write(channels.prod, 3))];
      written.push(...ids);
      await client.event(ids.at(-1) ?? '');
      cursor = await client.settled(database.pool);
      seen.push(...receivedIds(client));
      written.push(...(await write(channels.prod, 2)));
    }
    expect(seen).toEqual(written.slice(0, -2));
  });

  it('lose and repeat no event while the leader loses its lock and NATS is killed', async () => {
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    const members = [await start(), await start(), await start()];
    const clients = await watchAll(
      database,
      members.map(({ server }) => server),
    );
    const anyOf = async (name: 'relay:elected' | 'relay:following' | 'relay:lost'): Promise<unknown> =>
      await Promise.race(members.map(async ({ lifecycle }) => await nextEvent(lifecycle, name)));
    const breaking = (async () => {
      for (let round = 0; round < 3; round += 1) {
        const elected = anyOf('relay:elected');
        await database.pool.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'flagcast relay'`,
        );
        await elected;
        const lost = anyOf('relay:lost');
        await nats.stop();
        await lost;
        await nats.start();
        await anyOf('relay:following');
      }
    })();
    const watched = [...(clients[0]?.keys() ?? [])];
    const writing = { databaseUrl: database.url, channels: watched, writers: 8, minEvents: 300 };
    await runWriters({ ...writing, until: breaking });
    await breaking;
    for (const ofServer of clients) {
      expect(await compare(database, ofServer)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    }
  });

  it('continue after NATS has lost its data: missed events come from the database', async () => {
    const members = [await start(), await start()];
    const clients = await Promise.all(members.map(connect));
    for (const client of clients) await client.caughtUp(channels.prod);
    const cursor = await clients[0]?.settled(database.pool);
    const before = await write(channels.prod, 3);
    for (const client of clients) await client.event(before.at(-1) ?? '');
    const following = Promise.race(
      members.map(async ({ lifecycle }) => await nextEvent(lifecycle, 'relay:following')),
    );
    await nats.stop();
    await nats.forget();
    await nats.start();
    await following;
    const after = await write(channels.prod, 3);
    for (const client of clients) {
      await client.event(after.at(-1) ?? '');
      expect(receivedIds(client)).toEqual([...before, ...after]);
    }
    const cold = await start();
    expect(cold.leads).toBe(false);
    const resumed = nextEvent(cold.lifecycle, 'channel:resumed');
    const client = await connect(cold);
    await client.caughtUp(channels.prod, cursor);
    expect(receivedIds(client)).toEqual([...before, ...after]);
    expect((await resumed).source).toBe('database');
  });

  it('split events into several messages, and read an event that is too large from the database', async () => {
    const small = await startNats({ maxPayload: 2_500 });
    cleanUps.push(async () => await small.remove());
    const members = [await start(small.url), await start(small.url)];
    const follower = members[1];
    if (follower === undefined) throw new Error('no follower');
    const client = await connect(follower);
    await client.caughtUp(channels.prod);
    let directly = 0;
    follower.lifecycle.on('relay:direct', () => (directly += 1));
    const { pool } = database;
    const writer = await pool.connect();
    await writer.query('BEGIN');
    const written: string[] = [];
    for (let index = 0; index < 30; index += 1)
      written.push((await insertAudit(writer, channels.prod)).entityId);
    await writer.query('COMMIT');
    writer.release();
    await client.event(written.at(-1) ?? '');
    expect(receivedIds(client).toSorted()).toEqual(written.toSorted());
    expect(directly).toBe(0);
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO features (project_id, key, name, description, kind)
       VALUES ($1, 'large', repeat('🚩', 50), repeat('🚩', 300), 'simple') RETURNING id`,
      [channels.prod.projectId],
    );
    const featureId = rows[0]?.id ?? '';
    const back = nextEvent(follower.lifecycle, 'relay:following');
    await insertAudit(pool, { ...channels.prod, featureId });
    expect((await client.event(featureId)).feature?.key).toBe('large');
    await back;
    expect(directly).toBe(1);
    const [last = ''] = await write(channels.prod, 1);
    await client.event(last);
    expect(client.events).toHaveLength(32);
  });

  it('each read the database until NATS can be reached, and report that once', async () => {
    await nats.stop();
    const lifecycle = new Lifecycle();
    let losses = 0;
    lifecycle.on('relay:lost', () => (losses += 1));
    const lost = nextEvent(lifecycle, 'relay:lost');
    const server = await startRelayed(database, nats.url, { lifecycle });
    cleanUps.push(async () => await server.close());
    const client = await connect({ server });
    await client.caughtUp(channels.prod);
    const [first = ''] = await write(channels.prod, 1);
    await client.event(first);
    await lost;
    const elected = nextEvent(lifecycle, 'relay:elected');
    await nats.start();
    await elected;
    expect(losses).toBe(1);
    const [second = ''] = await write(channels.prod, 1);
    await client.event(second);
    expect(receivedIds(client)).toEqual([first, second]);
  });

  it('stay stale while none of them can read the log, whichever leads', async () => {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    const url = await installRole(database, role);
    cleanUps.push(async () => void (await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)));
    const states: string[] = [];
    const members: FleetMember[] = [];
    for (const name of ['one', 'two']) {
      const lifecycle = new Lifecycle();
      lifecycle.on('freshness:changed', ({ state }) => states.push(`${name} ${state}`));
      members.push(await startMember({ url }, nats.url, lifecycle));
      cleanUps.push(async () => await members.pop()?.server.close());
    }
    const each = async (event: 'freshness:changed' | 'reader:recovered'): Promise<unknown> =>
      await Promise.all(members.map(async ({ lifecycle }) => await nextEvent(lifecycle, event)));
    const stale = each('freshness:changed');
    await database.pool.query(`REVOKE SELECT ON flagcast.event_log FROM ${role}`);
    await stale;
    for (let elections = 0; elections < 3; elections += 1)
      await Promise.race(members.map(async ({ lifecycle }) => await nextEvent(lifecycle, 'relay:elected')));
    expect(states.toSorted()).toEqual(['one stale', 'two stale']);
    const fresh = each('freshness:changed');
    await database.pool.query(`GRANT SELECT ON flagcast.event_log TO ${role}`);
    await fresh;
    expect(states.slice(2).toSorted()).toEqual(['one fresh', 'two fresh']);
  });

  it('do not share the reader of a view, and each read it', async () => {
    const { pool } = database;
    await pool.query(
      `CREATE VIEW plain_events AS SELECT source, event_id, project_id, environment_id, environment_key,
         entity, entity_id, action, created_at FROM flagcast.v_realtime_events`,
    );
    const lifecycle = new Lifecycle();
    const refused = nextEvent(lifecycle, 'relay:refused');
    const server = await startRelayed(database, nats.url, { database: { view: 'plain_events' }, lifecycle });
    cleanUps.push(async () => await server.close());
    expect((await refused).message).toContain('there is no event log');
    const client = await connect({ server });
    await client.caughtUp(channels.prod);
    const [only = ''] = await write(channels.prod, 1);
    await client.event(only);
  });
});

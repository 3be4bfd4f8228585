import { afterEach, describe, expect, it } from 'vitest';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { EventLog } from '../src/event-log.js';
import { connectNats, type NatsSession } from '../src/nats-connection.js';
import { createTestDatabase, insertAudit, type TestDatabase } from '../../server/test/database.js';
import { hasNatsServer, startNatsCluster, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { startMember } from './relay-fleet.js';
import type { PlainClient } from '../../server/test/plain-client.js';
import { nextEvent, type TestServer } from '../../server/test/server.js';
import { compare, type WatchedChannel, watchAll } from '../../server/test/watched.js';

const cleanUps: (() => Promise<void>)[] = [];

/** One of the servers that share a reader. */
class Member {
  readonly lifecycle = new Lifecycle();
  role: 'direct' | 'following' | 'leading' = 'direct';
  /** The NATS server that it is connected to. */
  node = '';

  constructor() {
    this.lifecycle.on('relay:connected', ({ server }) => (this.node = server));
    this.lifecycle.on('relay:elected', () => (this.role = 'leading'));
    this.lifecycle.on('relay:following', () => (this.role = 'following'));
    this.lifecycle.on('relay:direct', () => (this.role = 'direct'));
    this.lifecycle.on('relay:leadership-lost', () => (this.role = 'direct'));
  }
}

const readerOf = (members: readonly Member[]): Member => {
  const reader = members.find(({ role }) => role === 'leading');
  if (reader === undefined) throw new Error('no server leads');
  return reader;
};

/** Resolves when one server leads and the others follow. */
async function settled(members: readonly Member[]): Promise<void> {
  const areSettled = (): boolean =>
    members.every(({ role }) => role !== 'direct') &&
    members.filter(({ role }) => role === 'leading').length === 1;
  while (!areSettled()) {
    const changes = members.flatMap(({ lifecycle }) => [
      nextEvent(lifecycle, 'relay:elected'),
      nextEvent(lifecycle, 'relay:following'),
    ]);
    await Promise.race<unknown>(changes);
  }
}

/** Writes into one channel after the other until it is aborted, each time after its client has received the event before. */
async function write(
  { pool }: TestDatabase,
  clients: ReadonlyMap<WatchedChannel, PlainClient>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    for (const [channel, client] of clients) {
      const { entityId } = await insertAudit(pool, channel);
      await client.received(({ entity_id: id }) => id === entityId);
    }
  }
}

describe.skipIf(!hasNatsServer)('servers that share a reader through a NATS cluster', () => {
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  async function startCluster(count: number): Promise<TestNats[]> {
    const nodes = await startNatsCluster(count);
    cleanUps.push(async () => void (await Promise.all(nodes.map(async (node) => await node.remove()))));
    return nodes;
  }

  async function connect(nodes: readonly TestNats[]): Promise<NatsSession> {
    const session = await connectNats(nodes.map(({ url }) => url).join(','));
    cleanUps.push(async () => await session.connection.close());
    return session;
  }

  it('deliver every event once while any server of the cluster is lost', async () => {
    const nodes = await startCluster(3);
    const session = await connect(nodes);
    const database = await createTestDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const members = [new Member(), new Member()];
    const servers: TestServer[] = [];
    for (const { lifecycle } of members) {
      const relayUrl = nodes.map(({ url }) => url).join(',');
      const { server } = await startMember(database, relayUrl, lifecycle);
      cleanUps.push(async () => await server.close());
      servers.push(server);
    }
    const [stream = ''] = await session.jetstream.streams.names().next();
    expect((await session.jetstream.streams.info(stream)).config.num_replicas).toBe(3);
    const clients = await watchAll(database, servers);
    const writing = new AbortController();
    const written = write(database, clients[0] ?? new Map<WatchedChannel, PlainClient>(), writing.signal);

    const disconnected = readerOf(members);
    const lost = nextEvent(disconnected.lifecycle, 'relay:lost');
    const near = nodes.find(({ address }) => address === disconnected.node);
    // Another NATS server leads the stream, so that the second fault below is a different one.
    if (near?.address === (await session.jetstream.streams.info(stream)).cluster?.leader) {
      await session.connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`);
    }
    await near?.stop();
    await lost;
    await settled(members);

    await near?.start();
    const { jetstream } = await connect(nodes.filter((node) => node !== near));
    // Without a majority nothing can be stored.
    await expect
      .poll(async () => {
        const { cluster } = await jetstream.streams.info(stream).catch(() => ({ cluster: undefined }));
        return cluster?.replicas?.map(({ current, offline }) => current && !offline);
      })
      .toEqual([true, true]);
    const { cluster } = await jetstream.streams.info(stream);
    const leadershipLost = nextEvent(readerOf(members).lifecycle, 'relay:leadership-lost');
    await nodes.find(({ address }) => address === cluster?.leader)?.stop();
    await leadershipLost;
    await settled(members);

    writing.abort();
    await written;
    for (const ofServer of clients) {
      expect(await compare(database, ofServer)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    }
  });

  it('store the log on one server if the cluster has only two', async () => {
    const session = await connect(await startCluster(2));
    const opened = async (): Promise<EventLog | null> =>
      await EventLog.open(session, { id: 'two', retentionMs: 60_000 }).catch(() => null);
    await expect.poll(opened).not.toBeNull();
    expect((await session.jetstream.streams.info('flagcast_v1_two')).config.num_replicas).toBe(1);
  });
});

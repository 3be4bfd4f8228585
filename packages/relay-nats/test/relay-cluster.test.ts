import { afterEach, describe, expect, it } from 'vitest';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { EventLog } from '../src/event-log.js';
import { connectNats, type NatsSession } from '../src/nats-connection.js';
import { createTestDatabase, insertAudit, type TestDatabase } from '../../server/test/database.js';
import { hasNatsServer, startNatsCluster, type TestNats } from './nats-server.js';
import { startMember } from './relay-fleet.js';
import { nextEvent, type TestServer } from '../../server/test/server.js';
import { compare, type WatchedChannel, watchAll } from '../../server/test/watched.js';

const cleanUps: (() => Promise<void>)[] = [];
/** A cluster that has begun or lost a server elects who leads, which takes seconds. */
const patience = { timeout: 20_000, interval: 100 };

/** One of the servers that share a reader, and what it is by what it has told. */
class Member {
  readonly lifecycle = new Lifecycle();
  role: 'direct' | 'following' | 'leading' = 'direct';
  /** The server of NATS that it is connected to. */
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
  if (reader === undefined) throw new Error('nobody reads');
  return reader;
};

/** Resolves when one reads and the others follow. */
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

/** Writes into the channels by turns until it is aborted. */
async function write(
  { pool }: TestDatabase,
  channels: readonly WatchedChannel[],
  signal: AbortSignal,
): Promise<void> {
  for (let index = 0; !signal.aborted; index += 1) {
    const channel = channels[index % channels.length];
    if (channel !== undefined) await insertAudit(pool, channel);
    await pool.query('SELECT pg_sleep(0.05)');
  }
}

describe.skipIf(!hasNatsServer)('with a cluster of NATS', () => {
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  async function startCluster(count: number): Promise<TestNats[]> {
    const nodes = await startNatsCluster(count);
    cleanUps.push(async () => void (await Promise.all(nodes.map(async (node) => await node.remove()))));
    return nodes;
  }

  async function connect(nodes: readonly TestNats[]): Promise<NatsSession> {
    const line = await connectNats(nodes.map(({ url }) => url).join(','));
    cleanUps.push(async () => await line.connection.close());
    return line;
  }

  it('any server can be lost: every client gets every event once, and the relay goes on', async () => {
    const nodes = await startCluster(3);
    const line = await connect(nodes);
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
    const [stream = ''] = await line.jetstream.streams.names().next();
    expect((await line.jetstream.streams.info(stream)).config.num_replicas).toBe(3);
    const clients = await watchAll(database, servers);
    const writing = new AbortController();
    const written = write(database, [...(clients[0]?.keys() ?? [])], writing.signal);

    const disconnected = readerOf(members);
    const lost = nextEvent(disconnected.lifecycle, 'relay:lost');
    const near = nodes.find(({ address }) => address === disconnected.node);
    // Another one is to lead, so that what follows breaks another thing.
    if (near?.address === (await line.jetstream.streams.info(stream)).cluster?.leader) {
      await line.connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${stream}`);
    }
    await near?.stop();
    await lost;
    await settled(members);

    await near?.start();
    // Without a majority nothing would be stored.
    await expect
      .poll(async () => {
        const { cluster } = await line.jetstream.streams.info(stream).catch(() => ({ cluster: undefined }));
        return cluster?.replicas?.map(({ current, offline }) => current && !offline);
      }, patience)
      .toEqual([true, true]);
    const { cluster } = await line.jetstream.streams.info(stream);
    const deposed = nextEvent(readerOf(members).lifecycle, 'relay:leadership-lost');
    await nodes.find(({ address }) => address === cluster?.leader)?.stop();
    await deposed;
    await settled(members);

    writing.abort();
    await written;
    for (const ofServer of clients) {
      expect(await compare(database, ofServer)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    }
  }, 40_000);

  it('of two servers the log is kept on one', async () => {
    const line = await connect(await startCluster(2));
    const opened = async (): Promise<EventLog | null> =>
      await EventLog.open(line, { id: 'two', retentionMs: 60_000 }).catch(() => null);
    await expect.poll(opened, patience).not.toBeNull();
    expect((await line.jetstream.streams.info('flagcast_v1_two')).config.num_replicas).toBe(1);
  });
});

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  allowLargeEvents,
  createTestCluster,
  insertAudit,
  largeEntity,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import {
  burst,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  type TestServerOptions,
} from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

const highWaterBytes = 1_048_576;

/**
 * Its own, without other writers: a cursor leaves out what has not reached the disk, which here would be more than
 * is brought one by one.
 */
let cluster: TestCluster;
let database: TestDatabase;
let token: string;

beforeAll(async () => {
  cluster = await createTestCluster({ autovacuum: 'off', wal_level: 'minimal', max_wal_senders: '0' });
  database = await cluster.createDatabase({ schema: 'tables' });
  await withClient(database.url, async (client) => {
    await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    await client.query(`ALTER DATABASE ${database.name} SET lock_timeout = '500ms'`);
    await allowLargeEvents(client);
  });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
});

afterAll(async () => {
  await database.drop();
  await cluster.remove();
});

async function start(options: TestServerOptions = {}): Promise<TestServer> {
  const server = await startTestServer(database.url, options);
  onTestFinished(async () => await server.close());
  return server;
}

async function freshChannels(): Promise<TestChannel[]> {
  const { projectId, environments } = await seedProject(database.pool);
  return Object.values(environments).map((environmentId) => ({ projectId, environmentId }));
}

async function freshChannel(): Promise<TestChannel> {
  const [channel] = await freshChannels();
  if (channel === undefined) throw new Error('no channel');
  return channel;
}

interface SlowClient {
  readonly client: V1Client;
  /** The server's end of its connection. */
  readonly line: Socket;
}

async function connect(server: TestServer): Promise<SlowClient> {
  const accepted = once(server.http, 'connection');
  const client = await V1Client.connect(server.wsUrl, { token });
  onTestFinished(() => client.socket.terminate());
  const [line] = (await accepted) as [Socket];
  await client.control('hello');
  return { client, line };
}

/** The client reads nothing from now on, and so much is written that the server has to stop. */
async function fallBehind(
  server: TestServer,
  { client, line }: SlowClient,
  channel: TestChannel,
): Promise<void> {
  client.socket.pause();
  // Less than a page of the reader at a time, so that the cursor covers every event.
  while (line.writableLength <= highWaterBytes) await burst(server, database.pool, channel, 100, largeEntity);
}

/** Resolves when the server has handed bytes with this text to the socket. */
async function written(line: Socket, text: string): Promise<void> {
  const write: (chunk: Uint8Array | string) => boolean = line.write.bind(line);
  await new Promise<void>((resolve) => {
    line.write = (chunk: Uint8Array | string) => {
      if (Buffer.from(chunk as Uint8Array).includes(text)) resolve();
      return write(chunk);
    };
  });
}

async function committed({ projectId, environmentId }: TestChannel): Promise<string[]> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT entity_id AS id FROM audit_log WHERE project_id = $1 AND environment_id = $2 ORDER BY audit_log.id',
    [projectId, environmentId],
  );
  return rows.map(({ id }) => id);
}

function receivedOf(client: V1Client, { environmentId, projectId }: TestChannel): string[] {
  const environment = client.messages.find(
    (message) =>
      message.type === 'caught_up' && 'environment_id' in message && message.environment_id === environmentId,
  );
  return client.events
    .filter(
      (event) =>
        event.project_id === projectId &&
        environment !== undefined &&
        'environment' in environment &&
        event.environment === environment.environment,
    )
    .map((event) => event.entity_id);
}

describe('G8: a flagcast.v1 client that does not read', () => {
  it('gets events that the replay buffer has dropped from the database, on the same connection', async () => {
    const server = await start({ limits: { replayEvents: 100 } });
    const slow = await connect(server);
    const channel = await freshChannel();
    await slow.client.caughtUp(channel);
    for (let time = 0; time < 2; time += 1) {
      await fallBehind(server, slow, channel);
      // The replay buffer holds only the last of these.
      for (let more = 0; more < 8; more += 1) await burst(server, database.pool, channel, 100);
      const resumed = nextEvent(server.flagcast.lifecycle, 'channel:resumed');
      slow.client.socket.resume();
      expect((await resumed).source).toBe('database');
      const { entityId } = await insertAudit(database.pool, channel);
      await slow.client.event(entityId);
      expect(receivedOf(slow.client, channel)).toStrictEqual(await committed(channel));
    }
    // caught_up is not sent again.
    expect(slow.client.messages.filter(({ type }) => type === 'caught_up')).toHaveLength(1);
  });

  it('gets a resync if it missed more than 1,000 events', async () => {
    const server = await start({ limits: { replayEvents: 100 } });
    const slow = await connect(server);
    const channel = await freshChannel();
    await slow.client.caughtUp(channel);
    await fallBehind(server, slow, channel);
    for (let more = 0; more < 11; more += 1) await burst(server, database.pool, channel, 100);
    slow.client.socket.resume();
    expect(await slow.client.control('resync')).toMatchObject({ reason: 'too_many_missed' });
    // It stays connected, and takes a new snapshot of that channel.
    await slow.client.caughtUp(channel);
    const { entityId } = await insertAudit(database.pool, channel);
    await slow.client.event(entityId);
  });

  it('keeps its other channels when it unsubscribes one whose missed events cannot be read', async () => {
    const server = await start({ limits: { replayEvents: 100 } });
    const slow = await connect(server);
    const channel = await freshChannel();
    const other = await freshChannel();
    await slow.client.caughtUp(channel);
    await slow.client.caughtUp(other);
    await fallBehind(server, slow, channel);
    for (let more = 0; more < 3; more += 1) await burst(server, database.pool, channel, 100);
    await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE flagcast.event_log');
      const waiting = async (): Promise<number | null> => {
        const { rowCount } = await database.pool.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database()
           AND application_name = 'flagcast requests' AND wait_event_type = 'Lock'`,
        );
        return rowCount;
      };
      slow.client.socket.resume();
      await expect.poll(waiting).toBe(1);
      const { projectId, environmentId } = channel;
      await slow.client.ask(
        { type: 'unsubscribe', project_id: projectId, env_id: environmentId },
        'unsubscribed',
      );
      await expect.poll(waiting).toBe(0);
    });
    const { entityId } = await insertAudit(database.pool, other);
    await slow.client.event(entityId);
  });

  it('has no events buffered by the server when it resumes many channels', async () => {
    const server = await start();
    const channels: TestChannel[] = [];
    while (channels.length < 9) channels.push(...(await freshChannels()));
    const before = await connect(server);
    const [first] = channels;
    if (first === undefined) throw new Error('no channels');
    const cursor = await before.client.caughtUp(first);
    for (const channel of channels) await burst(server, database.pool, channel, 950);
    const { client, line } = await connect(server);
    line.cork();
    const carriedOut = written(line, '"pong"');
    for (const { projectId, environmentId } of channels) {
      client.send({ type: 'subscribe', project_id: projectId, env_id: environmentId, cursor });
    }
    client.send({ type: 'ping' });
    await carriedOut;
    const buffered = line.writableLength;
    const { entityId } = await insertAudit(database.pool, first);
    await before.client.event(entityId);
    line.uncork();
    for (const channel of channels) {
      await client.message(
        (message) =>
          message.type === 'caught_up' &&
          'environment_id' in message &&
          message.environment_id === channel.environmentId,
      );
    }
    await client.event(entityId);
    for (const channel of channels) {
      expect(receivedOf(client, channel)).toStrictEqual(await committed(channel));
    }
    expect(buffered).toBeGreaterThan(highWaterBytes);
    expect(buffered).toBeLessThan(2 * highWaterBytes);
  });
});

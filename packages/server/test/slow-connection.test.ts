import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TimeoutOptions } from '../src/flagcast-options.js';
import {
  allowLargeEvents,
  createTestDatabase,
  insertAudit,
  largeEntity,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { scrape } from './scrape.js';
import { burst, createUser, nextEvent, startTestServer, type TestServer } from './server.js';

const highWaterBytes = 1_048_576;
/** The events of a burst; the reader may take them in several pages. */
const batchEvents = 100;
const replayEvents = 1_500;
/** With three times as many the memory for clients that fall behind is exceeded. */
const manyEvents = 600;

let database: TestDatabase;
let server: TestServer;
let token: string;
let channel: { projectId: string; environmentId: string };

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  // The cluster allows prepared transactions, so notifications have to be switched on.
  const { name, url } = database;
  await withClient(url, async (client) => {
    await client.query(`ALTER DATABASE ${name} SET flagcast.notify = 'on'`);
    await allowLargeEvents(client);
  });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
});

afterEach(async () => {
  await server.close();
  await database.drop();
});

async function start(timing: TimeoutOptions = {}): Promise<void> {
  server = await startTestServer(database.url, { timeouts: timing, limits: { replayEvents } });
}

/** A client, with the server's end of its line. */
async function connect(): Promise<{ client: PlainClient; line: Socket }> {
  const accepted = once(server.http, 'connection');
  const query = { project_id: channel.projectId, env_id: channel.environmentId };
  const client = await PlainClient.connect(server.wsUrl, query, { token });
  const [line] = (await accepted) as [Socket];
  return { client, line };
}

/** Writes batches until the buffers of the network are full and the server has to stop. */
async function fill(line: Socket): Promise<void> {
  while (!line.destroyed && line.writableLength <= highWaterBytes)
    await burst(server, database.pool, channel, batchEvents, largeEntity);
}

/** All that a client got up to an event that is written now, by entity. */
async function messagesOf(...clients: PlainClient[]): Promise<string[][]> {
  const { entityId } = await insertAudit(database.pool, channel);
  return await Promise.all(
    clients.map(async (client) => {
      await client.received(({ entity_id: id }) => id === entityId);
      return client.messages.map(({ entity_id: id }) => id);
    }),
  );
}

async function committed(): Promise<string[]> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT entity_id AS id FROM audit_log ORDER BY audit_log.id',
  );
  return rows.map(({ id }) => id);
}

describe('G8: a client that does not read', () => {
  it('has no events buffered by the server, does not delay others, and gets each event once when it reads again', async () => {
    await start();
    const slow = await connect();
    const quick = await connect();
    for (let time = 0; time < 2; time += 1) {
      const { flagcast_pauses_total: pauses = 0 } = Object.fromEntries(await scrape(server.httpUrl));
      slow.client.socket.pause();
      await fill(slow.line);
      const buffered = slow.line.writableLength;
      // What it had been sent when it was paused: the limit, and the batch that went past it.
      expect(buffered).toBeLessThan(3 * highWaterBytes);
      // Fewer than the replay buffer holds.
      for (let more = 0; more < 9; more += 1) await burst(server, database.pool, channel, 100, largeEntity);
      const paused = await scrape(server.httpUrl);
      expect(paused.get('flagcast_connections_paused')).toBe(1);
      expect(paused.get('flagcast_pauses_total')).toBe(pauses + 1);
      // Pings are still tried.
      expect(slow.line.writableLength - buffered).toBeLessThan(100);
      const [received] = await messagesOf(quick.client);
      expect(received).toStrictEqual(await committed());

      slow.client.socket.resume();
      const [late] = await messagesOf(slow.client);
      expect(late).toStrictEqual(await committed());
      const drained = await scrape(server.httpUrl);
      expect(drained.get('flagcast_connections_paused')).toBe(0);
      // On a busy machine, the missed events may have filled its buffer again.
      expect(drained.get('flagcast_pauses_drained_total')).toBe(drained.get('flagcast_pauses_total'));
    }
  });

  it('is closed with 4002 if it falls too far behind, after it has received the events that were sent', async () => {
    await start();
    const slow = await connect();
    const quick = await connect();
    slow.client.socket.pause();
    await fill(slow.line);
    for (let more = 0; more < 3; more += 1)
      await burst(server, database.pool, channel, manyEvents, largeEntity);
    slow.client.socket.resume();
    expect(await slow.client.closed).toStrictEqual({ code: 4002, reason: 'slow' });
    const received = slow.client.messages.map(({ entity_id: id }) => id);
    const all = await committed();
    expect(received.length).toBeGreaterThan(0);
    expect(received.length).toBeLessThan(all.length);
    expect(received).toStrictEqual(all.slice(0, received.length));
    expect(await messagesOf(quick.client)).toStrictEqual([await committed()]);
  });

  it('stays connected if only other channels were busy meanwhile', async () => {
    await start();
    const slow = await connect();
    slow.client.socket.pause();
    await fill(slow.line);
    const mine = channel;
    const { projectId, environments } = await seedProject(database.pool);
    channel = { projectId, environmentId: environments.prod };
    for (let more = 0; more < 3; more += 1)
      await burst(server, database.pool, channel, manyEvents, largeEntity);
    channel = mine;
    slow.client.socket.resume();
    const [received] = await messagesOf(slow.client);
    expect(received).toHaveLength((await committed()).length - 3 * manyEvents);
  });

  it('is closed after a time-out, and other clients stay', async () => {
    await start({ checkIntervalMs: 50, slowTimeoutMs: 200 });
    const slow = await connect();
    const quick = await connect();
    slow.client.socket.pause();
    const closed = nextEvent(server.flagcast.lifecycle, 'connection:closed');
    await fill(slow.line);
    expect(await closed).toMatchObject({ code: 4002, reason: 'slow' });
    expect(slow.line.destroyed).toBe(true);
    slow.client.socket.resume();
    await slow.client.closed;
    expect(await messagesOf(quick.client)).toStrictEqual([await committed()]);
  });

  it('cannot make the server buffer answers', async () => {
    await start();
    const accepted = once(server.http, 'connection');
    const query = `project_id=${channel.projectId}&env_id=${channel.environmentId}`;
    const { socket } = await handshake(server.wsUrl, query, { Authorization: `Bearer ${token}` });
    const [line] = (await accepted) as [Socket];
    const closed = nextEvent(server.flagcast.lifecycle, 'connection:closed');
    let mostBuffered = 0;
    line.on('data', () => (mostBuffered = Math.max(mostBuffered, line.writableLength)));
    const mask = [0, 0, 0, 0];
    const ping = Buffer.from([0x89, 0xfd, ...mask, ...Buffer.alloc(125, 'x')]);
    const text = Buffer.from('{"type":"ping"}');
    const asked = Buffer.concat([ping, Buffer.from([0x81, 0x80 + text.length, ...mask]), text]);
    for (let count = 0; count < 150; count += 1)
      socket?.write(Buffer.concat(Array<Buffer>(1_000).fill(asked)));
    socket?.end();
    await once(line, 'end');
    socket?.destroy();
    // It was asked for 25 MB of answers, and ends the connection long before.
    expect(await closed).toMatchObject({ code: 4505, reason: 'too_many_messages' });
    expect(mostBuffered).toBeLessThan(65_536);
  });
});

describe('a burst', () => {
  it('of 300 events is delivered to each of 50 clients once and in order', async () => {
    await start();
    const clients: PlainClient[] = [];
    for (let count = 0; count < 50; count += 1) clients.push((await connect()).client);
    await burst(server, database.pool, channel, 300, largeEntity);
    const received = await messagesOf(...clients);
    const all = await committed();
    expect(all).toHaveLength(301);
    for (const ids of received) expect(ids).toStrictEqual(all);
  });
});

import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { createTestCluster, insertAudit, seedProject, type TestDatabase } from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';
import { runWriters } from './writers.js';

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

/** A client that disconnects and resumes from its last cursor. */
class Wanderer {
  readonly channel: TestChannel;
  readonly entityIdById = new Map<string, string>();
  visits = 0;
  resyncs = 0;
  #cursor: string | undefined;

  constructor(channel: TestChannel) {
    this.channel = channel;
  }

  /** Receives `messages` more than the replay; then its connection is cut. */
  async visit(server: TestServer, token: string, messages: number): Promise<void> {
    const client = await V1Client.connect(server.wsUrl, { token });
    const answer = await client.subscribe(this.channel, this.#cursor).catch(() => null);
    if (answer?.type === 'resync') this.resyncs += 1;
    for (let count = 0; count < messages; count += 1) {
      // Heartbeats are frequent.
      await client.message(() => true, client.messages.length).catch(() => null);
    }
    client.socket.terminate();
    this.#take(client);
  }

  /** Stays until it has got this event. */
  async catchUp(server: TestServer, token: string, entityId: string): Promise<void> {
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(this.channel, this.#cursor);
    await client.event(entityId);
    await client.close();
    this.#take(client);
  }

  #take({ messages }: V1Client): void {
    this.visits += 1;
    let isCaughtUp = false;
    for (const message of messages) {
      if ('source' in message) this.entityIdById.set(message.id, message.entity_id);
      if (message.type === 'caught_up') isCaughtUp = true;
      if (isCaughtUp && 'cursor' in message) this.#cursor = message.cursor;
    }
  }
}

async function committed(database: TestDatabase, channel: TestChannel): Promise<string[]> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT entity_id AS id FROM audit_log WHERE project_id = $1 AND environment_id = $2',
    [channel.projectId, channel.environmentId],
  );
  return rows.map(({ id }) => id).sort();
}

describe('G5: clients that move between two servers at random during writes', () => {
  // An event may repeat when the connection is cut within a batch: clients compare ids.
  it.each([
    ['', null],
    [', and PostgreSQL crashes', 'immediate'],
  ] as const)('have every event in the end%s', async (_, restart) => {
    const cluster = await createTestCluster({ max_prepared_transactions: '50' });
    cleanUps.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
    const { projectId, environments } = await seedProject(database.pool);
    const channels = Object.values(environments).map((environmentId) => ({ projectId, environmentId }));
    const servers: TestServer[] = [];
    // The replay buffer of one server is tiny.
    for (const replayBufferEvents of [10_000, 20]) {
      const server = await startTestServer(database.url, {
        database: { pollIntervalMs: 50 },
        limits: { replayEvents: replayBufferEvents },
        timeouts: { heartbeatIntervalMs: 20 },
      });
      cleanUps.push(async () => await server.close());
      servers.push(server);
    }
    const [first] = servers;
    if (first === undefined) throw new Error('no server');
    const sources = new Set<string>();
    for (const { flagcast } of servers) {
      flagcast.lifecycle.on('channel:resumed', ({ source }) => sources.add(source));
    }
    const wanderers = [...channels, ...channels, ...channels].map((channel) => new Wanderer(channel));
    for (const wanderer of wanderers) await wanderer.visit(first, token, 0);
    let writing = true;
    const wandering = wanderers.map(async (wanderer) => {
      while (writing) {
        const server = servers[Math.floor(Math.random() * 2)] ?? first;
        await wanderer.visit(server, token, Math.floor(Math.random() * 4));
      }
    });
    const restarting = (async () => {
      if (restart === null) return;
      for (let reads = 0; reads < 30; reads += 1) await nextEvent(first.flagcast.lifecycle, 'reader:read');
      const recovered = servers.map(
        async ({ flagcast }) => await nextEvent(flagcast.lifecycle, 'reader:recovered'),
      );
      await cluster.postgres.restart(restart);
      await Promise.all(recovered);
    })();
    await runWriters({ databaseUrl: database.url, channels, writers: 8, minEvents: 400, persistent: true });
    await restarting;
    writing = false;
    await Promise.all(wandering);
    for (const wanderer of wanderers) {
      const { entityId } = await insertAudit(database.pool, { ...wanderer.channel, entityId: randomUUID() });
      await wanderer.catchUp(first, token, entityId);
    }
    for (const wanderer of wanderers) {
      // The last events were written after some clients had disconnected.
      const { entityId } = await insertAudit(database.pool, { ...wanderer.channel, entityId: randomUUID() });
      await wanderer.catchUp(first, token, entityId);
      const received = [...wanderer.entityIdById.values()].sort();
      expect(received).toStrictEqual(await committed(database, wanderer.channel));
      expect(wanderer.resyncs).toBe(0);
      expect(wanderer.visits).toBeGreaterThan(5);
    }
    expect(sources).toStrictEqual(new Set(['buffer', 'database']));
  });
});

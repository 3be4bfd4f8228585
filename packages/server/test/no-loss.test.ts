import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { createTestCluster, createTestDatabase, type TestDatabase, withClient } from './database.js';
import type { PlainClient } from './plain-client.js';
import { nextEvent, startTestServer, type TestServer } from './server.js';
import { compare, watch, type WatchedChannel } from './watched.js';
import { runWriters } from './writers.js';

/** Runs the specification's query, taken literally, every 50 ms; returns how many events it never returned. */
async function runLiteralPoller(databaseUrl: string, until: Promise<unknown>): Promise<number> {
  let done = false;
  void until.finally(() => (done = true));
  return await withClient(databaseUrl, async (client) => {
    client.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text: string) => text);
    const seen = new Set<string>();
    let lastSeen = '-infinity';
    for (let finalRead = false; !finalRead;) {
      finalRead = done;
      const { rows } = await client.query<{ event_id: string; created_at: string }>(
        'SELECT * FROM v_realtime_events WHERE created_at > $1 ORDER BY created_at ASC',
        [lastSeen],
      );
      for (const row of rows) seen.add(row.event_id);
      lastSeen = rows.at(-1)?.created_at ?? lastSeen;
      await client.query('SELECT pg_sleep(0.05)');
    }
    const { rows } = await client.query<{ id: string }>('SELECT seq::text AS id FROM flagcast.event_log');
    return rows.filter((row) => !seen.has(row.id)).length;
  });
}

describe('every committed event, with any created_at, reaches every client of its channel once', () => {
  const cleanUps: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  async function setUp(
    database: TestDatabase,
    pollIntervalMs: number,
  ): Promise<{ server: TestServer; clients: Map<WatchedChannel, PlainClient>; channels: WatchedChannel[] }> {
    const server = await startTestServer(database.url, { database: { pollIntervalMs } });
    cleanUps.push(async () => await server.close());
    const clients = await watch(database, server);
    return { server, clients, channels: [...clients.keys()] };
  }

  async function sharedDatabase(): Promise<TestDatabase> {
    const database = await createTestDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    return database;
  }

  /** The cluster allows prepared transactions, so notifications have to be switched on. */
  async function notifyOn(database: TestDatabase): Promise<void> {
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  }

  it('G1: woken by NOTIFY, although the literal query of the specification loses some', async () => {
    const database = await sharedDatabase();
    await notifyOn(database);
    const { clients, channels } = await setUp(database, 1_000);
    const writing = runWriters({ databaseUrl: database.url, channels, writers: 8, minEvents: 600 });
    const lostByLiteralQuery = await runLiteralPoller(database.url, writing);
    await writing;
    const result = await compare(database, clients);
    expect(result).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    expect(result.committed).toBeGreaterThanOrEqual(600);
    expect(lostByLiteralQuery).toBeGreaterThan(0);
  });

  it('G2: with polling only', async () => {
    const database = await sharedDatabase();
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'off'`);
    const { server, clients, channels } = await setUp(database, 50);
    let woken = 0;
    server.flagcast.lifecycle.on('reader:read', ({ trigger }) => (woken += trigger === 'wake' ? 1 : 0));
    await runWriters({ databaseUrl: database.url, channels, writers: 8, minEvents: 300 });
    expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
    expect(woken).toBe(0);
  });

  it('while the session that reads and listens is killed again and again', async () => {
    const database = await sharedDatabase();
    await notifyOn(database);
    const { server, clients, channels } = await setUp(database, 1_000);
    const killing = (async () => {
      for (let killed = 0; killed < 5;) {
        for (let reads = 0; reads < 10; reads += 1) await nextEvent(server.flagcast.lifecycle, 'reader:read');
        const back = nextEvent(server.flagcast.lifecycle, 'listener:listening');
        const { rowCount } = await database.pool.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'flagcast reader'`,
        );
        killed += rowCount ?? 0;
        await back;
      }
    })();
    await runWriters({ databaseUrl: database.url, channels, writers: 8, minEvents: 300, until: killing });
    await killing;
    expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
  });

  it.each(['fast', 'immediate'] as const)('G4: while PostgreSQL is restarted (%s)', async (mode) => {
    const cluster = await createTestCluster({ max_prepared_transactions: '50' });
    cleanUps.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    await notifyOn(database);
    const { server, clients, channels } = await setUp(database, 200);
    const { lifecycle } = server.flagcast;
    const restarting = (async () => {
      for (let restarts = 0; restarts < 2; restarts += 1) {
        // Let some work be done in between.
        for (let reads = 0; reads < 30; reads += 1) await nextEvent(lifecycle, 'reader:read');
        const recovered = nextEvent(lifecycle, 'reader:recovered');
        await cluster.postgres.restart(mode);
        await recovered;
      }
    })();
    await runWriters({
      databaseUrl: database.url,
      channels,
      writers: 8,
      minEvents: 300,
      until: restarting,
      persistent: true,
    });
    await restarting;
    expect(await compare(database, clients)).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
  });
});

import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { describe, expect, it, onTestFinished } from 'vitest';
import { covers } from '../src/events/position.js';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
} from './database.js';
import { startTestReader } from './reader.js';
import { createUser, nextEvent, startTestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

/** The write-ahead log reaches the disk only when a synchronous commit forces it. */
async function createLazyCluster(): Promise<{
  cluster: TestCluster;
  database: TestDatabase;
  channel: TestChannel;
}> {
  const cluster = await createTestCluster({ wal_writer_delay: '10s', autovacuum: 'off' });
  onTestFinished(async () => await cluster.remove());
  const database = await cluster.createDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { projectId, environments } = await seedProject(database.pool);
  return { cluster, database, channel: { projectId, environmentId: environments.prod } };
}

interface Written {
  readonly xid: bigint;
  readonly seq: string;
  readonly entityId: string;
}

/** Writes one event in its own transaction. */
async function write(client: pg.Pool | pg.ClientBase, channel: TestChannel): Promise<Written> {
  const { entityId } = await insertAudit(client, channel);
  const { rows } = await client.query<{ xid: string; seq: string }>(
    'SELECT xid::text, seq::text FROM flagcast.event_log WHERE entity_id = $1',
    [entityId],
  );
  return { xid: BigInt(rows[0]?.xid ?? 0), seq: rows[0]?.seq ?? '', entityId };
}

async function connectHasty(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
  await client.query('SET synchronous_commit = off');
  return client;
}

describe('a crash of the database', () => {
  it('loses no event if it reuses the ids of transactions that were rolled back', async () => {
    const { cluster, database, channel } = await createLazyCluster();
    const { lifecycle, delivered, read } = await startTestReader(database);
    // If the reader had relied on the lost ids, the database would now be behind it.
    let historyLost = 0;
    lifecycle.on('reader:history-lost', () => (historyLost += 1));
    await read();
    const client = await connectHasty(database);
    for (let count = 0; count < 50; count += 1) {
      await client.query('BEGIN');
      await client.query('SELECT pg_current_xact_id()');
      await client.query('ROLLBACK');
    }
    const { rows } = await client.query<{ next: string }>(
      'SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next',
    );
    const nextBefore = BigInt(rows[0]?.next ?? 0);
    await read();
    const recovered = nextEvent(lifecycle, 'reader:recovered');
    await cluster.postgres.restart('immediate');
    await recovered;
    const ids: string[] = [];
    // The write-ahead log soon ends after its end before the crash, with other records in it.
    for (let count = 0; count < 3; count += 1) {
      const { xid, entityId } = await write(database.pool, channel);
      // The test needs a crash that lost ids.
      expect(xid).toBeLessThan(nextBefore);
      ids.push(entityId);
      await read();
    }
    expect(delivered()).toEqual(ids);
    expect(historyLost).toBe(0);
  });

  it('that undoes delivered commits is reported, and rows under the reused ids are delivered', async () => {
    const { cluster, database, channel } = await createLazyCluster();
    const { lifecycle, delivered, batches, read } = await startTestReader(database);
    await read();
    /** The commit that a crash undid, and the row that was written later under the same transaction id. */
    const crash = async (): Promise<{ gone: Written; late: pg.PoolClient; entityId: string } | null> => {
      // This commit is on disk, and so are all earlier ids.
      await insertAudit(database.pool, channel);
      const hasty = await connectHasty(database);
      const gone = await write(hasty, channel);
      await read();
      expect(delivered()).toContain(gone.entityId);
      const lost = nextEvent(lifecycle, 'reader:history-lost');
      await cluster.postgres.restart('immediate');
      const late = await database.pool.connect();
      await late.query('BEGIN');
      const { entityId } = await insertAudit(late, channel);
      const { rows } = await late.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
      if (BigInt(rows[0]?.xid ?? 0) === gone.xid) {
        expect((await lost).reason).toBe('a crash of the database took back commits that had been delivered');
        return { gone, late, entityId };
      }
      late.release(true);
      return null;
    };
    // Background work of PostgreSQL may flush the log before the crash, or use the id after it.
    let taken = await crash();
    for (let crashes = 1; taken === null && crashes < 5; crashes += 1) taken = await crash();
    if (taken === null) throw new Error('no crash took an id back');
    const { gone, late, entityId } = taken;
    onTestFinished(async () => {
      late.release(true);
      await Promise.resolve();
    });
    const meanwhile = await insertAudit(database.pool, channel);
    await read();
    await read();
    expect(delivered()).toContain(meanwhile.entityId);
    const position = batches.at(-1)?.position;
    await late.query('COMMIT');
    await read();
    expect(delivered()).toContain(entityId);
    // A client that resumes after the other event has not received this one.
    if (position === undefined) throw new Error('there is no position');
    expect(position.xmax > gone.xid).toBe(true);
    expect(covers(position, gone.xid)).toBe(false);
  });

  it('that undoes delivered commits gives clients a resync, and no cursor covers the undone commits', async () => {
    const { cluster, database, channel } = await createLazyCluster();
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
    const server = await startTestServer(database.url, {
      database: { pollIntervalMs: 50 },
      timeouts: { heartbeatIntervalMs: 20 },
    });
    onTestFinished(async () => await server.close());
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);
    await insertAudit(database.pool, channel);
    const cursor = await client.settled(database.pool);
    const hasty = await connectHasty(database);
    const gone = await insertAudit(hasty, channel);
    const { cursor: eventCursor } = await client.event(gone.entityId);
    const started = nextEvent(server.flagcast.lifecycle, 'reader:started');
    await cluster.postgres.restart('immediate');
    expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    await started;
    // Both cursors can be continued, and rows that are written under the reused ids are new.
    const { entityId } = await insertAudit(database.pool, channel);
    for (const from of [cursor, eventCursor ?? cursor]) {
      const returned = await V1Client.connect(server.wsUrl, { token });
      await returned.caughtUp(channel, from);
      await returned.event(entityId);
      expect(returned.events.map(({ entity_id: id }) => id)).not.toContain(gone.entityId);
      await returned.close();
    }
    await client.close();
  });

  it('with a transaction in flight repeats and loses no event', async () => {
    const { cluster, database, channel } = await createLazyCluster();
    const { lifecycle, delivered, read } = await startTestReader(database);
    let historyLost = 0;
    lifecycle.on('reader:history-lost', () => (historyLost += 1));
    const kept: string[] = [];
    for (let count = 0; count < 20; count += 1) {
      kept.push((await insertAudit(database.pool, { ...channel, entityId: randomUUID() })).entityId);
    }
    await read();
    const open = await connectHasty(database);
    await open.query('BEGIN');
    await insertAudit(open, channel);
    await read();
    const recovered = nextEvent(lifecycle, 'reader:recovered');
    await cluster.postgres.restart('immediate');
    await recovered;
    const after = await insertAudit(database.pool, channel);
    await read();
    await read();
    expect(delivered()).toEqual([...kept, after.entityId]);
    expect(historyLost).toBe(0);
  });
});

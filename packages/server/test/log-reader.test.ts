import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { startTestReader } from './reader.js';
import { nextEvent } from './server.js';
import type { TestChannel } from './v1-client.js';

async function createDatabase(): Promise<{ database: TestDatabase; channel: TestChannel }> {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { projectId, environments } = await seedProject(database.pool);
  return { database, channel: { projectId, environmentId: environments.prod } };
}

async function requestChange(client: pg.Pool | pg.ClientBase, channel: TestChannel): Promise<string> {
  const id = randomUUID();
  await client.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
     VALUES ($1, $2, $3, 'bob', '{}')`,
    [id, channel.projectId, channel.environmentId],
  );
  await client.query(
    `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
     VALUES ($1, 'feature', gen_random_uuid())`,
    [id],
  );
  return id;
}

describe('the reader of the event log', () => {
  it('delivers a transaction that began first and committed last, including writes under a savepoint', async () => {
    const { database, channel } = await createDatabase();
    const { delivered, read } = await startTestReader(database);
    const late = await database.pool.connect();
    await late.query('BEGIN');
    const first = await insertAudit(late, channel);
    await late.query('SAVEPOINT nested');
    const nested = await insertAudit(late, channel);
    await late.query('SAVEPOINT undone');
    await insertAudit(late, channel);
    await late.query('ROLLBACK TO SAVEPOINT undone');
    const early = await insertAudit(database.pool, channel);
    await read();
    expect(delivered()).toEqual([early.entityId]);
    await late.query('COMMIT');
    late.release();
    await read();
    await read();
    expect(delivered()).toEqual([early.entityId, first.entityId, nested.entityId]);
  });

  it('delivers events with a created_at of years ago or ahead, and each transaction in the order of its writes', async () => {
    const { database, channel } = await createDatabase();
    const { delivered, events, read } = await startTestReader(database);
    const written: string[] = [];
    await withClient(database.url, async (client) => {
      await client.query('BEGIN');
      for (const createdAt of ['2035-01-01T00:00:00Z', '2001-01-01T00:00:00Z', '2026-01-01T00:00:00Z']) {
        written.push((await insertAudit(client, { ...channel, createdAt })).entityId);
      }
      await client.query('COMMIT');
    });
    await read();
    expect(delivered()).toEqual(written);
    expect(events.map(({ createdAt }) => createdAt.slice(0, 4))).toEqual(['2035', '2001', '2026']);
  });

  it('delivers a prepared transaction when it is committed, after any number of other commits', async () => {
    const { database, channel } = await createDatabase();
    const name = `late ${randomUUID()}`;
    const client = await database.pool.connect();
    await client.query('BEGIN');
    const late = await insertAudit(client, channel);
    await client.query(`PREPARE TRANSACTION '${name}'`);
    const { delivered, read } = await startTestReader(database);
    for (let round = 0; round < 5; round += 1) {
      await insertAudit(database.pool, channel);
      await read();
    }
    expect(delivered()).toHaveLength(5);
    await client.query(`COMMIT PREPARED '${name}'`);
    client.release();
    await read();
    expect(delivered().at(-1)).toBe(late.entityId);
    expect(delivered()).toHaveLength(6);
  });

  it('delivers a request before its decision, also when the deciding transaction began first', async () => {
    const { database, channel } = await createDatabase();
    const { events, read } = await startTestReader(database);
    const deciding = await database.pool.connect();
    await deciding.query('BEGIN');
    // It also has its transaction id before the request has one.
    await deciding.query('SELECT now(), pg_current_xact_id()');
    const request = await requestChange(database.pool, channel);
    await deciding.query(
      `UPDATE pending_changes SET status = 'approved', approved_by = 'alice', approved_at = now() WHERE id = $1`,
      [request],
    );
    await deciding.query('COMMIT');
    deciding.release();
    await read();
    expect(events.map(({ action, pendingChangeId }) => [action, pendingChangeId])).toEqual([
      ['pending', request],
      ['approved', request],
    ]);
  });

  it('G5: its batches never say that less was delivered, also while it follows a leader that hung', async () => {
    const { database, channel } = await createDatabase();
    const { reader, batches, read } = await startTestReader(database);
    const [hung] = batches;
    if (hung === undefined) throw new Error('it has not begun');
    // The leader hangs before this, and this server reads it for itself.
    await insertAudit(database.pool, channel);
    await read();
    const own = batches.at(-1);
    expect(own?.snapshotXmax).toBeGreaterThan(hung.snapshotXmax);
    reader.pause();
    reader.follow({ ...hung, readBy: 'leader 1', skipped: [] });
    expect(batches).toHaveLength(3);
    expect(batches.at(-1)?.snapshotXmax).toBe(own?.snapshotXmax);
  });

  it('reads no event that was committed before its start', async () => {
    const { database, channel } = await createDatabase();
    await insertAudit(database.pool, channel);
    const open = await database.pool.connect();
    await open.query('BEGIN');
    const late = await insertAudit(open, channel);
    await insertAudit(database.pool, channel);
    const { delivered, read } = await startTestReader(database);
    await read();
    expect(delivered()).toEqual([]);
    await open.query('COMMIT');
    open.release();
    await read();
    expect(delivered()).toEqual([late.entityId]);
  });

  it('remembers delivered events only while a crash can undo them', async () => {
    // The write-ahead log reaches the disk only when a synchronous commit forces it.
    const cluster = await createTestCluster({ wal_writer_delay: '10s', autovacuum: 'off' });
    onTestFinished(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    onTestFinished(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { reader, delivered, batches, read } = await startTestReader(database);
    await withClient(database.url, async (client) => {
      await client.query('SET synchronous_commit = off');
      for (let count = 0; count < 3; count += 1) await insertAudit(client, channel);
      await read();
      expect(delivered()).toHaveLength(3);
      expect(reader.rememberedEvents).toBe(3);
      const cursorBefore = batches.at(-1)?.position.xmax ?? 0n;
      await client.query('SET synchronous_commit = on');
      await insertAudit(client, channel);
      await read();
      await read();
      expect(reader.rememberedEvents).toBe(0);
      expect((batches.at(-1)?.position.xmax ?? 0n) > cursorBefore).toBe(true);
    });
  });

  it('polls on time during continuous notifications', async () => {
    const { database } = await createDatabase();
    const { reader, lifecycle } = await startTestReader(database, { pollIntervalMs: 20 });
    lifecycle.on('reader:read', () => reader.requestBatch());
    for (let polls = 0; polls < 3; polls += 1) {
      await nextEvent(lifecycle, 'reader:read', ({ trigger }) => trigger === 'poll');
    }
  });
});

describe('retention', () => {
  it('does not affect the reader, which continues after the deleted rows', async () => {
    const { database, channel } = await createDatabase();
    const { delivered, read } = await startTestReader(database);
    const first = await insertAudit(database.pool, channel);
    await read();
    await database.pool.query(`SELECT flagcast.prune_event_log('0', 1000000)`);
    const { rowCount } = await database.pool.query('SELECT FROM flagcast.event_log');
    expect(rowCount).toBe(0);
    const second = await insertAudit(database.pool, channel);
    await read();
    expect(delivered()).toEqual([first.entityId, second.entityId]);
  });

  it.each(["SELECT flagcast.prune_event_log('0', 1000000)", 'TRUNCATE flagcast.event_log'])(
    'that deletes rows before the reader has read them begins a new history: %s',
    async (statement) => {
      const { database, channel } = await createDatabase();
      const { reader, lifecycle, delivered, read } = await startTestReader(database);
      await insertAudit(database.pool, channel);
      await database.pool.query(statement);
      const lost = nextEvent(lifecycle, 'reader:history-lost');
      const started = nextEvent(lifecycle, 'reader:started');
      reader.requestBatch();
      expect((await lost).reason).toMatch(/^rows of the event log were deleted before they were read/);
      await started;
      const { entityId } = await insertAudit(database.pool, channel);
      await read();
      expect(delivered()).toEqual([entityId]);
    },
  );
});

import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { FlagEvent } from '../src/events/event.js';
import type { Position } from '../src/events/position.js';
import { Lifecycle } from '../src/lifecycle.js';
import { EventReader, type EventReaderOptions } from '../src/reader/reader.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
} from './database.js';
import { nextEvent } from './server.js';

describe('the reader', () => {
  const cleanUps: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  });

  async function sharedDatabase(): Promise<TestDatabase> {
    const database = await createTestDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    return database;
  }

  /** A reader that only reads when it is told to, unless the options say otherwise. */
  async function startReader(
    database: TestDatabase,
    options: Partial<EventReaderOptions> = {},
  ): Promise<{
    reader: EventReader;
    lifecycle: Lifecycle;
    delivered: string[];
    positions: Position[];
    read: () => Promise<void>;
  }> {
    const lifecycle = new Lifecycle();
    const delivered: string[] = [];
    const positions: Position[] = [];
    const reader = new EventReader({
      databaseUrl: database.url,
      lifecycle,
      pollIntervalMs: 3_600_000,
      onBatch: ({ events, position }) => {
        delivered.push(...events.map((event: FlagEvent) => event.entityId));
        positions.push(position);
      },
      ...options,
    });
    const started = nextEvent(lifecycle, 'reader:started');
    reader.start();
    await started;
    cleanUps.push(async () => await reader.stop());
    const read = async (): Promise<void> => {
      const done = nextEvent(lifecycle, 'reader:read');
      reader.wake();
      await done;
    };
    return { reader, lifecycle, delivered, positions, read };
  }

  it('delivers a transaction that began first and committed last, also under a savepoint', async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const { delivered, read } = await startReader(database);
    const late = await database.pool.connect();
    await late.query('BEGIN');
    const first = await insertAudit(late, row);
    await late.query('SAVEPOINT nested');
    const nested = await insertAudit(late, row);
    const early = await insertAudit(database.pool, row);
    await read();
    expect(delivered).toEqual([early.entityId]);
    await late.query('COMMIT');
    late.release();
    await read();
    await read();
    expect(delivered).toEqual([early.entityId, first.entityId, nested.entityId]);
  });

  it('delivers what a reader wrote late: a transaction that was open and idle long before its first write', async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const idle = await database.pool.connect();
    await idle.query('BEGIN');
    await idle.query('SELECT 1');
    // Next to no allowance: only the observation of the open transaction can keep its row in reach.
    const { delivered, read } = await startReader(database, { pollIntervalMs: 10, allowanceMs: 1 });
    for (let round = 0; round < 5; round += 1) {
      await insertAudit(database.pool, row);
      await read();
    }
    const late = await insertAudit(idle, row);
    await idle.query('COMMIT');
    idle.release();
    // The first one may have begun before the commit.
    await read();
    await read();
    expect(delivered.at(-1)).toBe(late.entityId);
  });

  it('delivers a transaction that was prepared long before it was committed', async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const name = `late ${randomUUID()}`;
    const client = await database.pool.connect();
    await client.query('BEGIN');
    const late = await insertAudit(client, row);
    await client.query(`PREPARE TRANSACTION '${name}'`);
    // No session shows it any more: only the list of what is prepared keeps its row in reach.
    const { delivered, read } = await startReader(database, { pollIntervalMs: 10, allowanceMs: 1 });
    for (let round = 0; round < 5; round += 1) {
      await insertAudit(database.pool, row);
      await read();
    }
    await client.query(`COMMIT PREPARED '${name}'`);
    client.release();
    // The first one may have begun before the commit.
    await read();
    await read();
    expect(delivered.at(-1)).toBe(late.entityId);
  });

  it("delivers a decision whose time is by a host's slow clock", async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO pending_changes (project_id, environment_id, requested_by, change, created_at)
       VALUES ($1, $2, 'bob', '{}', now() - interval '1 day') RETURNING id`,
      [projectId, environments.prod],
    );
    await database.pool.query(
      `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id, created_at)
       VALUES ($1, 'feature', gen_random_uuid(), now() - interval '1 day')`,
      [rows[0]?.id],
    );
    const actions: string[] = [];
    const { read } = await startReader(database, {
      onBatch: ({ events }) => actions.push(...events.map(({ action }) => action)),
    });
    await database.pool.query(
      `UPDATE pending_changes SET status = 'approved', approved_at = now() - interval '1 hour' WHERE id = $1`,
      [rows[0]?.id],
    );
    await read();
    expect(actions).toEqual(['approved']);
  });

  it('delivers a request before its decision, also when the deciding transaction began first', async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const actions: string[] = [];
    const { read } = await startReader(database, {
      onBatch: ({ events }) => actions.push(...events.map(({ action }) => action)),
    });
    const deciding = await database.pool.connect();
    await deciding.query('BEGIN');
    // It has its transaction id, too, before the request has one.
    await deciding.query('SELECT now(), pg_current_xact_id()');
    const change = randomUUID();
    const asking = await database.pool.connect();
    await asking.query('BEGIN');
    await asking.query(
      `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
       VALUES ($1, $2, $3, 'bob', '{}')`,
      [change, projectId, environments.prod],
    );
    await asking.query(
      `INSERT INTO pending_change_entities (id, pending_change_id, entity, entity_id)
       VALUES (gen_random_uuid(), $1, 'feature', gen_random_uuid())`,
      [change],
    );
    await asking.query('COMMIT');
    asking.release();
    await deciding.query(
      `UPDATE pending_changes SET status = 'approved', approved_by = 'alice', approved_at = now() WHERE id = $1`,
      [change],
    );
    await deciding.query('COMMIT');
    deciding.release();
    await read();
    expect(actions).toEqual(['pending', 'approved']);
  });

  it('remembers only what a read can bring again', async () => {
    const database = await sharedDatabase();
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const { reader, read } = await startReader(database);
    // The watermark waits for the log to be on disk, which other tests' writes may hold up by a read or two.
    const forgotten = async (): Promise<void> => {
      await vi.waitFor(async () => {
        await read();
        expect(reader.rememberedEvents).toBe(0);
      });
    };
    await forgotten();
    const open = await database.pool.connect();
    await open.query('BEGIN');
    await insertAudit(open, row);
    for (let count = 0; count < 3; count += 1) await insertAudit(database.pool, row);
    await read();
    expect(reader.rememberedEvents).toBe(3);
    await open.query('COMMIT');
    open.release();
    await forgotten();
  });

  it('stays on the index when hints never cease: the floor is observed with every poll', async () => {
    const database = await sharedDatabase();
    const { reader, lifecycle } = await startReader(database, { pollIntervalMs: 20 });
    lifecycle.on('reader:read', () => reader.wake());
    const before = await nextEvent(lifecycle, 'reader:observed');
    const after = await nextEvent(lifecycle, 'reader:observed');
    expect(after.floor > before.floor).toBe(true);
  });

  it('loses nothing when a crash takes transaction ids back', async () => {
    // The log reaches the disk only when a commit forces it, so that rolled back transactions leave no trace.
    const cluster = await createTestCluster({ wal_writer_delay: '10s', autovacuum: 'off' });
    cleanUps.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const { lifecycle, delivered, read } = await startReader(database);
    // Had the reader gone by ids that the crash took back, the database would now be behind it; what
    // was written before it noticed would be lost.
    let historyLost = 0;
    lifecycle.on('reader:history-lost', () => (historyLost += 1));
    await read();
    const client = new pg.Client({ connectionString: database.url });
    client.on('error', () => undefined);
    await client.connect();
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
    await client.end();
    const recovered = nextEvent(lifecycle, 'reader:recovered');
    await cluster.postgres.restart('immediate');
    await recovered;
    const write = async (): Promise<{ xid: string; id: string }> => {
      const { rows: written } = await database.pool.query<{ xid: string; id: string }>(
        `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action)
         VALUES ($1, $2, $3, 'feature', $3, 'user', 'update') RETURNING pg_current_xact_id()::text AS xid, entity_id AS id`,
        [row.projectId, row.environmentId, randomUUID()],
      );
      return written[0] ?? { xid: '', id: '' };
    };
    const ids: string[] = [];
    // The log soon ends behind where it had ended before the crash, with other records in it.
    for (let count = 0; count < 3; count += 1) {
      const { xid, id } = await write();
      // The test only bites when the crash did take ids back.
      expect(BigInt(xid)).toBeLessThan(nextBefore);
      ids.push(id);
      await Promise.race([read(), nextEvent(lifecycle, 'reader:history-lost')]);
    }
    expect(delivered).toEqual(ids);
    expect(historyLost).toBe(0);
  });

  it('takes no transaction for one with the same id that a crash took back, live or after a resume', async () => {
    const cluster = await createTestCluster({ wal_writer_delay: '10s', autovacuum: 'off' });
    cleanUps.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    cleanUps.push(async () => await database.drop());
    const { projectId, environments } = await seedProject(database.pool);
    const row = { projectId, environmentId: environments.prod };
    const { lifecycle, delivered, positions, read } = await startReader(database);
    await read();
    /** What is written after a crash under the id of what the crash took back; null: the log was on disk already. */
    const crash = async (): Promise<{ late: pg.PoolClient; entityId: string; xid: bigint } | null> => {
      // On disk, and with it all ids before.
      await insertAudit(database.pool, row);
      const hasty = await database.pool.connect();
      await hasty.query('SET synchronous_commit = off');
      // Told of at once, and gone with the crash.
      const { entityId: gone } = await insertAudit(hasty, row);
      const { rows } = await hasty.query<{ xid: string }>(
        'SELECT max(xmin::text::bigint)::text AS xid FROM audit_log',
      );
      await read();
      expect(delivered).toContain(gone);
      hasty.release(true);
      const recovered = nextEvent(lifecycle, 'reader:recovered');
      await cluster.postgres.restart('immediate');
      await recovered;
      const late = await database.pool.connect();
      await late.query('BEGIN');
      const { entityId } = await insertAudit(late, row);
      const { rows: again } = await late.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
      if (again[0]?.xid === rows[0]?.xid) return { late, entityId, xid: BigInt(again[0]?.xid ?? 0) };
      late.release(true);
      return null;
    };
    // Work of PostgreSQL's own may have flushed the log in between, or taken the id after the crash.
    let taken = await crash();
    for (let crashes = 1; taken === null && crashes < 5; crashes += 1) taken = await crash();
    if (taken === null) throw new Error('no crash has taken an id back');
    const { late, entityId, xid } = taken;
    cleanUps.push(async () => {
      late.release(true);
      await Promise.resolve();
    });
    // On disk, and with a later id: whoever is told of this stands after the late one began.
    const meanwhile = await insertAudit(database.pool, row);
    await read();
    await insertAudit(database.pool, row);
    await read();
    expect(delivered).toContain(meanwhile.entityId);
    const position = positions.at(-1);
    await late.query('COMMIT');
    await read();
    expect(delivered).toContain(entityId);
    expect(position?.horizon).toBeGreaterThan(xid);
    expect(position?.seen).not.toContain(xid);
  });
});

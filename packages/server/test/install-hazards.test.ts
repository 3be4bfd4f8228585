import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { install, uninstall } from '../src/install/install.js';
import { Lifecycle } from '../src/lifecycle.js';
import { EventReader } from '../src/reader/reader.js';
import {
  createTestCluster,
  insertAudit,
  withClient,
  type TestCluster,
  type TestDatabase,
} from './database.js';
import { makeChannel, makeHostTables, readLog, value } from './host-tables.js';
import { expectPartitionsLogged } from './partitions.js';
import { readerOptions, sessionOpener, startTestReader } from './reader.js';
import { nextEvent } from './server.js';

let cluster: TestCluster;
let database: TestDatabase;
let channel: { projectId: string; environmentId: string };
const cleanUps: (() => Promise<void>)[] = [];

beforeAll(async () => {
  cluster = await createTestCluster({
    wal_level: 'logical',
    max_prepared_transactions: '10',
    wal_retrieve_retry_interval: '100ms',
  });
});

beforeEach(async () => {
  database = await createInstalled();
  channel = await makeChannel(database.pool);
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await database.drop();
});

afterAll(async () => {
  await cluster.remove();
});

/** A host's tables with Flagcast installed on them. */
async function createInstalled(): Promise<TestDatabase> {
  const made = await cluster.createDatabase({ schema: 'none' });
  await makeHostTables(made.pool);
  await withClient(made.url, async (client) => await install(client));
  return made;
}

async function countLog(pool = database.pool): Promise<number> {
  return (await readLog(pool)).filter(({ source }) => source !== 'control').length;
}

/** Whether PostgreSQL counts the errors of a subscription: from 15 on. */
async function countsErrors(): Promise<boolean> {
  return (
    (await value(database.pool, "SELECT to_regclass('pg_stat_subscription_stats') IS NOT NULL")) === true
  );
}

/** Waits until the first copy of each table of a subscription is complete. */
async function copiesAreDone({ pool }: TestDatabase): Promise<void> {
  await expect
    .poll(
      async () =>
        await value(pool, "SELECT count(*) FILTER (WHERE srsubstate <> 'r')::int FROM pg_subscription_rel"),
    )
    .toBe(0);
}

describe('the event log', () => {
  it('records the top-level transaction id, also under savepoints', async () => {
    await withClient(database.url, async (client) => {
      await client.query('BEGIN');
      await client.query('SAVEPOINT one; SAVEPOINT two');
      await insertAudit(client, channel);
      await client.query('RELEASE two');
      await insertAudit(client, channel);
      await client.query('SAVEPOINT three');
      await insertAudit(client, channel);
      await client.query('ROLLBACK TO three');
      const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
      await client.query('COMMIT');
      const logged = await client.query<{ xid: string; differs: boolean }>(
        'SELECT xid::text, xid::text <> xmin::text AS differs FROM flagcast.event_log ORDER BY seq',
      );
      const xid = rows[0]?.xid;
      // The rows themselves were written by subtransactions.
      expect(logged.rows).toEqual([
        { xid, differs: true },
        { xid, differs: true },
      ]);
    });
  });

  it('lets the host use PREPARE TRANSACTION with the default settings', async () => {
    const gid = `test_${randomUUID()}`;
    await withClient(database.url, async (client) => {
      await client.query('BEGIN');
      await insertAudit(client, channel);
      await client.query(`PREPARE TRANSACTION '${gid}'`);
    });
    expect(await countLog()).toBe(0);
    await database.pool.query(`COMMIT PREPARED '${gid}'`);
    expect(await countLog()).toBe(1);
  });

  it('does not use an id twice after TRUNCATE RESTART IDENTITY', async () => {
    await insertAudit(database.pool, channel);
    await insertAudit(database.pool, channel);
    await database.pool.query('TRUNCATE audit_log RESTART IDENTITY');
    await insertAudit(database.pool, channel);
    const { rows } = await database.pool.query<{ row_id: string; event_id: string }>(
      'SELECT row_id, event_id FROM flagcast.v_realtime_events ORDER BY event_id::bigint',
    );
    expect(rows.map(({ row_id }) => row_id)).toEqual(['1', '2', '1']);
    expect(new Set(rows.map(({ event_id }) => event_id)).size).toBe(3);
  });

  it('logs the writes of a session with session_replication_role = replica', async () => {
    await withClient(database.url, async (client) => {
      await client.query('SET session_replication_role = replica');
      await insertAudit(client, channel);
    });
    expect(await countLog()).toBe(1);
  });
});

describe('a partitioned table', () => {
  it('logs rows of every partition, also of partitions that are attached or created later', async () => {
    await expectPartitionsLogged(database);
  });

  it('has a new history after the trigger on a partition was disabled for a moment, and not after a new partition', async () => {
    const { pool } = database;
    await expectPartitionsLogged(database);
    const losses: string[] = [];
    const lifecycle = new Lifecycle();
    lifecycle.on('reader:history-lost', ({ reason }) => losses.push(reason));
    const { reader, read } = await startTestReader(database, { lifecycle, pollIntervalMs: 20 });
    cleanUps.push(async () => await reader.stop());
    const isPolled = async (): Promise<void> => {
      await nextEvent(lifecycle, 'reader:triggers');
      await nextEvent(lifecycle, 'reader:triggers');
      await read();
    };
    await pool.query(
      `CREATE TABLE audit_2027 PARTITION OF audit_log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')`,
    );
    await isPolled();
    expect(losses).toEqual([]);
    await pool.query(
      `BEGIN; ALTER TABLE audit_2025 DISABLE TRIGGER flagcast_log; ALTER TABLE audit_2025 ENABLE TRIGGER flagcast_log; COMMIT`,
    );
    await isPolled();
    expect(losses).toEqual([
      'the triggers that write the event log were changed, so events may not have been logged',
    ]);
  });
});

describe('a table that inherits from audit_log', () => {
  it('has its rows logged after install, which changes nothing when it runs again, until uninstall', async () => {
    const { pool, url } = database;
    const tables = ['audit_log', '"Old"."Audit \'25"', 'audit_grandchild'];
    const insert = async (): Promise<void> => {
      for (const table of tables) {
        await pool.query(
          `INSERT INTO ${table} (feature_id, actor, action, project_id, environment_id)
           VALUES (gen_random_uuid(), 'user', 'update', $1, $2)`,
          [channel.projectId, channel.environmentId],
        );
      }
    };
    await pool.query(
      `CREATE SCHEMA "Old"; CREATE TABLE ${tables[1]} () INHERITS (audit_log);
       CREATE TABLE ${tables[2]} () INHERITS (${tables[1]})`,
    );
    await withClient(url, async (client) => {
      expect((await install(client)).changed).toBe(true);
      expect((await install(client)).changed).toBe(false);
    });
    await insert();
    expect(await countLog()).toBe(3);
    await withClient(url, async (client) => await uninstall(client));
    await insert();
  });
});

describe('an event log of another cluster', () => {
  it('is replaced once by a new log, which keeps uncommitted rows', async () => {
    const { pool } = database;
    await insertAudit(pool, channel);
    await pool.query("SELECT flagcast.prune_event_log('0')");
    await insertAudit(pool, channel);
    await pool.query("UPDATE flagcast.log_state SET system_identifier = '1'");
    const writer = await pool.connect();
    await writer.query('BEGIN');
    const late = await insertAudit(writer, channel);

    expect(await value(database.pool, 'SELECT flagcast.adopt_event_log()')).toBe(true);
    await writer.query('COMMIT');
    writer.release();
    expect(await readLog(pool)).toMatchObject([{ entity_id: late.entityId }]);
    expect(await value(database.pool, 'SELECT deleted_xid::text FROM flagcast.log_state')).toBe('0');
    expect(await value(database.pool, 'SELECT flagcast.adopt_event_log()')).toBe(false);
    expect(await countLog()).toBe(1);
  });

  it('is adopted by the reader, which then delivers new events', async () => {
    const { pool } = database;
    // Ids of the other cluster, far ahead of those of this cluster.
    await pool.query(
      `INSERT INTO flagcast.event_log (xid, source, row_id, project_id, environment_id, entity, action, created_at)
       VALUES (9000000000, 'audit', '1', $1, $2, 'feature', 'updated', now())`,
      [channel.projectId, channel.environmentId],
    );
    await pool.query('DELETE FROM flagcast.log_state');
    const lifecycle = new Lifecycle();
    const ids: string[] = [];
    const reader = new EventReader({
      ...readerOptions,
      openSession: sessionOpener({ url: database.url }),
      lifecycle,
      pollIntervalMs: 20,
      onBatch: ({ events }) => ids.push(...events.map(({ entityId }) => entityId)),
    });
    const started = nextEvent(lifecycle, 'reader:started');
    reader.start();
    cleanUps.push(async () => await reader.stop());
    await started;
    const { entityId } = await insertAudit(pool, channel);
    while (!ids.includes(entityId)) await nextEvent(lifecycle, 'reader:read');
    expect(ids).toEqual([entityId]);
    expect(await countLog()).toBe(1);
  });
});

describe('logical replication with a publication FOR ALL TABLES', () => {
  it("logs replicated changes on the subscriber once, without the rows of the publisher's log", async () => {
    const publisher = database;
    const subscriber = await createInstalled();
    cleanUps.push(async () => await subscriber.drop());
    const slot = `slot_${randomBytes(6).toString('hex')}`;
    const arrived = async (entityId: string): Promise<void> => {
      await expect
        .poll(
          async () =>
            await value(subscriber.pool, 'SELECT count(*)::int FROM audit_log WHERE entity_id = $1', [
              entityId,
            ]),
        )
        .toBe(1);
    };
    // The apply worker also notifies.
    await subscriber.pool.query(`ALTER DATABASE ${subscriber.name} SET flagcast.notify = 'on'`);
    const copied = await insertAudit(publisher.pool, channel);
    await publisher.pool.query('CREATE PUBLICATION everything FOR ALL TABLES');
    await publisher.pool.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
    await subscriber.pool.query(
      `CREATE SUBSCRIPTION ${slot} CONNECTION '${publisher.url}' PUBLICATION everything WITH (create_slot = false)`,
    );
    cleanUps.push(async () => {
      await subscriber.pool.query(`DROP SUBSCRIPTION ${slot}`);
    });
    await arrived(copied.entityId);
    await copiesAreDone(subscriber);
    expect(await readLog(subscriber.pool)).toMatchObject([{ entity_id: copied.entityId }]);

    const lifecycle = new Lifecycle();
    const delivered: string[] = [];
    const reader = new EventReader({
      ...readerOptions,
      openSession: sessionOpener({ url: subscriber.url }),
      lifecycle,
      pollIntervalMs: 20,
      onBatch: ({ events }) =>
        delivered.push(...events.map(({ entityId, action }) => `${entityId} ${action}`)),
    });
    const started = nextEvent(lifecycle, 'reader:started');
    reader.start();
    cleanUps.push(async () => await reader.stop());
    await started;

    // A transaction with several rows and an old created_at, and a request with its decision.
    const featureId = randomUUID();
    const written = await withClient(publisher.url, async (client) => {
      await client.query('BEGIN');
      const one = await insertAudit(client, { ...channel, createdAt: '2020-01-01' });
      await client.query('SAVEPOINT s');
      const two = await insertAudit(client, channel);
      await client.query('COMMIT');
      return [one.entityId, two.entityId];
    });
    const requestId = randomUUID();
    await publisher.pool.query(
      `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change) VALUES ($1, $2, $3, 'bob', '{}')`,
      [requestId, channel.projectId, channel.environmentId],
    );
    await publisher.pool.query(
      `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'feature', $2)`,
      [requestId, featureId],
    );
    await publisher.pool.query("UPDATE pending_changes SET status = 'cancelled' WHERE id = $1", [requestId]);
    await publisher.pool.query("INSERT INTO flagcast.guarded_environments VALUES ($1, 'ada')", [
      channel.environmentId,
    ]);

    // Retention on the publisher deletes there only, and a repair of the publisher does not stop replication.
    expect(await value(publisher.pool, "SELECT flagcast.prune_event_log('0')")).not.toBe('0');
    expect(await countLog(publisher.pool)).toBe(0);
    await publisher.pool.query('DROP TRIGGER flagcast_log ON audit_log');
    await withClient(publisher.url, async (client) => await install(client));
    const last = await insertAudit(publisher.pool, channel);
    await arrived(last.entityId);

    const expected = [
      ...written.map((id) => `${id} updated`),
      `${featureId} pending`,
      `${featureId} cancelled`,
      `${last.entityId} updated`,
    ];
    while (!delivered.includes(expected.at(-1) ?? '')) await nextEvent(lifecycle, 'reader:read');
    expect(delivered).toEqual(expected);
    expect((await readLog(subscriber.pool)).map(({ entity_id: id, action }) => `${id} ${action}`)).toEqual([
      `${copied.entityId} updated`,
      ...expected,
    ]);
    // The two databases keep their own state; the guards are data.
    expect(await value(subscriber.pool, 'SELECT deleted_xid::int FROM flagcast.log_state')).toBe(0);
    expect(await value(subscriber.pool, 'SELECT count(*)::int FROM flagcast.schema_version')).toBe(2);
    expect(await value(subscriber.pool, 'SELECT count(*)::int FROM flagcast.guarded_environments')).toBe(1);
    if (!(await countsErrors())) return;
    expect(
      await value(
        subscriber.pool,
        'SELECT sum(apply_error_count + sync_error_count)::int FROM pg_stat_subscription_stats WHERE subname = $1',
        [slot],
      ),
    ).toBe(0);
  });

  it('stops on a subscriber until install has run there, and install on the publisher notes it', async ({
    skip,
  }) => {
    if (!(await countsErrors())) skip('PostgreSQL 14 does not count errors of a subscription');
    const [publisher, subscriber] = [
      await cluster.createDatabase({ schema: 'none' }),
      await cluster.createDatabase({ schema: 'none' }),
    ];
    cleanUps.push(async () => await publisher.drop());
    cleanUps.push(async () => await subscriber.drop());
    for (const { pool } of [publisher, subscriber]) await makeHostTables(pool);
    const slot = `slot_${randomBytes(6).toString('hex')}`;
    const there = await makeChannel(publisher.pool);
    await publisher.pool.query('CREATE PUBLICATION everything FOR ALL TABLES');
    await publisher.pool.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
    await subscriber.pool.query(
      `CREATE SUBSCRIPTION ${slot} CONNECTION '${publisher.url}' PUBLICATION everything WITH (create_slot = false)`,
    );
    cleanUps.push(async () => {
      await subscriber.pool.query(`DROP SUBSCRIPTION ${slot}`);
    });
    await copiesAreDone(subscriber);
    const { notes } = await withClient(publisher.url, async (client) => await install(client));
    expect(notes).toEqual([
      expect.stringMatching(/^Publication everything publishes all tables\. Also run install on/),
    ]);
    const { entityId } = await insertAudit(publisher.pool, there);
    await expect
      .poll(
        async () =>
          await value(
            subscriber.pool,
            'SELECT apply_error_count > 0 FROM pg_stat_subscription_stats WHERE subname = $1',
            [slot],
          ),
      )
      .toBe(true);
    await withClient(subscriber.url, async (client) => await install(client));
    await expect.poll(async () => await readLog(subscriber.pool)).toMatchObject([{ entity_id: entityId }]);
  });

  it('does not affect record_event and retention after ENABLE TRIGGER ALL', async () => {
    await database.pool.query(
      `ALTER TABLE flagcast.event_log DISABLE TRIGGER ALL; ALTER TABLE flagcast.event_log ENABLE TRIGGER ALL;
       ALTER TABLE flagcast.log_state DISABLE TRIGGER ALL; ALTER TABLE flagcast.log_state ENABLE TRIGGER ALL`,
    );
    await database.pool.query(
      `SELECT flagcast.record_event('audit', '1', 'shop', 'live', 'prod', 'flag', 'dark-mode', 'updated')`,
    );
    expect(await countLog()).toBe(1);
    expect(await value(database.pool, "SELECT flagcast.prune_event_log('0')")).toBe('1');
    expect(await countLog()).toBe(0);
  });
});

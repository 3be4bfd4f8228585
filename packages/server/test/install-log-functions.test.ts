import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { install } from '../src/install/install.js';
import { Lifecycle } from '../src/lifecycle.js';
import { LogRetention } from '../src/operations/log-retention.js';
import { insertAudit, withClient, type TestDatabase } from './database.js';
import { sessionOpener, startTestReader } from './reader.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { createHostTables, makeChannel, readLog, value } from './host-tables.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
const cleanUps: (() => Promise<void>)[] = [];

beforeEach(async () => {
  database = await createHostTables();
  await withClient(database.url, async (client) => await install(client));
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await database.drop();
});

describe('record_event', () => {
  const call = async (client: pg.Pool | pg.ClientBase, ...args: (string | null)[]): Promise<void> => {
    const places = args.map((_, index) => `$${index + 1}`).join(', ');
    await client.query(`SELECT flagcast.record_event(${places})`, args);
  };

  it.each([
    [
      'an unknown source',
      ['control', '1', 'shop', 'live', 'prod', 'flag', 'x', 'updated'],
      /source is 'control'/,
    ],
    ['no source', [null, '1', 'shop', 'live', 'prod', 'flag', 'x', 'updated'], /source is NULL/],
    ['no project', ['audit', '1', '', 'live', 'prod', 'flag', 'x', 'updated'], /give all three/],
    ['no environment', ['audit', '1', 'shop', null, 'prod', 'flag', 'x', 'updated'], /give all three/],
    ['no key', ['audit', '1', 'shop', 'live', null, 'flag', 'x', 'updated'], /give all three/],
    [
      'an id that no index can hold',
      ['audit', '1', 'shop', randomBytes(3_000).toString('hex'), 'prod', 'flag', 'x', 'updated'],
      /environment_id has 6000 bytes, 1000 are allowed/,
    ],
  ])('refuses %s', async (_case, args, message) => {
    await expect(call(database.pool, ...args)).rejects.toThrow(message);
    expect(await readLog(database.pool)).toEqual([]);
  });

  it('derives feature_id and pending_change_id from its arguments', async () => {
    await call(database.pool, 'audit', '7', 'shop', 'live', 'prod', 'feature', 'dark-mode', 'updated');
    await call(
      database.pool,
      'pending',
      'r1',
      'shop',
      'live',
      'prod',
      'rule',
      'r',
      'pending',
      null,
      'dark-mode',
    );
    const { rows } = await database.pool.query(
      `SELECT row_id, feature_id, pending_change_id, created_at IS NOT NULL AS is_dated, environment_key
       FROM flagcast.v_realtime_events ORDER BY event_id::bigint`,
    );
    expect(rows).toEqual([
      {
        row_id: '7',
        feature_id: 'dark-mode',
        pending_change_id: null,
        is_dated: true,
        environment_key: 'prod',
      },
      {
        row_id: 'r1',
        feature_id: 'dark-mode',
        pending_change_id: 'r1',
        is_dated: true,
        environment_key: 'prod',
      },
    ]);
  });

  it('needs EXECUTE, and no privilege on the log', async () => {
    const role = `host_${randomBytes(4).toString('hex')}`;
    const { pool } = database;
    await pool.query(`CREATE ROLE ${role}; GRANT USAGE ON SCHEMA flagcast TO ${role}`);
    cleanUps.push(async () => {
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    });
    const args = ['audit', '7', 'shop', 'live', 'prod', 'feature', 'dark-mode', 'updated'];
    await withClient(database.url, async (client) => {
      await client.query(`SET ROLE ${role}`);
      await expect(call(client, ...args)).rejects.toMatchObject({ code: '42501' });
      await client.query(
        `RESET ROLE; GRANT EXECUTE ON FUNCTION flagcast.record_event TO ${role}; SET ROLE ${role}`,
      );
      await call(client, ...args);
      await expect(client.query('SELECT FROM flagcast.event_log')).rejects.toMatchObject({ code: '42501' });
      for (const refused of ["flagcast.prune_event_log('0')", 'flagcast.adopt_event_log()']) {
        await expect(client.query(`SELECT ${refused}`)).rejects.toMatchObject({ code: '42501' });
      }
    });
    expect(await readLog(database.pool)).toHaveLength(1);
  });
});

describe('prune_event_log', () => {
  beforeEach(async () => {
    for (let index = 0; index < 12; index += 1) {
      await database.pool.query(
        "INSERT INTO flagcast.event_log (source, row_id, logged_at) VALUES ('audit', $1, now() - interval '8 days')",
        [String(index)],
      );
    }
    await insertAudit(database.pool, await makeChannel(database.pool));
  });

  it('runs also where transactions are read-only by default, as does adopt_event_log', async () => {
    const { name, pool } = database;
    await pool.query("UPDATE flagcast.log_state SET system_identifier = '1'");
    await pool.query(`ALTER DATABASE ${name} SET default_transaction_read_only = on`);
    const { reader, read } = await startTestReader(database);
    await read();
    await reader.stop();
    expect(await readLog(pool)).toEqual([]);
    const lifecycle = new Lifecycle();
    await pool.query(
      "INSERT INTO flagcast.event_log (source, logged_at) VALUES ('audit', now() - interval '8 days')",
    );
    const pruned = nextEvent(lifecycle, 'log:pruned');
    const failed = nextEvent(lifecycle, 'log:prune-failed');
    const openSession = sessionOpener(database);
    const options = { openSession, queryTimeoutMs: 10_000, keepMs: 604_800_000, intervalMs: 10, lifecycle };
    const retention = new LogRetention({ ...options, hasLog: () => true });
    retention.start();
    cleanUps.push(async () => await retention.stop());
    expect(await Promise.race([pruned, failed])).toEqual({ rows: 1 });
  });

  it('deletes rows that a clock far ahead has dated, so that the old ones behind them do not stay', async () => {
    await database.pool.query(
      "UPDATE flagcast.event_log SET logged_at = logged_at + interval '1 year' WHERE row_id::int < 5 AND logged_at < now() - interval '1 day'",
    );
    for (let batch = 0; batch < 3; batch += 1) {
      await database.pool.query("SELECT flagcast.prune_event_log('7 days', 5)");
    }
    expect(await readLog(database.pool)).toHaveLength(1);
  });

  it('deletes old rows in batches and records their highest transaction id', async () => {
    const { pool } = database;
    const highest = await value(
      database.pool,
      "SELECT max(xid)::text FROM flagcast.event_log WHERE logged_at < now() - interval '7 days'",
    );
    const deleted: (string | undefined)[] = [];
    for (let batch = 0; batch < 4; batch += 1) {
      deleted.push(await value(database.pool, "SELECT flagcast.prune_event_log('7 days', 5)::text"));
    }
    expect(deleted).toEqual(['5', '5', '2', '0']);
    expect(await readLog(pool)).toHaveLength(1);
    expect(await value(database.pool, 'SELECT deleted_xid::text FROM flagcast.log_state')).toBe(highest);
    expect(
      await value(database.pool, "SELECT pruned_at > now() - interval '1 minute' FROM flagcast.log_state"),
    ).toBe(true);
    // Later deletions never move it back.
    await pool.query('UPDATE flagcast.log_state SET deleted_xid = 9000000000');
    await value(database.pool, "SELECT flagcast.prune_event_log('0')");
    expect(await value(database.pool, 'SELECT deleted_xid::text FROM flagcast.log_state')).toBe('9000000000');
  });

  it('is not needed for the record: manual deletions are also recorded', async () => {
    const { pool } = database;
    const recorded = async (): Promise<string | undefined> =>
      await value(pool, 'SELECT deleted_xid::text FROM flagcast.log_state');
    await pool.query('DELETE FROM flagcast.event_log WHERE false');
    expect(await recorded()).toBe('0');
    const third = await value<string>(
      pool,
      'SELECT xid::text FROM flagcast.event_log ORDER BY seq OFFSET 2 LIMIT 1',
    );
    await pool.query('DELETE FROM flagcast.event_log WHERE xid <= $1', [third]);
    expect(await recorded()).toBe(third);
    await pool.query('DELETE FROM flagcast.event_log WHERE seq = 5');
    const fifth = await recorded();
    await pool.query('DELETE FROM flagcast.event_log WHERE seq = 4');
    expect(await recorded()).toBe(fifth);

    const newest = await value<string>(pool, 'SELECT max(xid)::text FROM flagcast.event_log');
    await pool.query('TRUNCATE flagcast.event_log');
    expect(BigInt((await recorded()) ?? 0)).toBeGreaterThan(BigInt(newest ?? 0));
    expect(
      await value(
        pool,
        'SELECT deleted_xid < pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM flagcast.log_state',
      ),
    ).toBe(true);
  });

  it('returns null while another session deletes rows', async () => {
    const other = await database.pool.connect();
    await other.query('BEGIN');
    await other.query("SELECT flagcast.prune_event_log('7 days', 5)");
    expect(await value(database.pool, "SELECT flagcast.prune_event_log('7 days', 5)")).toBeNull();
    await other.query('ROLLBACK');
    other.release();
    expect(await value(database.pool, "SELECT flagcast.prune_event_log('7 days')::text")).toBe('12');
  });
});

describe('a client whose cursor is older than manually deleted rows', () => {
  it.each([
    ['DELETE', 'DELETE FROM flagcast.event_log'],
    ['TRUNCATE', 'TRUNCATE flagcast.event_log'],
  ])('gets a resync after %s', async (_case, statement) => {
    const { pool, url } = database;
    const channel = await makeChannel(pool);
    const serve = async (): Promise<TestServer> => {
      const server = await startTestServer(url, { database: { pollIntervalMs: 50 } });
      cleanUps.push(async () => await server.close());
      return server;
    };
    const { token } = await createUser(pool, 'ada', { superuser: true });
    const first = await V1Client.connect((await serve()).wsUrl, { token });
    const cursor = await first.caughtUp(channel);
    await first.close();
    await insertAudit(pool, channel);
    await pool.query(statement);

    // Another server does not have the rows in memory.
    const second = await V1Client.connect((await serve()).wsUrl, { token });
    expect(await second.subscribe(channel, cursor)).toMatchObject({
      type: 'resync',
      reason: 'cursor_expired',
    });
    await second.close();
  });
});

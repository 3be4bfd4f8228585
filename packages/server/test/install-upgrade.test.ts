import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { install, planInstall } from '../src/install/install.js';
import { installRefusal } from './catalogue.js';
import {
  createTestDatabase,
  decideRequest,
  insertRequest,
  withClient,
  type TestDatabase,
} from './database.js';
import { makeChannel, makeHostTables } from './host-tables.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'none' });
});

afterEach(async () => {
  await database.drop();
});

const onClient = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(database.url, work);

describe('install', () => {
  beforeEach(async () => {
    await makeHostTables(database.pool);
  });

  test('runs only a plan that was confirmed', async () => {
    const agreed = await onClient((client) => planInstall(client));
    await onClient((client) => install(client));
    expect(await onClient((client) => install(client, { agreed }))).toMatchObject({ changed: false });
    await database.pool.query('DROP TABLE flagcast.guarded_environments');
    const error = await installRefusal(database, async (client) => await install(client, { agreed }));
    expect(error.message).toMatch(/Run this again\.$/);
  });

  test('gives the steps of requests of an earlier build the column of their reasons, and keeps them', async () => {
    const { pool } = database;
    await onClient((client) => install(client));
    const channel = await makeChannel(pool);
    const { id } = await insertRequest(pool, channel);
    await pool.query(`ALTER TABLE flagcast.request_steps DROP COLUMN reason;
      DELETE FROM flagcast.request_steps;
      UPDATE flagcast.schema_version SET md5 = 'an earlier build'`);
    expect((await onClient((client) => install(client))).changed).toBe(true);
    const steps = async (): Promise<object[]> => {
      const { rows } = await pool.query<object>(
        'SELECT pending_change_id, action, reason FROM flagcast.request_steps ORDER BY xid, created_at',
      );
      return rows;
    };
    const logged = { pending_change_id: id, action: 'pending', reason: null };
    expect(await steps()).toStrictEqual([logged]);
    await decideRequest(pool, id, 'rejected');
    expect(await steps()).toStrictEqual([
      logged,
      { ...logged, action: 'rejected', reason: 'not on Fridays' },
    ]);
    expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  });

  test('retries while a lock is held, and names the holder after each attempt', async () => {
    const holder = await database.pool.connect();
    const { rows } = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await holder.query('BEGIN; LOCK TABLE audit_log IN ROW EXCLUSIVE MODE');
    try {
      const failures: string[] = [];
      const error = await installRefusal(
        database,
        async (client) =>
          await install(client, {
            lockTimeoutMs: 50,
            attempts: 2,
            onRetry: ({ attempt, attempts, holder: lockHolder }) =>
              failures.push(`${attempt}/${attempts} ${lockHolder}`),
          }),
      );
      const expected = new RegExp(
        `process ${rows[0]?.pid} \\(role postgres, application test, idle in transaction, for \\d+ s\\) holds a lock on public\\.audit_log`,
      );
      expect(failures).toEqual([expect.stringMatching(/^1\/2 /)]);
      expect(failures[0]).toMatch(expected);
      expect(error.message).toMatch(expected);

      // The statement in the message releases the lock.
      const fix = /or end it: (SELECT .*)\.$/.exec(error.message)?.[1] ?? '';
      await database.pool.query(fix);
      expect((await onClient((client) => install(client))).changed).toBe(true);
    } finally {
      holder.release(true);
    }
  });

  test('succeeds after a lock is released in time', async () => {
    const holder = await database.pool.connect();
    try {
      await holder.query('BEGIN; LOCK TABLE pending_changes IN SHARE MODE');
      const report = await onClient((client) =>
        install(client, { lockTimeoutMs: 50, onRetry: () => void holder.query('COMMIT') }),
      );
      expect(report.changed).toBe(true);
    } finally {
      holder.release();
    }
  });

  test('names a prepared transaction that holds a lock, and the statement that ends it', async () => {
    await database.pool.query(
      `BEGIN; LOCK TABLE audit_log IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s'`,
    );
    const error = await installRefusal(
      database,
      async (client) => await install(client, { lockTimeoutMs: 50, attempts: 1 }),
    );
    const fix = /or end it: COMMIT PREPARED or (ROLLBACK PREPARED '.*')\.$/.exec(error.message)?.[1] ?? '';
    await database.pool.query(fix);
    expect((await onClient((client) => install(client))).changed).toBe(true);
  });
});

import { createRequire } from 'node:module';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DatabaseSessions } from '../src/postgres/database-sessions.js';
import { NoFreeSessionError } from '../src/postgres/errors.js';
import {
  createTestDatabase,
  createTestPool,
  insertAudit,
  seedProject,
  type TestDatabase,
} from './database.js';
import { createUser, nextEvent, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

const queryTimeoutMs = 500;
const cleanUps: (() => unknown)[] = [];
let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  cleanUps.push(async () => await database.drop());
  await database.pool.query('CREATE TABLE locked (id int)');
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function createPool(options: pg.PoolConfig = {}): pg.Pool {
  const pool = createTestPool(database.url, { max: 1, application_name: 'host', ...options });
  cleanUps.push(async () => await pool.end());
  return pool;
}

function createSessions(pool: pg.Pool, timeoutMs = queryTimeoutMs): DatabaseSessions {
  const sessions = new DatabaseSessions({
    database: { pool },
    listenUrl: null,
    connections: 6,
    queryTimeoutMs: timeoutMs,
    writes: true,
    relay: false,
  });
  cleanUps.push(async () => await sessions.end(Promise.resolve()));
  return sessions;
}

/** What a session of the host is like: its process, settings, prepared statements and locks. */
async function stateOf(pool: pg.Pool): Promise<unknown> {
  const client = await pool.connect();
  try {
    const { rows } = await client.query(`
      SELECT pg_backend_pid() AS pid, (SELECT json_agg(s ORDER BY s.name) FROM
          (SELECT name, setting FROM pg_settings WHERE source = 'session') s) AS settings,
        (SELECT count(*)::int FROM pg_prepared_statements) AS prepared,
        (SELECT count(*)::int FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks`);
    return { ...(rows[0] as object), listeners: client.listenerCount('error') };
  } finally {
    client.release();
  }
}

describe('a pool of the host', () => {
  it('gets its client back with the settings that the host made, after statements, transactions and errors', async () => {
    const pool = createPool();
    await pool.query(
      `SET statement_timeout = '77s'; SET search_path = pg_catalog; SET lock_timeout = '88s';
       SET default_transaction_isolation = serializable`,
    );
    const before = await stateOf(pool);
    const { requests, writes, authorization } = createSessions(pool);
    const shown = await requests.query<{ statement_timeout: string }>('SHOW statement_timeout');
    expect(shown.rows).toEqual([{ statement_timeout: '450ms' }]);
    const { rows } = await requests.query('SHOW transaction_isolation');
    expect(rows).toEqual([{ transaction_isolation: 'read committed' }]);
    await authorization.query({ name: 'host_statement', text: 'SELECT $1::int', values: [1] });
    await expect(requests.query('SELECT 1 / 0')).rejects.toMatchObject({ code: '22012' });
    await writes.use(async (client) => {
      await client.query('BEGIN');
      await client.query('INSERT INTO public.locked VALUES (1)');
      await client.query('COMMIT');
    });
    const refused = writes.use(async (client) => {
      await client.query('BEGIN');
      await client.query('INSERT INTO public.locked VALUES (2)');
      await client.query('SELECT 1 / 0');
    });
    await expect(refused).rejects.toMatchObject({ code: '22012' });
    expect(await stateOf(pool)).toEqual(before);
    expect((await pool.query('SELECT id FROM public.locked')).rows).toEqual([{ id: 1 }]);
  });

  it('gives a null in a list and all digits of a number to PostgreSQL, with any settings of the host', async () => {
    const pool = createPool();
    await pool.query('SET array_nulls = off; SET extra_float_digits = -15');
    const { rows } = await createSessions(pool).requests.query(
      'SELECT ($1::text[])[1] AS first, (0.1::float8 + 0.2::float8)::text AS digits',
      [[null]],
    );
    expect(rows).toEqual([{ first: null, digits: '0.30000000000000004' }]);
  });

  it('gets no client back in a transaction, of which PostgreSQL has refused the time-outs', async () => {
    const pool = createPool();
    // Twice as many milliseconds are more than a setting can have.
    const { requests, writes } = createSessions(pool, 2_147_483_647);
    await expect(requests.query('SELECT 1')).rejects.toMatchObject({ code: '22023' });
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expect(writes.use(async (client) => await client.query('BEGIN'))).rejects.toMatchObject({
      code: '22023',
    });
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it('runs no statement of Flagcast longer than the time-outs, including the wait for locks', async () => {
    // PostgreSQL must answer in the last tenth of it, also on a busy machine.
    const { requests } = createSessions(createPool(), 5_000);
    await expect(requests.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: '57014' });
    const holder = await database.pool.connect();
    await holder.query('BEGIN; LOCK TABLE locked');
    await expect(requests.query('SELECT FROM locked')).rejects.toMatchObject({ code: '55P03' });
    await holder.query('ROLLBACK');
    holder.release();
    expect((await requests.query('SELECT FROM locked')).rowCount).toBe(0);
  });

  it('lends no more clients than the budget allows, and a request waits no longer than a statement may take', async () => {
    const pool = createPool({ max: 5 });
    const { requests } = createSessions(pool);
    expect(requests.limit).toBe(1);
    const client = await new Promise<() => void>((resolve) => {
      void requests.use(async () => await new Promise<void>((done) => resolve(done)));
    });
    await expect(requests.query('SELECT 1')).rejects.toThrow(NoFreeSessionError);
    expect(pool.totalCount).toBe(1);
    client();
    expect((await requests.query('SELECT 1')).rowCount).toBe(1);
  });

  it('whose clients are all in use delays a request no longer than a statement may take, and loses no client', async () => {
    const pool = createPool();
    const { requests } = createSessions(pool);
    const client = await pool.connect();
    await expect(requests.query('SELECT 1')).rejects.toThrow('the pool had no free client for 500 ms');
    client.release();
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
    await expect.poll(() => [pool.idleCount, pool.waitingCount]).toEqual([1, 0]);
  });

  it.each([
    ['an open', 'INSERT INTO public.locked VALUES (1)'],
    ['a failed', 'SELECT 1 / 0'],
  ])(
    'loses a client that the host released with %s transaction, and commits nothing of it',
    async (_, text) => {
      const pool = createPool();
      const { writes } = createSessions(pool);
      const client = await pool.connect();
      await client.query('BEGIN');
      await client.query(text).catch(() => undefined);
      client.release();
      const write = async (id: number): Promise<void> =>
        await writes.use(async (session) => {
          await session.query('BEGIN');
          await session.query('INSERT INTO public.locked VALUES ($1)', [id]);
          await session.query('COMMIT');
        });
      await expect(write(2)).rejects.toThrow(
        'was released in a transaction: end transactions before release()',
      );
      await write(3);
      expect((await database.pool.query('SELECT id FROM public.locked')).rows).toEqual([{ id: 3 }]);
    },
  );

  it('loses only the client whose connection ends while it is lent', async () => {
    const pool = createPool();
    const { requests } = createSessions(pool);
    const ended = requests.use(async (client) => {
      await client.query('BEGIN');
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await database.pool.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
      await client.query('SELECT 1');
    });
    await expect(ended).rejects.toThrow(/terminat/);
    expect((await requests.query('SELECT 1')).rowCount).toBe(1);
    expect(pool.totalCount).toBe(1);
  });

  it('can be used after the server has closed, which waits for the requests that use it', async () => {
    const pool = createPool();
    const sessions = createSessions(pool, 60_000);
    const holder = await database.pool.connect();
    await holder.query('SELECT pg_advisory_lock(1)');
    const locked = sessions.requests.query('SELECT pg_advisory_xact_lock(1)');
    await expect.poll(() => pool.totalCount).toBe(1);
    const ended = sessions.end(Promise.resolve());
    await holder.query('SELECT pg_advisory_unlock(1)');
    holder.release();
    await ended;
    expect((await locked).rowCount).toBe(1);
    await expect(sessions.requests.query('SELECT 1')).rejects.toThrow('the server is closing');
    expect(pool.ended).toBe(false);
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
  });

  it('loses a client that a request still uses when the server must close', async () => {
    const pool = createPool();
    const sessions = createSessions(pool);
    let lent = (): void => undefined;
    const isLent = new Promise<void>((resolve) => (lent = resolve));
    const never = sessions.requests.use(async (client) => {
      lent();
      for (;;) await client.query('SELECT 1');
    });
    const failed = expect(never).rejects.toThrow('the server has closed');
    await isLent;
    await sessions.end(Promise.resolve());
    await failed;
    expect((await pool.query('SELECT 1')).rowCount).toBe(1);
  });

  it('gives its parameters, with a password function, to the sessions of the reader, which are not its clients', async () => {
    const { hostname, port, username, password, pathname } = new URL(database.url);
    let passwords = 0;
    const pool = createPool({
      connectionString: undefined,
      host: hostname,
      port: Number(port),
      user: decodeURIComponent(username),
      password: async () => {
        passwords += 1;
        return await Promise.resolve(decodeURIComponent(password));
      },
      database: pathname.slice(1),
    });
    const sessions = createSessions(pool);
    const session = await sessions.open({ applicationName: 'flagcast reader', queryTimeoutMs });
    const listening = await sessions.openListening({ applicationName: 'flagcast listener', queryTimeoutMs });
    for (const each of [session, listening]) {
      const { rows } = await each.query('SELECT current_database() AS name');
      expect(rows).toEqual([{ name: database.name }]);
    }
    expect(pool.totalCount).toBe(0);
    expect(passwords).toBeGreaterThan(0);
  });

  it('may be of another copy of pg, whose errors are recognized', async () => {
    const require = createRequire(import.meta.url);
    for (const file of Object.keys(require.cache)) {
      if (/node_modules\/pg[-/]/.test(file)) Reflect.deleteProperty(require.cache, file);
    }
    const other = require('pg') as typeof pg;
    expect(other.DatabaseError).not.toBe(pg.DatabaseError);
    const pool = createTestPool(database.url, { Pool: other.Pool, max: 1 });
    cleanUps.push(async () => await pool.end());
    const error = await createSessions(pool)
      .requests.query('SELECT FROM no_such_table')
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '42P01', message: 'relation "no_such_table" does not exist' });
  });
});

describe('a server with a pool of the host', () => {
  it('delivers events, answers requests, and leaves the pool open and clean when it closes', async () => {
    const pool = createPool({ max: 2 });
    const project = await seedProject(database.pool);
    const { token } = await createUser(database.pool, 'alice', { superuser: true });
    const server = await startTestServer({ pool }, { writes: true });
    cleanUps.push(async () => await server.close());
    expect(server.listening).toMatchObject({ channel: 'flagcast' });
    const channel = { projectId: project.projectId, environmentId: project.environments.prod };
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.subscribe(channel);
    const { entityId } = await insertAudit(database.pool, channel);
    await client.event(entityId);
    const answer = await fetch(`${server.httpUrl}/api/projects`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    expect(answer.status).toBe(200);
    const { rows } = await pool.query<{ name: string }>(
      'SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE datname = current_database() ORDER BY 1',
    );
    expect(rows.map(({ name }) => name)).toEqual(['flagcast reader', 'host', 'test']);
    await server.close();
    expect(pool.ended).toBe(false);
    expect(await stateOf(pool)).toMatchObject({ prepared: 0, locks: 0, settings: null });
  });

  it('is not ready after the host has ended the pool, and logs once how to fix it', async () => {
    const pool = createTestPool(database.url);
    const server = await startTestServer({ pool }, { database: { pollIntervalMs: 50 } });
    cleanUps.push(async () => await server.close());
    const { lifecycle } = server.flagcast;
    const ended: unknown[] = [];
    lifecycle.on('pool:ended', (payload) => ended.push(payload));
    const first = nextEvent(lifecycle, 'pool:ended');
    await pool.end();
    expect((await first).fix).toMatch(/end it after close\(\)/);
    const readiness = await fetch(`${server.httpUrl}/readyz`);
    expect(readiness.status).toBe(503);
    expect(await readiness.json()).toEqual({
      status: 'not ready',
      reason: 'the host has ended the pool of database.pool: requests and permission checks fail',
    });
    for (let read = 0; read < 3; read += 1) await nextEvent(lifecycle, 'reader:read');
    expect(ended.length).toBe(1);
  });
});

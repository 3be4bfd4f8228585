import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  DatabaseSessions,
  divideConnections,
  minServerConnections,
} from '../src/postgres/database-sessions.js';
import { NoFreeSessionError } from '../src/postgres/errors.js';
import { Session } from '../src/postgres/session.js';
import { SessionPool } from '../src/postgres/session-pool.js';
import { createTestCluster, type TestCluster, type TestDatabase } from './database.js';

const queryTimeoutMs = 500;
const cleanUps: (() => unknown)[] = [];
// PostgreSQL deletes no database while a process is stopped: other test files must not wait for this one.
let cluster: TestCluster;
let database: TestDatabase;

beforeAll(async () => {
  cluster = await createTestCluster();
  database = await cluster.createDatabase({ schema: 'none' });
  await database.pool.query('CREATE TABLE locked (id int)');
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

afterAll(async () => {
  await database.drop();
  await cluster.remove();
});

async function open(applicationName: string, timeoutMs = queryTimeoutMs): Promise<Session> {
  const session = await Session.open({
    database: { url: database.url },
    applicationName,
    queryTimeoutMs: timeoutMs,
  });
  cleanUps.push(() => session.discard());
  return session;
}

/** Its sessions are called `flagcast ${purpose}`. */
function pool(purpose: string, limit: number): SessionPool {
  const sessions = new SessionPool({ purpose, limit, database: { url: database.url }, queryTimeoutMs });
  cleanUps.push(async () => {
    const ended = sessions.end();
    sessions.destroy();
    await ended;
  });
  return sessions;
}

async function pids(applicationName: string): Promise<number[]> {
  const { rows } = await database.pool.query<{ pid: number }>(
    'SELECT pid FROM pg_stat_activity WHERE application_name = $1',
    [applicationName],
  );
  return rows.map(({ pid }) => pid);
}

async function ended(session: Session): Promise<void> {
  await new Promise<void>((resolve) => session.once('end', resolve));
}

/** Sleeps for a minute in the database. */
const sleep = 'SELECT pg_sleep(60)';

describe('a session', () => {
  it('has its statements ended by PostgreSQL before the time-out of the client, and can be used afterwards', async () => {
    // PostgreSQL must answer in the last tenth of it, also on a busy machine.
    const session = await open('flagcast test 1', 5_000);
    await expect(session.query(sleep)).rejects.toMatchObject({ code: '57014' });
    expect(session.isReusable).toBe(true);
    const holder = await database.pool.connect();
    await holder.query('BEGIN; LOCK TABLE locked');
    await expect(session.query('SELECT FROM locked')).rejects.toMatchObject({ code: '55P03' });
    await holder.query('ROLLBACK');
    holder.release();
    expect((await session.query('SELECT FROM locked')).rowCount).toBe(0);
  });

  it('reads in READ COMMITTED: in SERIALIZABLE, the default of some hosts, it could make their transactions fail', async () => {
    const setting = `ALTER DATABASE ${database.name} SET default_transaction_isolation`;
    await database.pool.query(`${setting} = serializable`);
    cleanUps.push(async () => await database.pool.query(`${setting} = DEFAULT`));
    const session = await open('flagcast test 4');
    const { rows } = await session.query('SHOW transaction_isolation');
    expect(rows).toEqual([{ transaction_isolation: 'read committed' }]);
  });

  it('is ended by PostgreSQL when it leaves a transaction open', async () => {
    const session = await open('flagcast test 2');
    const hasEnded = ended(session);
    await session.query('BEGIN');
    await hasEnded;
    await expect(session.query('COMMIT')).rejects.toMatchObject({ code: '25P03' });
  });

  it('whose client timed out is cancelled, so that PostgreSQL ends it before its own time-outs', async () => {
    const session = await Session.open({
      database: { url: database.url },
      applicationName: 'flagcast test 3',
      queryTimeoutMs: 60_000,
    });
    const slept = session.query(sleep);
    const hasEnded = ended(session);
    session.discard();
    await expect(slept).rejects.toThrow('discarded');
    await hasEnded;
    expect(await pids('flagcast test 3')).toEqual([]);
  });

  it('whose client timed out during COMMIT sends nothing before the response, and ends after it', async () => {
    await database.pool.query(`
      CREATE TABLE slow (id int);
      CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
      CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait()`);
    const session = await open('flagcast test 7');
    const hasEnded = ended(session);
    const socket = session.connection.stream as Socket;
    await session.query('BEGIN');
    await session.query('INSERT INTO slow VALUES (1)');
    const committed = session.query('COMMIT');
    const bytesSent = socket.bytesWritten;
    await expect(committed).rejects.toThrow('did not answer within 500 ms');
    let bytesAtAnswer = 0;
    socket.prependOnceListener('data', () => (bytesAtAnswer = socket.bytesWritten));
    await hasEnded;
    expect(bytesAtAnswer).toBe(bytesSent);
    expect((await database.pool.query('SELECT FROM slow')).rowCount).toBe(1);
  });

  it('that could not be opened is released after the time in which PostgreSQL ends it', async () => {
    const sockets = new Set<Socket>();
    const silent = createServer({ allowHalfOpen: true }, (socket) => sockets.add(socket.resume())).listen(0);
    await once(silent, 'listening');
    cleanUps.push(() => {
      vi.useRealTimers();
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    const url = new URL(database.url);
    url.port = String((silent.address() as AddressInfo).port);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const accepted = once(silent, 'connection');
    const session = new Session({
      database: { url: url.href },
      applicationName: 'flagcast test 11',
      queryTimeoutMs,
    });
    const hasEnded = ended(session);
    const opened = expect(session.open()).rejects.toThrow('did not answer within 5000 ms');
    await accepted;
    await vi.advanceTimersByTimeAsync(5_000);
    await opened;
    await vi.advanceTimersByTimeAsync(60_000);
    await hasEnded;
  });

  it('is not ended by time-outs of the role or the database', async () => {
    const { rows } = await database.pool.query<{ name: string }>(
      `SELECT name FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')`,
    );
    for (const { name } of rows) {
      await database.pool.query(`ALTER DATABASE ${database.name} SET ${name} = 100`);
      cleanUps.push(async () => await database.pool.query(`ALTER DATABASE ${database.name} RESET ${name}`));
    }
    const session = await open('flagcast test 8');
    expect((await session.query('SELECT pg_sleep(0.3)')).rowCount).toBe(1);
    await database.pool.query('SELECT pg_sleep(0.3)');
    expect((await session.query('SELECT 1')).rowCount).toBe(1);
  });

  it('reads null in a list as null, and all digits, with any defaults of the database', async () => {
    for (const setting of ['array_nulls = off', 'extra_float_digits = -15']) {
      await database.pool.query(`ALTER DATABASE ${database.name} SET ${setting}`);
      const [name = ''] = setting.split(' ');
      cleanUps.push(async () => await database.pool.query(`ALTER DATABASE ${database.name} RESET ${name}`));
    }
    const session = await open('flagcast test 9');
    const { rows } = await session.query(
      'SELECT ($1::text[])[1] AS first, (0.1::float8 + 0.2::float8)::text AS digits',
      [[null]],
    );
    expect(rows).toEqual([{ first: null, digits: '0.30000000000000004' }]);
  });
});

describe('a pool of sessions', () => {
  it('counts a session after a time-out until PostgreSQL has ended it', async () => {
    const sessions = pool('test 4', 1);
    const { rows } = await sessions.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const pid = rows[0]?.pid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      await expect(sessions.query('SELECT 1')).rejects.toThrow('did not answer within 500 ms');
      expect(sessions.used).toBe(1);
      await expect(sessions.query('SELECT 1')).rejects.toThrow(NoFreeSessionError);
      expect(sessions.timeouts).toBe(1);
      expect(await pids('flagcast test 4')).toEqual([pid]);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expect((await sessions.query('SELECT 1')).rowCount).toBe(1);
    expect(await pids('flagcast test 4')).not.toContain(pid);
    expect(sessions.used).toBe(1);
  });

  it('removes a request whose client has disconnected from the queue, so that it writes nothing', async () => {
    const sessions = pool('test 5', 1);
    const client = new AbortController();
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    const held = sessions.use(async () => await released);
    const written = sessions.until(client.signal).query('INSERT INTO locked VALUES (1)');
    expect(sessions.waiting).toBe(1);
    client.abort();
    await expect(written).rejects.toThrow('the client of the request has disconnected');
    expect(sessions.waiting).toBe(0);
    await expect.poll(async () => await pids('flagcast test 5')).toHaveLength(1);
    release();
    await held;
    expect((await sessions.query('SELECT FROM locked')).rowCount).toBe(0);
  });

  it('that has ended lends no session to waiting requests, so that a closed server writes nothing', async () => {
    const sessions = pool('test 9', 1);
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    const held = sessions.use(async () => await released);
    await expect.poll(async () => await pids('flagcast test 9')).toHaveLength(1);
    const written = sessions.query('INSERT INTO locked VALUES (1)');
    const refused = expect(written).rejects.toThrow('the server is closing its sessions of the database');
    expect(sessions.waiting).toBe(1);
    const ended = sessions.end();
    await refused;
    release();
    await held;
    await ended;
    await expect(sessions.query('SELECT 1')).rejects.toThrow('the server is closing');
    expect((await database.pool.query('SELECT FROM locked')).rowCount).toBe(0);
    expect(sessions.used).toBe(0);
  });

  it('closes a session that an owner left in a transaction, and keeps one whose statement failed', async () => {
    const sessions = pool('test 6', 1);
    const pid = async (): Promise<unknown> =>
      (await sessions.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid;
    const first = await pid();
    await expect(sessions.query('SELECT 1 / 0')).rejects.toMatchObject({ code: '22012' });
    expect(await pid()).toBe(first);
    await sessions.use(async (session) => await session.query('BEGIN'));
    expect(await pid()).not.toBe(first);
  });
});

describe('the sessions of a server that ends', () => {
  const sessionsOf = (limitMs: number): DatabaseSessions =>
    new DatabaseSessions({
      database: { url: database.url },
      listenUrl: null,
      connections: 6,
      queryTimeoutMs: limitMs,
      writes: true,
      relay: false,
    });
  const reading = { applicationName: 'flagcast test 10', queryTimeoutMs };

  it('stay open until their users have stopped', async () => {
    const sessions = sessionsOf(60_000);
    const reader = await sessions.open(reading);
    await sessions.requests.query('SELECT 1');
    const read = reader.query('SELECT pg_sleep(0.2)');
    await sessions.end(read);
    expect((await read).rowCount).toBe(1);
    await expect(reader.query('SELECT 1')).rejects.toThrow('discarded');
  });

  it('are closed after a time-out', async () => {
    const sessions = sessionsOf(200);
    const reader = await sessions.open(reading);
    await sessions.end(new Promise(() => undefined));
    await expect(reader.query('SELECT 1')).rejects.toThrow('discarded');
  });
});

describe('the budget of a server', () => {
  it('is divided completely, and each part gets its minimum', () => {
    for (const writes of [true, false]) {
      for (const relay of [true, false]) {
        const least = minServerConnections({ writes, relay });
        for (let connections = least; connections < 40; connections += 1) {
          const budget = divideConnections(connections, { writes, relay });
          const { reader, authorization, requests, writes: writers } = budget;
          expect(reader + authorization + requests + writers).toBe(connections);
          expect(Math.min(authorization, requests)).toBeGreaterThan(0);
          expect(writers > 0).toBe(writes);
        }
        expect(() => divideConnections(least - 1, { writes, relay })).toThrow(
          `too few: give database.connections ${least} or more`,
        );
      }
    }
    expect(divideConnections(10, { writes: true, relay: false })).toEqual({
      reader: 3,
      requests: 3,
      authorization: 2,
      writes: 2,
    });
  });
});

import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/cli/config.js';
import { install } from '../src/install/install.js';
import { createTestCluster, createTestDatabase, type TestDatabase, withClient } from './database.js';
import { createDoctorFixture } from './doctor-fixture.js';
import { createRestFixture } from './rest-fixture.js';
import { scrape } from './scrape.js';
import { testSecret } from './server.js';

const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

describe('FLAGCAST_DB_CONNECTIONS', () => {
  const connections = (environment: Record<string, string>): number =>
    loadConfig({ DATABASE_URL: 'postgresql://a/b', FLAGCAST_JWT_SECRET: testSecret, ...environment }, {})
      .databaseConnections;

  it('is ten by default, or more if the workers need more', () => {
    expect(connections({})).toBe(10);
    expect(connections({ FLAGCAST_DB_CONNECTIONS: '6' })).toBe(6);
    expect(connections({ FLAGCAST_WORKERS: '2' })).toBe(16);
    expect(connections({ FLAGCAST_WORKERS: '4', FLAGCAST_WRITES: 'on' })).toBe(31);
  });

  it('is refused with the minimum if it is too small', () => {
    expect(() => connections({ FLAGCAST_DB_CONNECTIONS: '5' })).toThrow(
      'FLAGCAST_DB_CONNECTIONS: 5 are too few for this server; give 6 or more',
    );
    expect(() => connections({ FLAGCAST_DB_CONNECTIONS: '15', FLAGCAST_WORKERS: '2' })).toThrow(
      'FLAGCAST_DB_CONNECTIONS: 15 are too few for 2 workers; give 16 or more',
    );
  });
});

describe('the CONNECTION LIMIT of the role of the server', () => {
  let database: TestDatabase;
  let role: string;

  beforeEach(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    role = `reader_${randomBytes(4).toString('hex')}`;
    cleanUps.push(async () => {
      await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await database.drop();
    });
  });

  const installRole = async (): Promise<readonly string[]> =>
    await withClient(database.url, async (client) => (await install(client, { role })).notes);
  const limit = async (): Promise<unknown> =>
    (await database.pool.query('SELECT rolconnlimit FROM pg_roles WHERE rolname = $1', [role])).rows;

  it('is set if install creates the role, and an operator may change it', async () => {
    expect(await installRole()).toEqual([]);
    expect(await limit()).toEqual([{ rolconnlimit: 30 }]);
    await database.pool.query(`ALTER ROLE ${role} CONNECTION LIMIT 50`);
    expect(await installRole()).toEqual([]);
    expect(await limit()).toEqual([{ rolconnlimit: 50 }]);
  });

  it('is unchanged for a role of the operator, with a note if it has no limit', async () => {
    await database.pool.query(`CREATE ROLE ${role} LOGIN`);
    expect(await installRole()).toEqual([
      `Role ${role} has no limit of sessions. To leave sessions to the host: ALTER ROLE "${role}" CONNECTION LIMIT 30;`,
    ]);
    expect(await limit()).toEqual([{ rolconnlimit: -1 }]);
  });
});

describe('doctor about sessions', () => {
  it('compares the budget, the limit of the role and max_connections', async () => {
    const cluster = await createTestCluster({ max_connections: '40' });
    cleanUps.push(async () => await cluster.remove());
    const fixture = await createDoctorFixture(cluster);
    cleanUps.push(async () => await fixture.drop());
    expect(await fixture.problems('sessions')).toEqual([]);
    const [found] = (await fixture.findings()).filter(({ id }) => id === 'sessions');
    expect(found?.message).toMatch(
      new RegExp(
        `^a server uses up to 10 sessions; role ${fixture.role} may have 30; \\d+ of 37 sessions of PostgreSQL are in use, 1 by this role$`,
      ),
    );
    expect(
      await fixture.expectFix('sessions', `ALTER ROLE ${fixture.role} CONNECTION LIMIT 5`),
    ).toMatchObject({
      severity: 'warning',
      consequence: expect.stringContaining('PostgreSQL refuses sessions') as string,
    });
    expect(
      await fixture.expectFix('sessions', `ALTER ROLE ${fixture.role} CONNECTION LIMIT -1`),
    ).toMatchObject({ severity: 'note' });
    await fixture.run(`ALTER ROLE ${fixture.role} CONNECTION LIMIT 60`);
    expect(await fixture.problems('sessions')).toMatchObject([
      { severity: 'warning', consequence: 'servers can use all sessions that the host needs' },
    ]);
  });
});

describe('a request that waits for a session', () => {
  it('leaves the queue when its client disconnects, and does not write', async () => {
    const rest = await createRestFixture({ database: { connections: 6 } });
    cleanUps.push(async () => await rest.close());
    const [locked, left] = [await rest.addFeature(), await rest.addFeature()];
    const path = `/api/features/${left.id}`;
    const body = { env: 'dev', version: await rest.version(left.id, 'dev'), enabled: true };
    const lockedBody = { ...body, version: await rest.version(locked.id, 'dev') };
    const waiting = async (): Promise<unknown> =>
      (await scrape(rest.server.httpUrl)).get('flagcast_database_sessions_waiting{purpose="writes"}');
    const gate = await rest.pool.connect();
    await gate.query('BEGIN');
    await gate.query('SELECT FROM features WHERE id = $1 FOR UPDATE', [locked.id]);
    const first = rest.ask('alice', 'PATCH', `/api/features/${locked.id}`, lockedBody);
    await expect
      .poll(async () => {
        const { rows } = await rest.pool.query<{ type: string | null }>(
          `SELECT wait_event_type AS type FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'flagcast writes'`,
        );
        return rows;
      })
      .toEqual([{ type: 'Lock' }]);
    const client = new AbortController();
    const second = fetch(`${rest.server.httpUrl}${path}`, {
      method: 'PATCH',
      headers: {
        Authorization: `Bearer ${rest.users.alice.token}`,
        'Content-Type': 'application/json',
      },
      body: JSON.stringify(body),
      signal: client.signal,
    });
    await expect.poll(waiting).toBe(1);
    client.abort();
    await expect(second).rejects.toThrow();
    await expect.poll(waiting).toBe(0);
    await gate.query('COMMIT');
    gate.release();
    const answer = await first;
    expect(answer.status).toBe(200);
    expect(await rest.version(left.id, 'dev')).toBe(body.version);
  });
});

describe('the metrics of sessions', () => {
  it('show open sessions and the limit by purpose, equal to pg_stat_activity', async () => {
    const rest = await createRestFixture();
    cleanUps.push(async () => await rest.close());
    const feature = await rest.addFeature();
    const version = await rest.version(feature.id, 'dev');
    await rest.ask('alice', 'PATCH', `/api/features/${feature.id}`, {
      env: 'dev',
      version,
      enabled: true,
    });
    const metrics = await scrape(rest.server.httpUrl);
    const of = (name: string): Record<string, number> =>
      Object.fromEntries(
        ['reader', 'authorization', 'requests', 'writes'].map((purpose) => [
          purpose,
          metrics.get(`${name}{purpose="${purpose}"}`) ?? -1,
        ]),
      );
    expect(of('flagcast_database_sessions_limit')).toEqual({
      reader: 3,
      authorization: 2,
      requests: 3,
      writes: 2,
    });
    expect(of('flagcast_database_sessions_waiting')).toEqual({
      reader: 0,
      authorization: 0,
      requests: 0,
      writes: 0,
    });
    const { rows } = await rest.pool.query<{ name: string; count: number }>(
      `SELECT application_name AS name, count(*)::int AS count FROM pg_stat_activity
       WHERE datname = current_database() AND application_name LIKE 'flagcast%' GROUP BY 1`,
    );
    const open = Object.fromEntries(rows.map(({ name, count }) => [name.replace('flagcast ', ''), count]));
    expect(of('flagcast_database_sessions')).toEqual(open);
    // It listens, too.
    expect(open['reader']).toBe(1);
  });
});

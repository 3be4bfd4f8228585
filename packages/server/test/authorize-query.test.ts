import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CallbackAuthorization,
  checkAuthorizeQuery,
  querySource,
} from '../src/auth/callback-authorization.js';
import type { SessionPool } from '../src/postgres/session-pool.js';
import { Lifecycle } from '../src/lifecycle.js';
import { runCommand } from './command.js';
import { createTestDatabase, type TestDatabase, withClient } from './database.js';
import { nextEvent, testSecret } from './server.js';
import { oneSession } from './session-pool.js';

/** Of a schema that is nothing like Togglr's: people with numbers, teams with slugs, stages with uuids. */
const schema = `
CREATE SCHEMA app;
CREATE TABLE app.people (id bigint PRIMARY KEY, email text UNIQUE);
CREATE TABLE app.teams (slug varchar(40) PRIMARY KEY, title text);
CREATE TABLE app.stages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), team varchar(40), name text);
CREATE TABLE app.seats (person bigint, team varchar(40));
INSERT INTO app.people VALUES (1, 'ada@example.com'), (2, 'bob@example.com');
INSERT INTO app.teams VALUES ('web/eu', 'Web'), ('pay', NULL);
INSERT INTO app.stages (team, name) VALUES ('web/eu', 'prod'), ('web/eu', 'dev'), ('pay', 'prod'), ('pay', NULL);
INSERT INTO app.seats VALUES (1, 'web/eu'), (2, 'web/eu'), (2, 'pay');
CREATE TABLE app.visits (at timestamptz DEFAULT now());
CREATE FUNCTION app.visit() RETURNS text LANGUAGE sql AS $$ INSERT INTO app.visits DEFAULT VALUES RETURNING 'x' $$`;

const columns = `seat.person AS user_id, stage.team AS project_id, stage.id AS environment_id, stage.name AS environment_key`;
const tables = 'app.seats seat JOIN app.stages stage USING (team)';
const query = `SELECT ${columns}, (SELECT title FROM app.teams t WHERE t.slug = stage.team) AS project_name
FROM ${tables} WHERE seat.person::text = ANY ($1) -- of these people
;
`;

let database: TestDatabase;
let pool: SessionPool;
const lifecycle = new Lifecycle();

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'none' });
  await database.pool.query(schema);
  pool = oneSession(database.url);
});

afterAll(async () => {
  await pool.end();
  await database.drop();
});

function authority(sql: string): CallbackAuthorization {
  return new CallbackAuthorization(querySource(pool, sql), lifecycle);
}

describe('the query of FLAGCAST_AUTHORIZE_SQL', () => {
  it('opens channels by ids of any type, as texts', async () => {
    const access = authority(query);
    expect(await access.openChannel('1', { projectId: 'web/eu', environmentKey: 'prod' })).toMatchObject({
      projectId: 'web/eu',
      environmentId: expect.stringMatching(/^[\da-f-]{36}$/) as string,
      environmentKey: 'prod',
    });
    expect(await access.openChannel('1', { projectId: 'web/eu', environmentKey: 'stage' })).toBe(
      'unknown_environment',
    );
    for (const [userId, projectId] of [
      ['1', 'pay'],
      ['1', 'WEB/EU'],
      ['3', 'web/eu'],
      ['ada', 'web/eu'],
      ['\0', 'web/eu'],
      ['1', "' OR true --"],
    ] as const) {
      expect(await access.openChannel(userId, { projectId, environmentKey: 'prod' })).toBe('forbidden');
    }
  });

  it('lists projects, and skips rows with empty columns with one warning', async () => {
    const ignored = nextEvent(lifecycle, 'access:rows-ignored');
    const projects = await authority(query).visibleProjects('2');
    expect(projects).toMatchObject([
      { id: 'web/eu', name: 'Web', environments: [{ key: 'prod', name: 'prod' }, { key: 'dev' }] },
      { id: 'pay', name: 'pay', environments: [{ key: 'prod' }] },
    ]);
    expect(await ignored).toStrictEqual({ source: 'FLAGCAST_AUTHORIZE_SQL', rows: 1 });
  });

  it('gives a user only their own rights, even if it does not use $1', async () => {
    const everything = authority(`SELECT ${columns} FROM ${tables}`);
    expect(await everything.openChannel('1', { projectId: 'pay', environmentKey: 'prod' })).toBe('forbidden');
    expect(await everything.visibleProjects('3')).toStrictEqual([]);
  });

  it('has $1 of type text[] anywhere, and may begin with WITH', async () => {
    const odd = `WITH asked AS (SELECT unnest($1) AS email)
      SELECT asked.email AS user_id, stage.team AS project_id, stage.id AS environment_id, stage.name AS environment_key
      FROM asked JOIN app.people person USING (email) JOIN app.seats seat ON seat.person = person.id JOIN app.stages stage USING (team);;`;
    const channel = await authority(odd).openChannel('ada@example.com', {
      projectId: 'web/eu',
      environmentKey: 'dev',
    });
    expect(channel).toMatchObject({ environmentKey: 'dev' });
  });

  it('runs with the project pushed down, so that an index on it is used', async () => {
    const plans: string[] = [];
    const explained = oneSession(database.url);
    try {
      await explained.use(async (session) => {
        session.on('notice', ({ message }) => plans.push(message ?? ''));
        await Promise.resolve();
      });
      await explained.query(`
        CREATE TABLE app.many AS
          SELECT 'u' || n % 100 AS u, 'p' || n AS p, n AS e, 'prod'::text AS k FROM generate_series(1, 20000) n;
        CREATE INDEX ON app.many (p);
        ANALYZE app.many;
        LOAD 'auto_explain';
        SET auto_explain.log_min_duration = 0;
        SET client_min_messages = log`);
      const source = querySource(
        explained,
        'SELECT DISTINCT u AS user_id, p AS project_id, e AS environment_id, k AS environment_key FROM app.many WHERE u = ANY ($1)',
      );
      expect(await source.find(['u7'], ['p107', 'p207'])).toHaveLength(2);
      expect(plans.join('\n')).toContain('Index Cond: (p = ANY');
    } finally {
      await explained.end();
    }
  });

  it('cannot write: it runs in a READ ONLY transaction, and its connection can be used afterwards', async () => {
    const sql = `SELECT ${columns.replace('stage.name', 'app.visit()')} FROM ${tables}`;
    await expect(
      authority(sql).openChannel('1', { projectId: 'web/eu', environmentKey: 'x' }),
    ).rejects.toThrow(
      /^FLAGCAST_AUTHORIZE_SQL failed: 25006: cannot execute INSERT in a read-only transaction$/,
    );
    expect((await database.pool.query('SELECT FROM app.visits')).rowCount).toBe(0);
    expect(await authority(query).visibleProjects('1')).toHaveLength(1);
    // The only connection of the pool is not in a transaction.
    await pool.query('INSERT INTO app.visits DEFAULT VALUES');
  });
});

describe('a query that cannot work', () => {
  it.each([
    ['is not SQL', 'SELEKT 1', /syntax error/],
    [
      'lacks a column',
      `SELECT ${columns.replace(/ AS environment_key/, '')} FROM ${tables}`,
      /environment_key does not exist/,
    ],
    ['reads a missing table', 'SELECT * FROM app.nothing', /"app.nothing" does not exist/],
    [
      'compares $1 with a number',
      `SELECT ${columns} FROM ${tables} WHERE seat.person = ANY ($1)`,
      /bigint = text/,
    ],
    ['has more parameters', `${query.replace(/;\s*$/, '')} AND stage.team = $2`, /2/],
    ['writes', `DELETE FROM app.seats RETURNING person`, /syntax error/],
    [
      'writes in a WITH',
      `WITH gone AS (DELETE FROM app.seats RETURNING person) SELECT ${columns} FROM ${tables}`,
      /top level/,
    ],
    ['has two statements', `${query} SELECT 1`, /syntax error/],
  ])('is reported with the error of PostgreSQL: it %s', async (_, sql, problem) => {
    await withClient(database.url, async (client) => {
      await expect(checkAuthorizeQuery(client, sql)).rejects.toThrow(problem);
    });
    expect((await database.pool.query('SELECT FROM app.seats')).rowCount).toBe(3);
  });

  it.each([['SELEKT 1'], [`${query.replace(/;\s*$/, '')} AND stage.team = $2`]])(
    'ends serve with one line: %s',
    async (sql) => {
      const prepared = await createTestDatabase({ schema: 'tables' });
      try {
        await prepared.pool.query(schema);
        const { code, stderr } = await runCommand(['serve', '--port', '0'], {
          env: { DATABASE_URL: prepared.url, FLAGCAST_JWT_SECRET: testSecret, FLAGCAST_AUTHORIZE_SQL: sql },
        });
        expect(code).toBe(1);
        expect(stderr).toMatch(
          /^flagcast: FLAGCAST_AUTHORIZE_SQL does not work on this database \((42601: syntax|08P01: bind).*\n$/,
        );
      } finally {
        await prepared.drop();
      }
    },
  );
});

import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { install, planInstall, uninstall } from '../src/install/install.js';
import { examine } from '../src/install/doctor/examine.js';
import { dumpCatalogue, installRefusal } from './catalogue.js';
import {
  createTestDatabase,
  decideRequest,
  insertAudit,
  insertRequest,
  seedProject,
  withClient,
  type TestDatabase,
} from './database.js';
import { makeChannel, makeHostTables, readLog } from './host-tables.js';
import { installOld } from './install-0.1.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'none' });
});

afterEach(async () => {
  await database.drop();
});

const onClient = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(database.url, work);

describe('an installation of Flagcast 0.1', () => {
  let role: string;

  beforeEach(() => {
    role = `reader_${randomBytes(4).toString('hex')}`;
  });

  afterEach(async () => {
    const { rowCount } = await database.pool.query('SELECT FROM pg_roles WHERE rolname = $1', [role]);
    if (rowCount === 1) await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  test.each(['attach', 'tables'] as const)(
    '(%s) becomes the same as a new one, keeps guards and roles, and can be uninstalled',
    async (mode) => {
      const { pool } = database;
      const isOfSchema = (line: string): boolean => !/^schema|schema_version|database owner/.test(line);
      const other = await createTestDatabase({ schema: 'none' });
      if (mode === 'attach') await makeHostTables(other.pool);
      await withClient(other.url, (client) => install(client, { tables: mode === 'tables', role }));
      const fresh = (await dumpCatalogue(other.pool)).filter(isOfSchema);
      await withClient(other.url, (client) => uninstall(client));
      await other.drop();

      await installOld(pool, { mode, role });
      await pool.query("INSERT INTO flagcast.guarded_environments VALUES (7, 'ada')");
      const plan = await onClient((client) => planInstall(client));
      const report = await onClient((client) => install(client));
      expect(report.lines).toEqual([
        ...plan.creates.map((object) => `created ${object}`),
        ...plan.grants.map((grant) => `granted ${grant}`),
      ]);
      expect(report.lines).toContain('created table flagcast.event_log');
      expect(report.lines).toContain(
        `granted EXECUTE ON FUNCTION flagcast.prune_event_log(interval, integer) TO "${role}"`,
      );
      const upgraded = (await dumpCatalogue(pool)).filter(isOfSchema);
      const rights = (line: string): string =>
        line.replaceAll(/\{([^}]*)\}/g, (_, list: string) => list.split(',').toSorted().join());
      expect(upgraded.map(rights)).toEqual(fresh.map(rights));
      expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
      // Version 0.1 needed to see the transactions of other roles.
      const stats = await pool.query(
        "SELECT FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'pg_read_all_stats', 'MEMBER')",
        [role],
      );
      expect(stats.rowCount).toBe(0);
      const guards = await pool.query('SELECT FROM flagcast.guarded_environments WHERE environment_id = 7');
      expect(guards.rowCount).toBe(1);

      const { lines } = await onClient((client) => uninstall(client));
      expect(lines).toContain(`dropped role "${role}"`);
      expect((await dumpCatalogue(pool)).filter((line) => /flagcast/.test(line))).toEqual([]);
    },
  );

  test.each([1, 2, 3] as const)('of the earlier version %i is also upgraded', async (version) => {
    await installOld(database.pool, { mode: 'attach', version });
    await onClient((client) => install(client));
    await insertAudit(database.pool, await makeChannel(database.pool));
    expect(await readLog(database.pool)).toHaveLength(1);
    expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
  });

  test('without its trigger is upgraded in one run', async () => {
    await installOld(database.pool, { mode: 'attach' });
    await database.pool.query('DROP TRIGGER flagcast_wake ON audit_log');
    await onClient((client) => install(client));
    await insertAudit(database.pool, await makeChannel(database.pool));
    expect(await readLog(database.pool)).toHaveLength(1);
    const { rowCount } = await database.pool.query("SELECT FROM pg_trigger WHERE tgname = 'flagcast_wake'");
    expect(rowCount).toBe(0);
  });

  test('can be uninstalled without an upgrade, and loses the grant of pg_read_all_stats', async () => {
    await installOld(database.pool, { mode: 'attach', role });
    // The role is kept, because it has privileges elsewhere.
    await database.pool.query(`CREATE TABLE theirs (); GRANT SELECT ON theirs TO ${role}`);
    const { lines } = await onClient((client) => uninstall(client));
    expect(lines).toContain(`revoked pg_read_all_stats FROM "${role}"`);
    const { rowCount } = await database.pool.query(
      "SELECT FROM pg_auth_members WHERE roleid = 'pg_read_all_stats'::regrole AND member = $1::regrole",
      [role],
    );
    expect(rowCount).toBe(0);
    await database.pool.query('DROP TABLE theirs');
  });

  test('keeps what an operator granted on its views, also on single columns and to PUBLIC', async () => {
    const { pool } = database;
    await installOld(pool, { mode: 'tables', role });
    const other = `${role}_other`;
    await pool.query(
      `CREATE ROLE ${other};
       GRANT SELECT ON flagcast.v_realtime_events TO ${other} WITH GRANT OPTION;
       GRANT SELECT (source, action) ON public.v_realtime_events TO ${other};
       GRANT SELECT ON public.v_realtime_events TO PUBLIC`,
    );
    const granted = async (): Promise<string[]> => {
      const lines = await dumpCatalogue(pool);
      return lines.flatMap((line) => {
        const [, object, grants = ''] =
          /^((?:relation|column) \w+\.v_realtime_events .*) grants (\S+)/.exec(line) ?? [];
        const [name = ''] = /^relation \S+|(?<=^column \S+ \d+ )\w+/.exec(object ?? '') ?? [];
        return grants
          .split(/[{},]/)
          .filter((grant) => /^=|_other/.test(grant))
          .map((grant) => `${name} ${grant}`);
      });
    };
    const before = await granted();
    expect(before).toHaveLength(4);
    await onClient((client) => install(client));
    expect(await granted()).toEqual(before);
    expect(await onClient((client) => install(client))).toMatchObject({ changed: false });
    await pool.query(`DROP OWNED BY ${other}; DROP ROLE ${other}`);
  });

  test('is upgraded by an owner that may not revoke pg_read_all_stats, with a note', async () => {
    const { pool, name } = database;
    const owner = `${role}_owner`;
    await pool.query(
      `CREATE ROLE ${owner}; CREATE ROLE ${role} IN ROLE pg_read_all_stats CONNECTION LIMIT 30 LOGIN;
       GRANT CREATE ON DATABASE ${name} TO ${owner}; GRANT CREATE ON SCHEMA public TO ${owner}`,
    );
    const { notes } = await onClient(async (client) => {
      await client.query(`SET ROLE ${owner}`);
      await installOld(client, { mode: 'attach' });
      await client.query(
        `INSERT INTO flagcast.granted_roles VALUES ('${role}', false, '{role pg_read_all_stats}')`,
      );
      return await install(client);
    });
    expect(notes).toContain(
      `Role ${role} has pg_read_all_stats, which it no longer needs. As a superuser: REVOKE pg_read_all_stats FROM "${role}";`,
    );
    await onClient((client) => uninstall(client));
    await pool.query(`DROP OWNED BY ${owner}; DROP ROLE ${owner}`);
  });

  test('is not upgraded while a view of the host reads its view, and the error names it', async () => {
    await installOld(database.pool, { mode: 'attach' });
    await database.pool.query('CREATE VIEW public.report AS SELECT source FROM flagcast.v_realtime_events');
    const error = await installRefusal(database, (client) => install(client));
    expect(error.message).toContain('view public.report depends on view flagcast.v_realtime_events');
  });

  test.each(['attach', 'tables'] as const)(
    '(%s) is upgraded while writers commit: each row was committed before, or is in the event log',
    async (mode) => {
      const { pool } = database;
      await installOld(pool, { mode });
      const channel =
        mode === 'attach'
          ? await makeChannel(pool)
          : await seedProject(pool).then(({ projectId, environments }) => ({
              projectId,
              environmentId: environments.prod,
            }));
      const perWriter = 60;
      const upgrades: Promise<unknown>[] = [];
      let isUpgraded = false;
      const write = async (): Promise<void> =>
        await onClient(async (client) => {
          for (let written = 0, after = 0; after < perWriter; written += 1) {
            if (isUpgraded) after += 1;
            await client.query('BEGIN');
            await insertAudit(client, channel);
            await client.query('SAVEPOINT step');
            await insertAudit(client, channel);
            if (written % 3 === 0) await client.query('ROLLBACK TO step');
            await client.query(written % 7 === 6 ? 'ROLLBACK' : 'COMMIT');
            if (written === perWriter) {
              if (upgrades.length === 0)
                upgrades.push(onClient((other) => install(other)).then(() => (isUpgraded = true)));
            }
          }
        });
      await Promise.all([write(), write(), write(), write()]);
      await Promise.all(upgrades);
      const { rows } = await pool.query<{ before: string; after: string; lost: string; repeated: string }>(
        `WITH installed AS (
           SELECT pg_xact_commit_timestamp(xmin) AS at FROM flagcast.schema_version WHERE version = 5
         ), written AS (
           SELECT pg_xact_commit_timestamp(a.xmin) > installed.at AS is_later,
             (SELECT count(*) FROM flagcast.event_log l WHERE l.source = 'audit' AND l.row_id = a.id::text) AS logged
           FROM audit_log a, installed
         )
         SELECT count(*) FILTER (WHERE NOT is_later) AS before, count(*) FILTER (WHERE is_later) AS after,
           count(*) FILTER (WHERE is_later AND logged <> 1) AS lost,
           count(*) FILTER (WHERE NOT is_later AND logged > 0) AS repeated
         FROM written`,
      );
      expect(rows[0]).toMatchObject({ lost: '0', repeated: '0' });
      expect(Number(rows[0]?.before)).toBeGreaterThan(perWriter);
      expect(Number(rows[0]?.after)).toBeGreaterThan(perWriter);
      const { findings } = await examine(database.url, { listen: false });
      expect(findings.filter(({ severity }) => severity === 'error')).toEqual([]);
    },
  );
});

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

  test('locks requests before their entities, as queries do', async () => {
    await onClient((client) => install(client));
    await database.pool.query('DROP TRIGGER flagcast_log ON audit_log');
    const reader = await database.pool.connect();
    try {
      await reader.query('BEGIN; SELECT FROM pending_changes');
      const installing = onClient((client) => install(client, { lockTimeoutMs: 60_000, attempts: 1 }));
      const waiting = `SELECT FROM pg_locks WHERE relation = 'pending_changes'::regclass AND NOT granted`;
      await vi.waitUntil(async () => (await database.pool.query(waiting)).rowCount === 1, 30_000);
      await reader.query('SELECT FROM pending_change_entities; COMMIT');
      expect((await installing).changed).toBe(true);
    } finally {
      reader.release();
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

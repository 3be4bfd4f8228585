import { cp, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import Postgrator from 'postgrator';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { install, planInstall, uninstall } from '../src/database/install.js';
import { dumpCatalogue, installRefusal } from './catalogue.js';
import { createTestDatabase, createTestFolder, withClient, type TestDatabase } from './database.js';

/** The tables alone, as a host has them. */
let database: TestDatabase;
let before: string[];

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'none' });
  const folder = new URL('../sql/tables/001.do.tables.sql', import.meta.url);
  await database.pool.query(await readFile(folder, 'utf8'));
  before = await dumpCatalogue(database.pool);
});

afterEach(async () => {
  await database.drop();
});

const onClient = async <Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> =>
  await withClient(database.url, work);

/** An installation as older versions made them: the first migrations only, by the runner that they used. */
async function installOlder(version: number): Promise<void> {
  const folder = await createTestFolder();
  try {
    const source = fileURLToPath(new URL('../sql/flagcast/', import.meta.url));
    await mkdir(path.join(folder, 'sql'));
    for (const file of await readdir(source)) {
      if (Number.parseInt(file, 10) <= version)
        await cp(path.join(source, file), path.join(folder, 'sql', file));
    }
    await onClient(async (client) => {
      const runner = new Postgrator({
        driver: 'pg',
        migrationPattern: path.join(folder, 'sql', '*.sql'),
        schemaTable: 'flagcast.schema_version',
        newline: 'LF',
        execQuery: async (query) => ({ rows: (await client.query(query)).rows as unknown[] }),
      });
      await runner.migrate();
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

test.each([1, 2, 3])(
  'an installation of version %i is brought up to date, and can be taken back',
  async (version) => {
    await installOlder(version);
    await database.pool.query('CREATE VIEW public.theirs AS SELECT source FROM flagcast.v_realtime_events');
    const plan = await onClient((client) => planInstall(client));
    // The view stays as it is, with what others built on it.
    expect(plan.statements.join('\n')).not.toContain('DROP');
    expect(plan.creates).not.toContain('view flagcast.v_realtime_events');
    const report = await onClient((client) => install(client));
    expect(report.changed).toBe(true);
    expect(report.lines).toEqual(plan.creates.map((object) => `created ${object}`));
    expect(report.lines).toContain('created table flagcast.granted_roles');
    expect(await onClient((client) => planInstall(client))).toMatchObject({ creates: [], statements: [] });

    await database.pool.query('DROP VIEW public.theirs');
    await onClient((client) => uninstall(client));
    expect(await dumpCatalogue(database.pool)).toEqual(before);
  },
);

test('an older installation of which something was dropped is repaired and brought up to date at once', async () => {
  await installOlder(2);
  await database.pool.query('DROP TRIGGER flagcast_wake ON audit_log');
  const { lines } = await onClient((client) => install(client));
  expect(lines).toEqual([
    'created table flagcast.granted_roles',
    'created table flagcast.guarded_environments',
    'created trigger flagcast_wake on public.audit_log',
  ]);
});

test('what is run is what was agreed to, or nothing', async () => {
  const agreed = await onClient((client) => planInstall(client));
  await onClient((client) => install(client));
  expect(await onClient((client) => install(client, { agreed }))).toMatchObject({ changed: false });
  await database.pool.query('DROP VIEW flagcast.v_realtime_events');
  const error = await installRefusal(database, async (client) => await install(client, { agreed }));
  expect(error.code).toBe('plan-changed');
  expect(error.message).toMatch(/Run this again\.$/);
});

test('where a lock is not to be had it is tried again, and each time it is told who holds it', async () => {
  const holder = await database.pool.connect();
  const { rows } = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  await holder.query('BEGIN; LOCK TABLE audit_log IN ROW EXCLUSIVE MODE');
  try {
    const told: string[] = [];
    const error = await installRefusal(
      database,
      async (client) =>
        await install(client, {
          lockTimeoutMs: 50,
          attempts: 2,
          onRetry: ({ attempt, attempts, holder: who }) => told.push(`${attempt}/${attempts} ${who}`),
        }),
    );
    const who = new RegExp(
      `process ${rows[0]?.pid} \\(role postgres, application test, idle in transaction, for \\d+ s\\), which holds a lock on public\\.audit_log, is`,
    );
    expect(told).toEqual([expect.stringMatching(/^1\/2 /)]);
    expect(told[0]).toMatch(who);
    expect(error.code).toBe('locked');
    expect(error.message).toMatch(who);

    // The statement in the message is the one that helps.
    const mend = /or end it: (SELECT .*)\.$/.exec(error.message)?.[1] ?? '';
    await database.pool.query(mend);
    expect((await onClient((client) => install(client))).changed).toBe(true);
  } finally {
    holder.release(true);
  }
});

test('a lock that goes in time is only a delay', async () => {
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

test('a lock that a prepared transaction holds is told with what ends it', async () => {
  await database.pool.query(`BEGIN; LOCK TABLE audit_log IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'it''s'`);
  const error = await installRefusal(
    database,
    async (client) => await install(client, { lockTimeoutMs: 50, attempts: 1 }),
  );
  const mend = /or end it: COMMIT PREPARED or (ROLLBACK PREPARED '.*')\.$/.exec(error.message)?.[1] ?? '';
  await database.pool.query(mend);
  expect((await onClient((client) => install(client))).changed).toBe(true);
});

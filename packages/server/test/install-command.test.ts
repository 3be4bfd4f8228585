import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hasTerminals, RunningCommand, runHere } from './command.js';
import { createTestDatabase, type TestDatabase } from './database.js';

let database: TestDatabase;
let role: string;
const cleanUps: (() => Promise<void>)[] = [];

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  role = `reader_${randomBytes(4).toString('hex')}`;
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await database.pool.query(`DROP ROLE IF EXISTS ${role}`);
  await database.drop();
});

const env = (): Record<string, string> => ({ DATABASE_URL: database.url });

describe('flagcast install --role', () => {
  it('lists the privileges of the role and its usage, without a password', async () => {
    const { code, stdout, stderr } = await runHere(['install', '--role', role], env());
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`created role "${role}"\n`);
    expect(stdout).toContain(`granted SELECT ON TABLE public.features TO "${role}"\n`);
    // Flagcast's own tables contain hashes that its sign-in can check.
    expect(stdout).toContain('is_superuser, password_hash) ON TABLE public.users');
    // Nothing to copy that would hold the password in a history or in PostgreSQL's log.
    expect(stdout).toContain(`in psql:     \\password "${role}"\n`);
    expect(stdout).not.toMatch(/ALTER ROLE/);
    expect(stdout).toMatch(
      new RegExp(
        `FLAGCAST_JWT_SECRET=\\.{3} DATABASE_URL=postgresql://${role}:PASSWORD@127\\.0\\.0\\.1:\\d+/${database.name} flagcast serve\\n$`,
      ),
    );
    expect(stdout).not.toContain(new URL(database.url).password);
    await database.pool.query(`DROP OWNED BY ${role}`);
  });

  it('grants the role no writes to tables and no function that writes events', async () => {
    await runHere(['install', '--role', role], env());
    const { rows: writable } = await database.pool.query(
      `SELECT c.oid::regclass::text AS name FROM pg_class c
       WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace IN ('public'::regnamespace, 'flagcast'::regnamespace)
         AND (has_table_privilege($1, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
           OR has_any_column_privilege($1, c.oid, 'INSERT, UPDATE, REFERENCES'))`,
      [role],
    );
    expect(writable).toEqual([]);
    const { rows: executable } = await database.pool.query<{ proname: string }>(
      `SELECT proname FROM pg_proc WHERE pronamespace = 'flagcast'::regnamespace AND prosecdef
         AND prorettype <> 'trigger'::regtype AND has_function_privilege($1, oid, 'EXECUTE') ORDER BY proname`,
      [role],
    );
    expect(executable.map(({ proname }) => proname)).toEqual([
      'adopt_event_log',
      'environment_key',
      'prune_event_log',
    ]);
    await database.pool.query(`DROP OWNED BY ${role}`);
  });

  it('grants what changes need with --writes, and uninstall drops the role', async () => {
    const { code, stdout } = await runHere(['install', '--role', role, '--writes'], env());
    expect(code).toBe(0);
    expect(stdout).toContain(`granted INSERT, UPDATE, DELETE ON TABLE public.features TO "${role}"\n`);
    expect(stdout).toMatch(/FLAGCAST_WRITES=on DATABASE_URL=.* flagcast serve\n$/);
    const removed = await runHere(['uninstall', '--yes'], env());
    expect(removed).toMatchObject({ code: 0, stderr: '' });
    expect(removed.stdout).toContain(`dropped role "${role}"\n`);
  });

  it('refuses a reserved role name, and --dry-run with --yes, and --writes without --role', async () => {
    const reserved = await runHere(['install', '--role', 'pg_flagcast'], env());
    expect(reserved).toMatchObject({ code: 1, stdout: '' });
    expect(reserved.stderr).toMatch(/^flagcast: --role: "pg_flagcast" is reserved by PostgreSQL; .*\n$/);
    const both = await runHere(['install', '--dry-run', '--yes'], env());
    expect(both).toMatchObject({ code: 2, stdout: '' });
    expect(both.stderr).toMatch(/^flagcast: --dry-run .*--help\n$/);
    const alone = await runHere(['install', '--writes'], env());
    expect(alone).toMatchObject({ code: 2, stdout: '' });
    expect(alone.stderr).toMatch(/^flagcast: --writes needs --role; .*--help\n$/);
  });

  it.skipIf(!hasTerminals)(
    'shows the plan before it asks, and uninstall shows the objects that it would drop',
    async () => {
      const ask = async (args: readonly string[], answer: string): Promise<string> => {
        const command = new RunningCommand(args, { terminal: true, env: env() });
        cleanUps.push(async () => await command.end());
        command.type(`${answer}\n`);
        return (await command.ended).stdout;
      };
      const shown = await ask(['install', '--role', role], 'n');
      expect(shown.indexOf(`would create role "${role}"`)).toBeGreaterThanOrEqual(0);
      expect(shown.indexOf('would grant USAGE ON SCHEMA flagcast')).toBeLessThan(
        shown.indexOf('Install this in'),
      );
      expect(shown).toContain('would grant USAGE ON SCHEMA flagcast');
      const roles = async (): Promise<number | null> =>
        (await database.pool.query('SELECT FROM pg_roles WHERE rolname = $1', [role])).rowCount;
      expect(await roles()).toBe(0);
      await ask(['install', '--role', role], 'y');
      expect(await roles()).toBe(1);
      expect(await ask(['uninstall'], 'n')).toContain(`would drop role ${role}`);
      expect(await ask(['uninstall'], 'y')).toContain(`dropped role "${role}"`);
      expect(await roles()).toBe(0);
    },
  );

  it('prints each failed attempt to stderr with the session that holds the lock', async () => {
    await database.pool.query('DROP TRIGGER flagcast_log ON audit_log');
    const holder = await database.pool.connect();
    await holder.query('BEGIN; LOCK TABLE audit_log IN ROW EXCLUSIVE MODE');
    const command = new RunningCommand(['install'], { env: env() });
    cleanUps.push(async () => await command.end());
    expect(await command.errorLine((line) => line.includes('Attempt 1 of 5'))).toMatch(
      /^flagcast: Attempt 1 of 5: process \d+ \(role postgres, application test, idle in transaction, for \d+ s\) holds a lock on public\.audit_log; retry in \d\.\d s$/,
    );
    await holder.query('COMMIT');
    holder.release();
    expect((await command.ended).code).toBe(0);
  });
});

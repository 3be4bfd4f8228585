import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runHere } from './command.js';
import { createTestDatabase, type SeededProject, seedProject, type TestDatabase } from './database.js';

let database: TestDatabase;
let shop: SeededProject;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  shop = await seedProject(database.pool, { name: 'Web shop' });
  await seedProject(database.pool, { name: 'Billing' });
});

beforeEach(async () => {
  await database.pool.query('DELETE FROM flagcast.guarded_environments; DELETE FROM audit_log');
});

afterAll(async () => {
  await database.drop();
});

async function guard(...args: string[]): ReturnType<typeof runHere> {
  return await runHere(['guard', ...args], { DATABASE_URL: database.url });
}

async function guarded(): Promise<string[]> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT environment_id::text AS id FROM flagcast.guarded_environments ORDER BY 1',
  );
  return rows.map(({ id }) => id);
}

describe('flagcast guard', () => {
  it('adds, lists and removes, and each change is in the history', async () => {
    const { prod } = shop.environments;
    const added = await guard('add', '--project', 'Web shop', '--env', 'prod');
    expect(added).toMatchObject({ code: 0, stderr: '' });
    expect(added.stdout).toBe('Web shop / prod is guarded: changes in it wait for an approval.\n');
    expect(await guarded()).toStrictEqual([prod]);

    const list = await guard('list');
    expect(list.code).toBe(0);
    expect(list.stdout).toMatch(/^Web shop \/ prod {2}since 20\d\d-\S+Z {2}by \S+ \(flagcast guard\)\n$/);

    const again = await guard('add', '--project', shop.projectId, '--env', prod);
    expect(again).toMatchObject({
      code: 0,
      stdout: 'Web shop / prod is guarded already; nothing was changed.\n',
    });

    const removed = await guard('remove', '--project', 'Web shop', '--env', 'Production');
    expect(removed).toMatchObject({
      code: 0,
      stdout: 'Web shop / prod is no longer guarded: changes in it are made at once.\n',
    });
    expect(await guarded()).toStrictEqual([]);
    expect((await guard('list')).stdout).toBe('No environment is guarded.\n');
    const { rows } = await database.pool.query(
      `SELECT project_id, environment_id::text AS environment_id, entity, actor, username LIKE '% (flagcast guard)' AS named,
         action, old_value, new_value
       FROM audit_log ORDER BY id`,
    );
    const common = {
      project_id: shop.projectId,
      environment_id: prod,
      entity: 'environment',
      actor: 'system',
      named: true,
      action: 'update',
    };
    expect(rows).toStrictEqual([
      { ...common, old_value: { guarded: false }, new_value: { guarded: true } },
      { ...common, old_value: { guarded: true }, new_value: { guarded: false } },
    ]);
  });

  it.each([
    [['add', '--project', 'Shop', '--env', 'prod'], 1, 'There is no project "Shop"'],
    [['add', '--project', 'Web shop', '--env', 'test'], 1, 'has no environment "test"'],
    [['add', '--project', 'Web shop'], 2, 'guard add needs --project and --env'],
    [['remove', '--env', 'prod'], 2, 'guard remove needs --project and --env'],
    [['drop', '--project', 'Web shop', '--env', 'prod'], 2, 'list, add or remove'],
    [[], 2, 'list, add or remove'],
  ])('%j exits with %i and an error', async (args, code, message) => {
    const result = await guard(...args);
    expect({ code: result.code, stdout: result.stdout }).toStrictEqual({ code, stdout: '' });
    expect(result.stderr).toContain(message);
    expect(await guarded()).toStrictEqual([]);
  });

  it('refuses an ambiguous name of an environment, and options of list', async () => {
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO environments (project_id, key, name) VALUES ($1, 'prod-eu', 'Production') RETURNING id::text AS id`,
      [shop.projectId],
    );
    const named = await guard('add', '--project', 'Web shop', '--env', 'Production');
    expect(named).toMatchObject({ code: 1, stdout: '' });
    expect(named.stderr).toContain('prod, prod-eu');
    expect(await guarded()).toStrictEqual([]);
    const listed = await guard('list', '--project', 'Web shop');
    expect(listed).toMatchObject({ code: 2, stdout: '' });
    await database.pool.query('DELETE FROM environments WHERE id = $1', [rows[0]?.id]);
  });

  it('reports that Flagcast is not installed', async () => {
    const empty = await createTestDatabase({ schema: 'none' });
    const { code, stderr } = await runHere(['guard', 'list'], { DATABASE_URL: empty.url });
    expect(code).toBe(1);
    expect(stderr).toContain('flagcast install');
    await empty.drop();
  });
});

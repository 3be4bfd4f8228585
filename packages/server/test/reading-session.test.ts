import { randomUUID } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import { sessionOpener } from './reader.js';
import { readListColumns } from '../src/host/feature-lists.js';
import { ReadingSession } from '../src/reader/reading-session.js';
import {
  createTestDatabase,
  insertAudit,
  insertRequest,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';

/** A session of the reader, and the names of the statements that it has sent since the last call of `take`. */
async function openSession(database: TestDatabase) {
  const names: string[] = [];
  const open = sessionOpener(database);
  const session = await ReadingSession.open({
    openSession: async (options) => {
      const opened = await open(options);
      const query = opened.query.bind(opened) as (...args: unknown[]) => Promise<unknown>;
      opened.query = (async (statement: { name?: string }, values?: unknown[]) => {
        names.push(statement.name ?? '');
        return await query(statement, values);
      }) as never;
      return opened;
    },
    view: null,
    queryTimeoutMs: 10_000,
    before: null,
  });
  onTestFinished(async () => await session.end());
  return { session, take: () => names.splice(0) };
}

it('a read sends the cheapest statement that is enough, and has the complete state with each of them', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { pool } = database;
  const { projectId, environments } = await seedProject(pool);
  const channel = { projectId, environmentId: environments.prod };
  const [plain, ruled] = [randomUUID(), randomUUID()];
  for (const id of [plain, ruled]) {
    await pool.query(
      `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, 'A flag', 'simple')`,
      [id, projectId, id.slice(0, 30)],
    );
  }
  await pool.query(
    `INSERT INTO rules (id, project_id, feature_id, environment_id, conditions, action, priority)
     VALUES (gen_random_uuid(), $1, $2, $3, '{}', 'include', 1)`,
    [projectId, ruled, environments.prod],
  );
  const { session, take } = await openSession(database);
  const [search, short, full] = ['search', '500_short', '500_full'].map((name) => `flagcast_read_${name}`);
  // Each is planned before an event waits for it, and the expensive one after the start.
  expect(take().slice(-1)).toEqual([short]);
  expect(await session.check()).toMatchObject({ isOutdated: false });
  expect(take().slice(-1)).toEqual([full]);
  let { position } = await session.readLog({ lows: [], highs: [], partial: null }, 500, 'full');
  const read = async (searchesFirst = false) => {
    take();
    const bounds = {
      lows: [position.coverage.xmax.toString()],
      highs: ['9223372036854775807'],
      partial: null,
    };
    const result = await session.readLog(bounds, 500, 'full', searchesFirst);
    ({ position } = result);
    const states = result.rows.map(({ event }) => event?.featureJson ?? null);
    return { states: states.map((json) => JSON.parse(json ?? 'null') as unknown), sent: take() };
  };

  expect(await read(true)).toEqual({ states: [], sent: [search] });
  await insertAudit(pool, { ...channel, featureId: plain });
  const state = { id: plain, rules: [], rules_total: 0, schedules: [], schedules_total: 0 };
  expect(await read(true)).toMatchObject({ states: [state], sent: [search, short] });
  await insertAudit(pool, { ...channel, featureId: ruled });
  expect(await read()).toMatchObject({ states: [{ id: ruled, rules_total: 1 }], sent: [short, full] });
  // For a while, the next ones have lists, too; then the cheaper statement is tried again.
  for (let count = 0; count < 16; count += 1) {
    await insertAudit(pool, { ...channel, featureId: plain });
    expect(await read()).toMatchObject({ states: [state], sent: [full] });
  }
  await insertRequest(pool, channel);
  expect((await read()).sent).toEqual([short, full]);
});

it('finds the lists of features also where the role or database quotes all identifiers', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const quoted = await withClient(database.url, async (client) => {
    await client.query('SET quote_all_identifiers = on');
    return await readListColumns(client);
  });
  expect(quoted['rules']).toMatchObject({ feature_id: 'uuid' });
  expect(quoted).toEqual(await readListColumns(database.pool));
});

it('is outdated when a column that was missing is there again, because states can be read then', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  await database.pool.query('ALTER TABLE features RENAME COLUMN description TO text');
  const { session } = await openSession(database);
  expect(session.source.hasState).toBe(false);
  expect(await session.check()).toMatchObject({ isOutdated: false });
  await database.pool.query('ALTER TABLE features RENAME COLUMN text TO description');
  expect(await session.check()).toMatchObject({ isOutdated: true });
});

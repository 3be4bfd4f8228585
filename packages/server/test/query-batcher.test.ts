import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { TableAuthorization } from '../src/auth/table-authorization.js';
import { QueryBatcher } from '../src/postgres/query-batcher.js';
import { createTestDatabase, createTestPool, seedProject, type TestDatabase } from './database.js';
import { addMember, createUser } from './server.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});
afterAll(async () => await database.drop());

describe('a query in progress', () => {
  /** Runs `work` while memberships are locked; `blocked` resolves when `count` queries wait for the lock. */
  async function withoutMemberships(
    work: (blocked: (count: number) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const client = await database.pool.connect();
    try {
      await client.query('BEGIN; LOCK TABLE memberships');
      await work(async (count) => {
        await expect
          .poll(async () => {
            const { rows } = await database.pool.query<{ blocked: number }>(
              `SELECT count(*)::integer AS blocked FROM pg_stat_activity
               WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`,
            );
            return rows[0]?.blocked;
          })
          .toBe(count);
      });
    } finally {
      await client.query('ROLLBACK');
      client.release();
    }
  }

  it('is not shared with later questions and does not delay them', async () => {
    const { projectId } = await seedProject(database.pool);
    const { id: userId } = await createUser(database.pool, 'ada');
    await addMember(database.pool, projectId, userId, 'project_viewer');
    let queries = 0;
    const pool = createTestPool(database.url);
    pool.on('acquire', () => (queries += 1));
    onTestFinished(async () => await pool.end());
    const access = new TableAuthorization(pool);
    const open = async (): ReturnType<TableAuthorization['openChannel']> =>
      await access.openChannel(userId, { projectId, environmentKey: 'prod' });
    const answers: ReturnType<typeof open>[] = [];
    await withoutMemberships(async (blocked) => {
      answers.push(open());
      await blocked(1);
      // The same query is sent again, and another one is answered.
      answers.push(open());
      await blocked(2);
      expect(await access.findUser({ user: { id: userId } })).toMatchObject({ id: userId });
    });
    expect(await Promise.all(answers)).toMatchObject([{ projectId }, { projectId }]);
    expect(queries).toBe(3);
  });
});

describe('questions in one batch', () => {
  it('fail together, and the next ones are sent in a new query', async () => {
    let failures = 1;
    const asked: (readonly number[])[] = [];
    const batcher = new QueryBatcher(async (questions: readonly number[]) => {
      asked.push(questions);
      failures -= 1;
      if (failures >= 0) throw new Error('away');
      return await Promise.resolve(questions.length);
    });
    const failed = await Promise.allSettled([1, 2, 3].map(async (question) => await batcher.ask(question)));
    expect(failed.map(({ status }) => status)).toStrictEqual(['rejected', 'rejected', 'rejected']);
    expect(await batcher.ask(4)).toBe(1);
    expect(asked).toStrictEqual([[1, 2, 3], [4]]);
  });

  it('are answered a few at a time, so that the event loop does other work in between', async () => {
    const batcher = new QueryBatcher(
      async (questions: readonly number[]) => await Promise.resolve(questions),
    );
    let answered = 0;
    const all = Array.from({ length: 200 }, async (_, question) => {
      await batcher.ask(question);
      answered += 1;
    });
    await all[0];
    expect(answered).toBeLessThan(200);
    await Promise.all(all);
  });
});

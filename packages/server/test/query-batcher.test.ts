import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { TableAuthorization } from '../src/auth/table-authorization.js';
import { QueryBatcher } from '../src/postgres/query-batcher.js';
import { createTestDatabase, seedProject, type TestDatabase } from './database.js';
import { addMember, createUser } from './server.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});
afterAll(async () => await database.drop());

describe('a question that is under way', () => {
  /** While nobody can read memberships; `blocked` resolves when so many queries wait for that. */
  async function withoutMemberships(
    work: (blocked: (count: number) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const client = await database.pool.connect();
    try {
      await client.query('BEGIN; LOCK TABLE memberships');
      await work(async (count) => {
        await expect
          .poll(
            async () => {
              const { rows } = await database.pool.query<{ blocked: number }>(
                `SELECT count(*)::integer AS blocked FROM pg_stat_activity
               WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`,
              );
              return rows[0]?.blocked;
            },
            { timeout: 20_000 },
          )
          .toBe(count);
      });
    } finally {
      await client.query('ROLLBACK');
      client.release();
    }
  }

  it('answers nobody who asks later, and does not hold them up', async () => {
    const { projectId } = await seedProject(database.pool);
    const { id: userId } = await createUser(database.pool, 'ada');
    await addMember(database.pool, projectId, userId, 'project_viewer');
    let queries = 0;
    const pool = new pg.Pool({ connectionString: database.url });
    pool.on('acquire', () => (queries += 1));
    onTestFinished(async () => await pool.end());
    const access = new TableAuthorization(pool);
    const answers: Promise<boolean>[] = [];
    await withoutMemberships(async (blocked) => {
      answers.push(access.mayView(userId, projectId));
      await blocked(1);
      // The same is asked anew, and what can be answered is.
      answers.push(access.mayView(userId, projectId));
      await blocked(2);
      expect(await access.findUser({ user: { id: userId } })).toMatchObject({ id: userId });
    });
    expect(await Promise.all(answers)).toStrictEqual([true, true]);
    expect(queries).toBe(3);
  });
});

describe('questions that come together', () => {
  it('fail together, and the next ones are asked anew', async () => {
    let failures = 1;
    const asked: (readonly number[])[] = [];
    const gathered = new QueryBatcher(async (questions: readonly number[]) => {
      asked.push(questions);
      failures -= 1;
      if (failures >= 0) throw new Error('away');
      return await Promise.resolve(questions.length);
    });
    const failed = await Promise.allSettled([1, 2, 3].map(async (question) => await gathered.ask(question)));
    expect(failed.map(({ status }) => status)).toStrictEqual(['rejected', 'rejected', 'rejected']);
    expect(await gathered.ask(4)).toBe(1);
    expect(asked).toStrictEqual([[1, 2, 3], [4]]);
  });

  it('are answered a few at a time, so that others are served in between', async () => {
    const gathered = new QueryBatcher(
      async (questions: readonly number[]) => await Promise.resolve(questions),
    );
    let answered = 0;
    const all = Array.from({ length: 200 }, async (_, question) => {
      await gathered.ask(question);
      answered += 1;
    });
    await all[0];
    expect(answered).toBeLessThan(200);
    await Promise.all(all);
  });
});

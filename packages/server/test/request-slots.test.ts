import { expect, it } from 'vitest';
import { openCompany } from './rest-company.js';

it('lets one user have two expensive requests under way, lets some more wait, and refuses the rest', async () => {
  const company = await openCompany();
  const { shop, pool } = company;
  const lock = await pool.connect();
  try {
    const audit = `/api/audit?project_id=${shop.projectId}&env=prod`;
    const snapshot = `/api/snapshot?project_id=${shop.projectId}&env=prod`;
    await lock.query('BEGIN');
    await lock.query('LOCK TABLE pending_changes IN ACCESS EXCLUSIVE MODE');
    const answers = Array.from(
      { length: 66 },
      async (_, index) => await company.ask('carol', 'GET', index % 2 === 0 ? audit : snapshot),
    );
    // They came first, on their own connections.
    await expect
      .poll(
        async () => {
          const { rows } = await pool.query<{ waiting: number }>(
            `SELECT count(*)::int AS waiting FROM pg_stat_activity
           WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return rows[0]?.waiting;
        },
        { timeout: 10_000 },
      )
      .toBe(2);
    await expect
      .poll(async () => (await company.ask('carol', 'GET', audit)).status, { timeout: 5_000 })
      .toBe(429);
    const refused = await company.ask('carol', 'GET', snapshot);
    expect(refused).toMatchObject({ status: 429, body: { code: 'too_many_requests' } });
    expect(refused.headers.get('retry-after')).toBe('2');
    expect((await company.ask('alice', 'GET', '/api/auth/me')).status).toBe(200);
    await lock.query('COMMIT');
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect((await company.ask('carol', 'GET', audit)).status).toBe(200);
  } finally {
    lock.release(true);
    await company.close();
  }
});

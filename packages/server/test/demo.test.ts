import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { verifyPassword } from '../../console/server/password.js';
import { fillDemo } from '../../demo/src/company/fill.js';
import { demoProjects, demoUsers } from '../../demo/src/company/company.js';
import { auditFeatureState, ruleState, scheduleState } from '../src/host/feature-state.js';
import { createTestDatabase, withClient, type TestDatabase } from './database.js';

/** A Wednesday, shortly before noon. */
const nowMs = Date.UTC(2025, 8, 24, 11, 45);

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});

afterEach(async () => {
  await database.drop();
});

async function fill(options: { seed?: number; nowMs?: number } = { nowMs }): Promise<void> {
  await withClient(database.url, async (client) => {
    await fillDemo(client, options);
  });
}

async function select<Row extends pg.QueryResultRow>(statement: string): Promise<Row[]> {
  return (await database.pool.query<Row>(statement)).rows;
}

/** The generated data, without ids and defaults of PostgreSQL. */
async function generatedData(): Promise<unknown> {
  return await Promise.all([
    select('SELECT id, key, name, description, kind, created_at, updated_at FROM features ORDER BY id'),
    select(`SELECT feature_id, e.key, enabled, default_value, p.updated_at FROM feature_params p
      JOIN environments e ON e.id = environment_id ORDER BY feature_id, e.key`),
    select('SELECT id, conditions, action, priority, created_at, updated_at FROM rules ORDER BY id'),
    select('SELECT id, starts_at, ends_at, cron_expr, action, created_at FROM feature_schedules ORDER BY id'),
    select(
      'SELECT id, requested_by, change, status, created_at, approved_at FROM pending_changes ORDER BY id',
    ),
    select(
      'SELECT entity_id, username, action, old_value, new_value, request_id, created_at FROM audit_log ORDER BY id',
    ),
  ]);
}

describe('the demo', () => {
  test('has projects, users, sixty flags and requests of every status', async () => {
    await fill();
    const projects = await select<{ id: string; name: string; environments: string[]; flags: number }>(
      `SELECT id, name,
         (SELECT array_agg(key ORDER BY key) FROM environments e WHERE e.project_id = p.id) AS environments,
         (SELECT count(*)::int FROM features f WHERE f.project_id = p.id) AS flags
       FROM projects p ORDER BY id`,
    );
    expect(projects).toEqual(
      demoProjects.map(({ id, name }) => ({ id, name, environments: ['dev', 'prod', 'stage'], flags: 20 })),
    );
    const roles = await select<{ username: string; place: string }>(
      `SELECT u.username, p.name || ': ' || r.key AS place FROM memberships m
       JOIN users u ON u.id = m.user_id JOIN projects p ON p.id = m.project_id JOIN roles r ON r.id = m.role_id`,
    );
    for (const user of demoUsers) {
      const places = Object.entries(user.roles).map(([project, role]) => `${project}: ${role}`);
      const found = roles.filter((row) => row.username === user.username).map((row) => row.place);
      expect(found.sort()).toEqual(places.sort());
    }
    const [counts] = await select<Record<string, number>>(
      `SELECT
         (SELECT count(*)::int FROM pending_changes WHERE status = 'pending') AS open,
         (SELECT count(DISTINCT status)::int FROM pending_changes) AS statuses,
         (SELECT count(*)::int FROM rules) AS rules,
         (SELECT count(*)::int FROM feature_schedules) AS schedules,
         (SELECT count(*)::int FROM feature_schedules
           WHERE ends_at - to_timestamp(${nowMs / 1_000}) BETWEEN interval '2 hours' AND interval '3 hours') AS ending,
         (SELECT count(DISTINCT feature_id)::int FROM flag_variants) AS with_variants,
         (SELECT count(DISTINCT feature_id)::int FROM feature_tags) AS tagged,
         (SELECT count(DISTINCT (entity, action))::int FROM audit_log) AS kinds,
         (SELECT count(*)::int FROM audit_log) AS audit,
         (SELECT count(*)::int FROM features WHERE kind = 'multivariant') AS multivariant`,
    );
    expect(counts).toMatchObject({ statuses: 4, kinds: 9 });
    expect(counts?.['open']).toBeGreaterThanOrEqual(4);
    expect(counts?.['open']).toBeLessThanOrEqual(6);
    expect(counts?.['rules']).toBeGreaterThan(20);
    expect(counts?.['schedules']).toBeGreaterThan(3);
    expect(counts?.['ending']).toBeGreaterThan(0);
    expect(counts?.['with_variants']).toBe(counts?.['multivariant']);
    expect(counts?.['tagged']).toBeGreaterThan(20);
    expect(counts?.['audit']).toBeGreaterThan(300);
    expect(counts?.['multivariant']).toBeGreaterThan(10);
  });

  test('gives each user a password of their own', async () => {
    await fill();
    const users = await select<{ username: string; password_hash: string; is_superuser: boolean }>(
      'SELECT username, password_hash, is_superuser FROM users',
    );
    expect(users.map((user) => user.username).sort()).toEqual(['alice', 'bob', 'carol', 'dave', 'root']);
    expect(users.filter((user) => user.is_superuser).map((user) => user.username)).toEqual(['root']);
    for (const { username, password_hash: hash } of users) {
      expect(hash).toMatch(/^scrypt\$16384\$8\$1\$/);
      expect(await verifyPassword(`${username}-demo`, hash)).toBe(true);
      expect(await verifyPassword('bob-demo', hash)).toBe(username === 'bob');
    }
    for (const junk of [
      '',
      'bob-demo',
      '$2a$10$abcdefghijklmnopqrstuv',
      'scrypt$16384$8$1$$',
      'scrypt$3$8$1$AAAA$' + 'A'.repeat(44),
    ]) {
      expect(await verifyPassword('bob-demo', junk)).toBe(false);
    }
  });

  test('has an audit log that is consistent with the current state', async () => {
    await fill();
    await expectConsistentHistory();
  });

  test('has changes of the last thirty days, in office hours', async () => {
    await fill();
    const [times] = await select<{ strays: number; oldest: Date; newest: Date; ordered: boolean }>(
      `SELECT count(*) FILTER (
           WHERE extract(isodow FROM created_at AT TIME ZONE 'UTC') > 5
           OR extract(hour FROM created_at AT TIME ZONE 'UTC') NOT BETWEEN 8 AND 18
         )::int AS strays, min(created_at) AS oldest, max(created_at) AS newest
       FROM (SELECT created_at FROM audit_log UNION ALL SELECT created_at FROM pending_changes) t`,
    );
    expect(times?.strays).toBe(0);
    expect(times?.newest.getTime()).toBeLessThan(nowMs);
    expect(times?.oldest.getTime()).toBeGreaterThan(nowMs - 31 * 24 * 3_600_000);
    expect(
      await select(`SELECT id FROM (
        SELECT id, created_at < max(created_at) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS behind FROM audit_log
      ) t WHERE behind`),
    ).toEqual([]);
  });

  test('is the same for the same seed and time, and is filled only once', async () => {
    await fill({ nowMs, seed: 7 });
    const first = await generatedData();
    await fill({ nowMs, seed: 8 });
    expect(await generatedData()).toEqual(first);
    await database.pool.query('TRUNCATE projects, users RESTART IDENTITY CASCADE');
    await fill({ nowMs, seed: 7 });
    expect(await generatedData()).toEqual(first);
    await database.pool.query('TRUNCATE projects, users RESTART IDENTITY CASCADE');
    await fill({ nowMs, seed: 8 });
    expect(await generatedData()).not.toEqual(first);
  });

  test('is consistent for any day of the week and any seed', async () => {
    for (let day = 0; day < 7; day += 1) {
      await fill({ nowMs: nowMs + day * 25 * 3_600_000, seed: day });
      await expectConsistentHistory();
      const open = await select("SELECT FROM pending_changes WHERE status = 'pending'");
      expect(open.length).toBeGreaterThanOrEqual(4);
      await database.pool.query('TRUNCATE projects, users RESTART IDENTITY CASCADE');
    }
  });

  test('changes no existing account, and leaves no rows if it cannot be filled', async () => {
    await database.pool.query(
      "INSERT INTO users (username, email, password_hash) VALUES ('root', 'r@x', 'theirs')",
    );
    await expect(fill()).rejects.toThrow(/these users exist: root/);
    expect(await select('SELECT username, password_hash FROM users')).toEqual([
      { username: 'root', password_hash: 'theirs' },
    ]);
    expect(await select('SELECT FROM projects')).toEqual([]);
  });

  test('is filled once by two concurrent servers', async () => {
    const gate = await database.pool.connect();
    try {
      await gate.query('BEGIN; LOCK TABLE users IN SHARE MODE');
      const both = Promise.all([fill(), fill()]);
      await expect
        .poll(
          async () =>
            (
              await select(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
              )
            ).length,
        )
        .toBe(2);
      await gate.query('COMMIT');
      await both;
    } finally {
      gate.release();
    }
    expect(await select('SELECT FROM projects')).toHaveLength(3);
    expect(await select('SELECT FROM features')).toHaveLength(60);
  });
});

/** The newest audit row of every entity matches its current state; each row continues the previous one. */
async function expectConsistentHistory(): Promise<void> {
  const wrong = await select(`
    WITH present AS (
      SELECT 'feature' AS entity, f.id AS entity_id, p.environment_id, ${auditFeatureState} AS state
      FROM features f JOIN feature_params p ON p.feature_id = f.id
      UNION ALL SELECT 'rule', r.id, r.environment_id, ${ruleState} FROM rules r
      UNION ALL SELECT 'feature_schedule', s.id, s.environment_id, ${scheduleState} FROM feature_schedules s
    ), logged AS (
      SELECT *,
        lead(old_value) OVER entries AS next_old_value,
        row_number() OVER entries = count(*) OVER (PARTITION BY entity, entity_id, environment_id) AS newest
      FROM audit_log WINDOW entries AS (PARTITION BY entity, entity_id, environment_id ORDER BY id)
    )
    SELECT t.id, t.entity, t.action, t.new_value, present.state
    FROM logged t LEFT JOIN present USING (entity, entity_id, environment_id)
    WHERE (newest AND new_value IS DISTINCT FROM present.state)
      OR (NOT newest AND new_value IS DISTINCT FROM next_old_value)
      OR (action = 'create') <> (old_value IS NULL)
      OR (action = 'delete') <> (new_value IS NULL)
      OR (action = 'update' AND old_value = new_value)`);
  expect(wrong).toEqual([]);
  // Approved requests are applied by their approver.
  const unapplied = await select(`
    SELECT c.id FROM pending_changes c WHERE c.status = 'approved' AND NOT EXISTS (
      SELECT FROM pending_change_entities p JOIN audit_log a ON a.entity_id = p.entity_id
      WHERE p.pending_change_id = c.id AND a.environment_id = c.environment_id
        AND a.created_at = c.approved_at AND a.username = c.approved_by
    )`);
  expect(unapplied).toEqual([]);
  const own = await select('SELECT id FROM pending_changes WHERE requested_by IN (approved_by, rejected_by)');
  expect(own).toEqual([]);
}

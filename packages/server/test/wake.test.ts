import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Lifecycle } from '../src/lifecycle.js';
import { WakeListener } from '../src/reader/listener.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  withClient,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { nextEvent } from './server.js';

let database: TestDatabase;
let project: SeededProject;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool);
});

afterEach(async () => {
  await database.drop();
});

async function requestChange(): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    "INSERT INTO pending_changes (project_id, environment_id, requested_by, change) VALUES ($1, $2, 'bob', '{}') RETURNING id",
    [project.projectId, project.environments.prod],
  );
  return String(rows[0]?.id);
}

const auditRows = async (): Promise<number | null> =>
  (await database.pool.query('SELECT FROM audit_log')).rowCount;

describe('the wake', () => {
  /** Listens at `url`, and tells how often `write` woke it. */
  const wakes = async (url: string, write: (client: pg.Client) => Promise<unknown>): Promise<number> =>
    await withClient(url, async (listener) => {
      let wakeups = 0;
      // Notifications come in the order of the commits: what was to come before this one has come.
      const done = new Promise<void>((resolve) => {
        listener.on('notification', ({ channel, payload }) => {
          if (channel === 'flagcast' && payload === '') wakeups += 1;
          if (channel === 'done') resolve();
        });
      });
      await listener.query('LISTEN flagcast; LISTEN done');
      await withClient(url, async (writer) => {
        await write(writer);
        await writer.query('NOTIFY done');
      });
      await done;
      return wakeups;
    });

  const audit = async (client: pg.ClientBase): Promise<unknown> =>
    await insertAudit(client, { projectId: project.projectId, environmentId: project.environments.prod });

  test('comes with each write of the three tables, once a transaction', async () => {
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    expect(
      await wakes(database.url, async (client) => {
        await client.query('BEGIN');
        await audit(client);
        await audit(client);
        await client.query('COMMIT');
      }),
    ).toBe(1);
    const id = await requestChange();
    expect(
      await wakes(database.url, async (client) => {
        await client.query("UPDATE pending_changes SET status = 'cancelled' WHERE id = $1", [id]);
      }),
    ).toBe(1);
    expect(
      await wakes(database.url, async (client) => {
        await client.query(
          "INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'rule', $2)",
          [id, randomUUID()],
        );
      }),
    ).toBe(1);
    expect(
      await wakes(database.url, async (client) => await client.query('UPDATE features SET name = name')),
    ).toBe(0);
  });

  test('does not come, and does not hinder, where a transaction may be prepared', async () => {
    const prepare = async (client: pg.Client): Promise<void> => {
      const name = `'test_${randomUUID()}'`;
      await client.query('BEGIN');
      await audit(client);
      await client.query(`PREPARE TRANSACTION ${name}`);
      await client.query(`COMMIT PREPARED ${name}`);
    };
    expect(await wakes(database.url, prepare)).toBe(0);
    expect(await auditRows()).toBe(1);
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'off'`);
    expect(await wakes(database.url, prepare)).toBe(0);
    // Whoever says that nothing is prepared is taken at their word.
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    await expect(withClient(database.url, prepare)).rejects.toThrow(/cannot PREPARE/);
  });

  test('a setting that was set and reset counts as unset', async () => {
    await withClient(database.url, async (client) => {
      await client.query("BEGIN; SET LOCAL flagcast.notify = 'on'; COMMIT");
      expect((await client.query("SELECT current_setting('flagcast.notify') AS notify")).rows).toEqual([
        { notify: '' },
      ]);
      await client.query('BEGIN');
      await audit(client);
      await client.query("PREPARE TRANSACTION 'test_reset'");
      await client.query("ROLLBACK PREPARED 'test_reset'");
    });
  });

  test('comes by itself where no transaction can be prepared', async () => {
    const cluster = await createTestCluster({ max_prepared_transactions: '0' });
    try {
      const other = await cluster.createDatabase({ schema: 'tables' });
      project = await seedProject(other.pool);
      expect(await wakes(other.url, audit)).toBe(1);
      expect(
        await wakes(other.url, async (client) => {
          await client.query("SET flagcast.notify = 'off'");
          await audit(client);
        }),
      ).toBe(0);
      await other.drop();
    } finally {
      await cluster.remove();
    }
  });

  test(
    'is listened for again as soon as the connection of LISTEN has ended',
    { timeout: 10_000 },
    async () => {
      const lifecycle = new Lifecycle();
      let wakeups = 0;
      // The next probe would be in an hour.
      const probeIntervalMs = 3_600_000;
      const onWake = (): number => (wakeups += 1);
      const listener = new WakeListener({ databaseUrl: database.url, lifecycle, probeIntervalMs, onWake });
      onTestFinished(async () => await listener.stop());
      const listening = nextEvent(lifecycle, 'listener:listening');
      listener.start();
      await listening;
      const failed = nextEvent(lifecycle, 'listener:failed');
      const again = nextEvent(lifecycle, 'listener:listening');
      await database.pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'flagcast listener'`,
      );
      expect(await failed).toMatchObject({ attempt: 1 });
      await again;
      // What was hinted at meanwhile nobody heard: a read has to look.
      expect(wakeups).toBe(2);
      await listener.stop();
    },
  );

  test('never makes a write fail, not even where its built-in functions are forbidden', async () => {
    await database.pool.query(
      `ALTER DATABASE ${database.name} SET flagcast.notify = 'on';
       REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notification_queue_usage() FROM PUBLIC;
       CREATE ROLE view_test_writer;
       GRANT INSERT, SELECT ON audit_log TO view_test_writer;
       GRANT USAGE ON SEQUENCE audit_log_id_seq TO view_test_writer`,
    );
    try {
      await withClient(database.url, async (client) => {
        await client.query('SET ROLE view_test_writer');
        await audit(client);
      });
      expect(await auditRows()).toBe(1);
    } finally {
      await database.pool.query('DROP OWNED BY view_test_writer; DROP ROLE view_test_writer');
    }
  });
});

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
import type { OpenSession, Session } from '../src/postgres/session.js';
import type { EventReaderOptions } from '../src/reader/reader.js';
import { sessionOpener, startTestReader, type TestReader } from './reader.js';
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

describe('the triggers of the event log', () => {
  /** Listens at `url` while `write` runs, and counts the notifications. */
  const wakes = async (url: string, write: (client: pg.Client) => Promise<unknown>): Promise<number> =>
    await withClient(url, async (listener) => {
      let wakeups = 0;
      // Notifications arrive in commit order, so every earlier one has arrived.
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

  test('send one notification for each transaction that logs something', async () => {
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
    const statements = [
      [
        `INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) VALUES ($1, 'rule', gen_random_uuid())`,
        id,
      ],
      [`UPDATE pending_changes SET status = 'cancelled' WHERE id = $1`, id],
      [`UPDATE environments SET key = 'renamed' WHERE id = $1`, project.environments.dev],
      [`UPDATE projects SET archived_at = now() WHERE id = $1`, project.projectId],
    ] as const;
    for (const [text, value] of statements) {
      expect([text, await wakes(database.url, async (client) => await client.query(text, [value]))]).toEqual([
        text,
        1,
      ]);
    }
    const unlogged = [
      'UPDATE features SET name = name',
      `UPDATE projects SET description = 'other'`,
      `UPDATE environments SET name = 'other'`,
      `UPDATE pending_changes SET rejection_reason = 'other'`,
    ];
    for (const text of unlogged) {
      expect([text, await wakes(database.url, async (client) => await client.query(text))]).toEqual([
        text,
        0,
      ]);
    }
  });

  test('send none while another transaction holds the lock of the 20 ms in which they write', async () => {
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    await withClient(database.url, async (other) => {
      await other.query('BEGIN');
      // Those of the next minute.
      await other.query(
        `SELECT pg_advisory_xact_lock(1179404104, ((slice + i) % 2147483647)::int)
         FROM CAST(floor(date_part('epoch', clock_timestamp()) * 50) AS bigint) AS now (slice), generate_series(0, 3000) AS i`,
      );
      expect(await wakes(database.url, audit)).toBe(0);
      await other.query('ROLLBACK');
    });
    expect(await auditRows()).toBe(1);
    expect(await wakes(database.url, audit)).toBe(1);
  });

  test('send none by default if transactions can be prepared, so that PREPARE TRANSACTION works', async () => {
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
    // With 'on' the operator has declared that nothing is prepared.
    await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    await expect(withClient(database.url, prepare)).rejects.toThrow(/cannot PREPARE/);
  });

  test('treat flagcast.notify as unset after it was set and reset', async () => {
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

  test('send one by default if no transaction can be prepared', async () => {
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

  describe('reach the session that reads', () => {
    /** Commits a row in a new session, to which the setting applies. */
    const commit = async (): Promise<unknown> => await withClient(database.url, audit);

    /** With its sessions. It polls once an hour. */
    const startListeningReader = async (
      options: Partial<EventReaderOptions> = {},
    ): Promise<TestReader & { readonly sessions: readonly Session[] }> => {
      await database.pool.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
      const sessions: Session[] = [];
      const open = sessionOpener(database);
      const openSession: OpenSession = async (settings) => {
        const session = await open(settings);
        sessions.push(session);
        return session;
      };
      const reader = await startTestReader(database, {
        ...options,
        openSession,
        openListenSession: openSession,
      });
      return { ...reader, sessions };
    };

    test('which needs no other session to listen', async () => {
      const { reader, lifecycle, sessions } = await startListeningReader();
      const read = nextEvent(lifecycle, 'reader:read', ({ fresh }) => fresh > 0);
      await commit();
      expect(await read).toMatchObject({ trigger: 'wake' });
      expect(sessions).toHaveLength(1);
      await reader.stop();
    });

    test('and the one that replaces it, which also reads what was committed in between', async () => {
      const { reader, lifecycle, delivered, sessions } = await startListeningReader();
      const failed = nextEvent(lifecycle, 'listener:failed');
      const again = nextEvent(lifecycle, 'listener:listening');
      const reads = nextEvent(lifecycle, 'reader:read', () => delivered().length === 2);
      await withClient(database.url, async (client) => {
        await client.query('SELECT pg_terminate_backend($1)', [sessions[0]?.processID]);
        await audit(client);
      });
      expect(await failed).toMatchObject({ attempt: 1 });
      await again;
      await commit();
      await reads;
      expect(sessions).toHaveLength(2);
      await reader.stop();
    });

    test('and the one that replaces it while it does not answer', async () => {
      const { reader, lifecycle, sessions } = await startListeningReader({ queryTimeoutMs: 2_000 });
      const [hung] = sessions;
      const pid = hung?.processID;
      if (hung === undefined || typeof pid !== 'number') throw new Error('there is no session');
      const ended = new Promise<void>((resolve) => hung.once('end', resolve));
      const states: string[] = [];
      lifecycle.on('listener:failed', () => states.push('failed'));
      lifecycle.on('listener:listening', () => states.push('listening'));
      const again = nextEvent(lifecycle, 'listener:listening');
      process.kill(pid, 'SIGSTOP');
      try {
        reader.requestBatch();
        await again;
      } finally {
        process.kill(pid, 'SIGCONT');
      }
      await ended;
      await reader.stop();
      // The metric shows the last one.
      expect(states).toEqual(['failed', 'listening']);
    });

    /** Sends `instead` in the first session, and counts `listener:failed`, until the reader listens. */
    const failuresUntilListening = async (instead: string): Promise<number> => {
      const open = sessionOpener(database);
      let isFirst = true;
      const openSession: OpenSession = async (settings) => {
        const session = await open(settings);
        const query = session.query.bind(session) as (...args: unknown[]) => Promise<unknown>;
        session.query = (async (statement: unknown, values?: unknown[]) => {
          const isReplaced = isFirst && statement === 'LISTEN flagcast';
          if (isReplaced) isFirst = false;
          return await query(isReplaced ? instead : statement, values);
        }) as never;
        return session;
      };
      const lifecycle = new Lifecycle();
      let failures = 0;
      lifecycle.on('listener:failed', () => (failures += 1));
      const listening = nextEvent(lifecycle, 'listener:listening');
      const options = { lifecycle, openSession, openListenSession: openSession };
      const { reader } = await startTestReader(database, options);
      reader.requestBatch();
      await listening;
      await reader.stop();
      return failures;
    };

    test('with the next read if PostgreSQL refuses LISTEN', async () => {
      expect(await failuresUntilListening('SELECT 1 / 0')).toBe(1);
    });

    test('in another session if the first one is lost during LISTEN, which is reported once', async () => {
      expect(await failuresUntilListening('SELECT pg_terminate_backend(pg_backend_pid())')).toBe(1);
    });

    test('but not while another server reads for it', async () => {
      const { reader, lifecycle, sessions, read } = await startListeningReader();
      const channels = async (): Promise<unknown> =>
        (await sessions[0]?.query({ text: 'SELECT pg_listening_channels()', rowMode: 'array' }))?.rows;
      await read();
      reader.pause();
      await expect.poll(channels).toEqual([]);
      await commit();
      const again = nextEvent(lifecycle, 'listener:listening');
      const found = nextEvent(lifecycle, 'reader:read', ({ fresh }) => fresh === 1);
      reader.resume();
      await again;
      await found;
      expect(sessions).toHaveLength(1);
      await reader.stop();
    });
  });

  test('reach a listener that connects again as soon as its connection has ended', async () => {
    const lifecycle = new Lifecycle();
    let wakeups = 0;
    // The next probe would be in an hour.
    const probeIntervalMs = 3_600_000;
    const onWake = (): number => (wakeups += 1);
    const listener = new WakeListener({
      openSession: sessionOpener({ url: database.url }),
      lifecycle,
      probeIntervalMs,
      onWake,
    });
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
    // Notifications of the time in between are lost, so it asks for a read.
    expect(wakeups).toBe(2);
    await listener.stop();
  });

  test('do not fail a write if pg_notification_queue_usage is forbidden', async () => {
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

import { afterEach, beforeEach, expect, test } from 'vitest';
import { requestChange } from '../../demo/src/company/approvals.js';
import { fillDemo } from '../../demo/src/company/fill.js';
import { createRandom } from '../../demo/src/company/random.js';
import { startTraffic } from '../../demo/src/company/traffic.js';
import { createTestCluster, createTestDatabase, withClient, type TestDatabase } from './database.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  await withClient(database.url, async (client) => {
    await fillDemo(client);
  });
});

afterEach(async () => {
  await database.drop();
});

/** Runs the traffic until `enough` returns true for one of its lines. */
async function runUntil(enough: (line: string) => boolean | Promise<boolean>, seed = 3): Promise<string[]> {
  const lines: string[] = [];
  let checks = Promise.resolve();
  let traffic: ReturnType<typeof startTraffic> | undefined;
  const seen = new Promise<void>((resolve, reject) => {
    traffic = startTraffic({
      databaseUrl: database.url,
      seed,
      meanIntervalMs: 0,
      onAction: (line) => {
        lines.push(line);
        checks = checks
          .then(async () => {
            if (await enough(line)) resolve();
          })
          .catch(reject);
      },
    });
  });
  try {
    await seen;
  } finally {
    await traffic?.stop();
  }
  await checks;
  return lines;
}

async function latestAudit(): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    'SELECT coalesce(max(id), 0)::text AS id FROM audit_log',
  );
  return String(rows[0]?.id);
}

test('traffic creates events of every kind, within its limits and with a consistent audit log', async () => {
  const before = await latestAudit();
  const started = new Date();
  const { rows: clock } = await database.pool.query<{ xid: string }>(
    'SELECT pg_current_xact_id()::text AS xid',
  );
  const kinds = async (): Promise<string[]> => {
    const { rows } = await database.pool.query<{ kind: string }>(
      `SELECT DISTINCT source || ' ' || entity || ' ' || action AS kind FROM flagcast.v_realtime_events
       WHERE xid >= $1 ORDER BY 1`,
      [clock[0]?.xid],
    );
    return rows.map((row) => row.kind);
  };
  const wanted = [
    ...['feature', 'rule', 'feature_schedule'].flatMap((entity) =>
      ['created', 'updated', 'deleted'].map((action) => `audit ${entity} ${action}`),
    ),
    ...['pending', 'approved', 'rejected', 'cancelled'].map((action) => `pending feature ${action}`),
    'pending rule pending',
    'pending rule approved',
  ];
  const lines = await runUntil(async () => {
    const seen = await kinds();
    return wanted.every((kind) => seen.includes(kind));
  });
  expect(lines.filter((line) => line.includes('cannot'))).toEqual([]);
  expect(
    lines.some((line) =>
      /^\w+ switched (on|off) ".+" in (Web shop|Mobile app|Billing), (dev|stage)$/.test(line),
    ),
  ).toBe(true);
  const { rows } = await database.pool.query<Record<string, number>>(
    `SELECT
       (SELECT count(*)::int FROM pending_changes WHERE status = 'pending') AS open,
       (SELECT count(*)::int FROM features) AS features,
       (SELECT count(*)::int FROM pending_changes WHERE requested_by IN (approved_by, rejected_by)) AS own,
       (SELECT count(*)::int FROM audit_log WHERE id > $1 AND created_at < $2) AS old`,
    [before, started],
  );
  expect(rows[0]?.['open']).toBeLessThanOrEqual(6);
  expect(rows[0]?.['features']).toBeLessThanOrEqual(64);
  expect(rows[0]).toMatchObject({ own: 0, old: 0 });
  // The newest audit row of each flag matches its current state.
  const { rows: wrong } = await database.pool.query(
    `SELECT DISTINCT ON (a.entity_id, a.environment_id) a.new_value ->> 'enabled' AS logged, p.enabled::text AS present
     FROM audit_log a LEFT JOIN feature_params p ON p.feature_id = a.entity_id AND p.environment_id = a.environment_id
     WHERE a.entity = 'feature' ORDER BY a.entity_id, a.environment_id, a.id DESC`,
  );
  expect(
    wrong.filter(({ logged, present }: { logged?: string; present?: string }) => logged !== present),
  ).toEqual([]);
});

test('traffic limits the number of open requests', async () => {
  const random = createRandom(1);
  await withClient(database.url, async (client) => {
    for (let nth = 0; nth < 20; nth += 1) await requestChange(client, random);
    const { rowCount } = await client.query("SELECT FROM pending_changes WHERE status = 'pending'");
    expect(rowCount).toBe(6);
    expect(await requestChange(client, random)).toBe(null);
  });
});

test('traffic does not decide requests of the console, and continues after an invalid request', async () => {
  const { rows } = await database.pool.query<{ id: string }>(
    `UPDATE pending_changes SET change = change #- '{meta,origin}' WHERE status = 'pending' RETURNING id`,
  );
  const theirs = rows.map((row) => row.id);
  await database.pool.query(
    `INSERT INTO pending_changes (project_id, environment_id, requested_by, change)
     SELECT p.id, e.id, 'bob', '{"entities": 7, "meta": {"origin": "demo"}}'
     FROM projects p JOIN environments e ON e.project_id = p.id AND e.key = 'prod' LIMIT 1`,
  );
  const lines = await runUntil((line) => line.includes('approved'), 5);
  expect(lines.filter((line) => line.includes('cannot change flags'))).toEqual([]);
  const { rows: open } = await database.pool.query<{ id: string }>(
    "SELECT id FROM pending_changes WHERE id = ANY ($1) AND status = 'pending'",
    [theirs],
  );
  expect(open).toHaveLength(theirs.length);
});

test('traffic reports an unavailable database once, and continues when it is back', async () => {
  const cluster = await createTestCluster();
  try {
    const other = await cluster.createDatabase({ schema: 'tables' });
    await withClient(other.url, async (client) => {
      await fillDemo(client);
    });
    const lines: string[] = [];
    const waiting = new Map<string, () => void>();
    const logged = async (text: string): Promise<void> =>
      await new Promise((resolve) => {
        waiting.set(text, resolve);
      });
    const traffic = startTraffic({
      databaseUrl: other.url,
      meanIntervalMs: 5,
      onAction: (line) => {
        lines.push(line);
        for (const [text, resolve] of waiting) if (line.includes(text)) resolve();
      },
    });
    await logged(' in ');
    const [away, back] = [logged('cannot change flags'), logged('change flags again')];
    await cluster.postgres.restart('immediate');
    await away;
    await back;
    await logged(' in ');
    await traffic.stop();
    await traffic.stop();
    expect(lines.filter((line) => line.includes('cannot change flags'))).toHaveLength(1);
    expect(lines.join(' ')).not.toContain(new URL(other.url).password);
    await other.drop();
  } finally {
    await cluster.remove();
  }
});

test('stopping the traffic waits for the running action', async () => {
  const traffic = startTraffic({ pool: database.pool, meanIntervalMs: 0 });
  await expect
    .poll(
      async () =>
        (await database.pool.query("SELECT FROM audit_log WHERE created_at > now() - interval '1 minute'"))
          .rowCount,
    )
    .toBeGreaterThan(0);
  await traffic.stop();
  const count = async (): Promise<number | null> =>
    (await database.pool.query('SELECT FROM audit_log')).rowCount;
  expect(database.pool.totalCount - database.pool.idleCount).toBe(0);
  expect(await count()).toBe(await count());
});

import { expect } from 'vitest';
import { install } from '../src/install/install.js';
import { insertAudit, withClient, type TestDatabase } from './database.js';
import { makeChannel, readLog } from './host-tables.js';

/**
 * Expects that rows of a partitioned audit_log are logged, however a partition is created. Replaces the table of a
 * database that `makeHostTables` has filled.
 */
export async function expectPartitionsLogged({ pool, url }: TestDatabase): Promise<void> {
  const channel = await makeChannel(pool);
  const countLog = async (): Promise<number> =>
    (await readLog(pool)).filter(({ source }) => source === 'audit').length;
  await pool.query(
    `DROP TABLE audit_log;
     CREATE TABLE audit_log (
       id bigserial, feature_id uuid NOT NULL, entity varchar(50) NOT NULL DEFAULT 'unknown', entity_id uuid,
       actor varchar(50) NOT NULL, username varchar(255), action varchar(50) NOT NULL, old_value jsonb,
       new_value jsonb, project_id uuid NOT NULL, environment_id bigint NOT NULL,
       created_at timestamptz NOT NULL DEFAULT now()
     ) PARTITION BY RANGE (created_at);
     CREATE TABLE audit_2024 PARTITION OF audit_log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')`,
  );
  await withClient(url, async (client) => await install(client));
  await pool.query(
    `CREATE TABLE audit_2025 PARTITION OF audit_log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
     CREATE TABLE audit_2026 (LIKE audit_log INCLUDING DEFAULTS);
     ALTER TABLE audit_log ATTACH PARTITION audit_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
  );
  const { rows } = await pool.query<{ table: string; enabled: string }>(
    `SELECT tgrelid::regclass::text AS "table", tgenabled AS enabled FROM pg_trigger
     WHERE tgname = 'flagcast_log' AND tgrelid::regclass::text LIKE 'audit%' ORDER BY 1`,
  );
  expect(rows).toEqual(
    ['audit_2024', 'audit_2025', 'audit_2026', 'audit_log'].map((table) => ({ table, enabled: 'A' })),
  );
  for (const createdAt of ['2024-05-01', '2025-05-01', '2026-05-01']) {
    await insertAudit(pool, { ...channel, createdAt });
  }
  await pool.query(
    `INSERT INTO audit_2025 (feature_id, actor, action, project_id, environment_id, created_at)
     VALUES (gen_random_uuid(), 'user', 'update', $1, $2, '2025-06-01')`,
    [channel.projectId, channel.environmentId],
  );
  expect(await countLog()).toBe(4);
  await withClient(url, async (client) => expect((await install(client)).changed).toBe(false));

  await pool.query('ALTER TABLE audit_2025 DISABLE TRIGGER flagcast_log');
  await withClient(url, async (client) => {
    expect((await install(client)).changed).toBe(true);
    expect((await install(client)).changed).toBe(false);
  });
  await insertAudit(pool, { ...channel, createdAt: '2025-05-01' });
  expect(await countLog()).toBe(5);
}

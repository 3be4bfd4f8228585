import { randomUUID } from 'node:crypto';
import pg from 'pg';

export interface StormChannel {
  readonly projectId: string;
  readonly environmentId: string;
  readonly env: string;
}

export interface StormWritersOptions {
  databaseUrl: string;
  /** By project: its channels. */
  projects: readonly (readonly StormChannel[])[];
  writers: number;
  /** Ends when it is aborted; the transactions that are running are finished. */
  signal: AbortSignal;
}

/**
 * People at work on flags of their own, all at the same time: they switch and edit, add and delete flags, ask for
 * changes and decide on them; each with its audit row in one transaction of 2-400 ms, a third under savepoints, one
 * in ten rolled back. They go on through lost connections.
 */
export async function runStormWriters(options: StormWritersOptions): Promise<void> {
  await Promise.all(Array.from({ length: options.writers }, async () => await runWriter(options)));
}

async function runWriter({ databaseUrl, projects, signal }: StormWritersOptions): Promise<void> {
  let client: pg.Client | null = null;
  while (!signal.aborted) {
    try {
      if (client === null) {
        client = new pg.Client({ connectionString: databaseUrl, application_name: 'writer' });
        client.on('error', () => undefined);
        await client.connect();
      }
      await work(client, pick(projects));
    } catch {
      // The database is being restarted; what was under way is rolled back.
      await client?.end().catch(() => undefined);
      client = null;
      await new Promise(setImmediate);
    }
  }
  await client?.end().catch(() => undefined);
}

async function work(client: pg.Client, channels: readonly StormChannel[]): Promise<void> {
  await client.query('BEGIN');
  const savepoint = Math.random() < 1 / 3;
  if (savepoint) await client.query('SAVEPOINT step');
  const kind = Math.random();
  if (kind < 0.08) await addFlag(client, channels);
  else if (kind < 0.14) await deleteFlag(client, channels);
  else if (kind < 0.24) await ask(client, pick(channels));
  else if (kind < 0.34) await decide(client, pick(channels));
  else await edit(client, pick(channels));
  if (savepoint && Math.random() < 0.25) await client.query('ROLLBACK TO SAVEPOINT step');
  await client.query('SELECT pg_sleep($1)', [(2 * 200 ** Math.random()) / 1_000]);
  await client.query(Math.random() < 0.1 ? 'ROLLBACK' : 'COMMIT');
}

async function edit(client: pg.Client, channel: StormChannel): Promise<void> {
  const feature = await lockFlag(client, channel.projectId);
  if (feature === null) return;
  await client.query(
    `UPDATE feature_params SET enabled = NOT enabled, default_value = $3, updated_at = now()
     WHERE feature_id = $1 AND environment_id = $2`,
    [feature, channel.environmentId, randomUUID()],
  );
  await audit(client, channel, feature, 'update');
}

/** A flag is there, or gone, in every environment: each gets its audit row. */
async function addFlag(client: pg.Client, channels: readonly StormChannel[]): Promise<void> {
  const feature = randomUUID();
  await client.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, $3, 'simple')`,
    [feature, channels[0]?.projectId, feature],
  );
  for (const channel of channels) await audit(client, channel, feature, 'create');
}

async function deleteFlag(client: pg.Client, channels: readonly StormChannel[]): Promise<void> {
  const feature = await lockFlag(client, channels[0]?.projectId ?? '');
  if (feature === null) return;
  await client.query('DELETE FROM features WHERE id = $1', [feature]);
  for (const channel of channels) await audit(client, channel, feature, 'delete');
}

async function ask(client: pg.Client, channel: StormChannel): Promise<void> {
  const feature = await lockFlag(client, channel.projectId);
  if (feature === null) return;
  const { rows } = await client.query<{ open: boolean }>(
    `SELECT EXISTS (SELECT FROM pending_change_entities e JOIN pending_changes c ON c.id = e.pending_change_id
       WHERE e.entity_id = $1 AND c.status = 'pending') AS open`,
    [feature],
  );
  if (rows[0]?.open === true) return;
  const change = randomUUID();
  await client.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
     VALUES ($1, $2, $3, 'bob', '{"entities":[],"meta":{"reason":"storm"}}')`,
    [change, channel.projectId, channel.environmentId],
  );
  await client.query(
    `INSERT INTO pending_change_entities (id, pending_change_id, entity, entity_id)
     VALUES (gen_random_uuid(), $1, 'feature', $2)`,
    [change, feature],
  );
}

async function decide(client: pg.Client, channel: StormChannel): Promise<void> {
  const decision = pick([
    `status = 'approved', approved_by = 'alice', approved_at = now()`,
    `status = 'rejected', rejected_by = 'alice', rejected_at = now()`,
    `status = 'cancelled'`,
  ]);
  await client.query(
    `UPDATE pending_changes SET ${decision} WHERE id = (
       SELECT id FROM pending_changes WHERE status = 'pending' AND environment_id = $1 LIMIT 1 FOR UPDATE SKIP LOCKED)`,
    [channel.environmentId],
  );
}

/** Some flag that nobody else is writing just now. */
async function lockFlag(client: pg.Client, projectId: string): Promise<string | null> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT id FROM features WHERE project_id = $1 ORDER BY md5(id::text || $2) LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [projectId, randomUUID()],
  );
  return rows[0]?.id ?? null;
}

async function audit(
  client: pg.Client,
  channel: StormChannel,
  feature: string,
  action: string,
): Promise<void> {
  await client.query(
    `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action)
     VALUES ($1, $2, $3, 'feature', $3, 'user', 'alice', $4)`,
    [channel.projectId, channel.environmentId, feature, action],
  );
}

function pick<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error('nothing to pick from');
  return item;
}

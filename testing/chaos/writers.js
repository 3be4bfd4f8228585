import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

/**
 * An environment of a project. `env`: its first key. `keys`: all keys that it has had.
 *
 * @typedef {{
 *   readonly projectId: string,
 *   readonly environmentId: string,
 *   readonly env: string,
 *   readonly keys?: readonly string[],
 * }} ChaosChannel
 */

/**
 * `projects`: the channels of each project. `writers`: number of concurrent sessions. `signal`: ends the writers after
 * their current transactions. `pauseMs`: average pause between two transactions of a writer, in milliseconds; default 0.
 * `prepares`: one transaction in ten is prepared and committed later, as by a transaction manager. `chance`: returns a
 * number from 0 up to 1; default Math.random.
 *
 * @typedef {{
 *   readonly databaseUrl: string,
 *   readonly projects: readonly (readonly ChaosChannel[])[],
 *   readonly writers: number,
 *   readonly signal: AbortSignal,
 *   readonly pauseMs?: number,
 *   readonly prepares?: boolean,
 *   readonly chance?: () => number,
 * }} WritersOptions
 */

/** @typedef {{ readonly client: pg.Client, readonly chance: () => number }} Session */

/** Range of created_at of half of the rows, relative to now, in seconds; the other half is written with now(). */
const offsets = { oldest: -864_000, newest: 3_600 };

/** Pause of a writer before it reconnects, in milliseconds. */
const reconnectPauseMs = 100;

/**
 * Runs concurrent writers until `signal`. Each transaction edits, adds or deletes a flag, or creates or decides a change
 * request, with its audit row; it takes 2-400 ms. One in three uses a savepoint, one in ten is rolled back. Writers
 * reconnect after a lost connection.
 *
 * @param {WritersOptions} options
 */
export async function runWriters(options) {
  await Promise.all(Array.from({ length: options.writers }, async () => await runWriter(options)));
}

/** @param {WritersOptions} options */
async function runWriter({
  databaseUrl,
  projects,
  signal,
  pauseMs = 0,
  prepares = false,
  chance = Math.random,
}) {
  /** @type {pg.Client | null} */
  let client = null;
  while (!signal.aborted) {
    try {
      client ??= await connectWriter(databaseUrl);
      await work({ client, chance }, pick(chance, projects), prepares);
      if (pauseMs > 0) await delay(2 * pauseMs * chance());
    } catch {
      // A fault restarts the database or ends the session; PostgreSQL rolls the transaction back.
      await client?.end().catch(() => undefined);
      client = null;
      await delay(reconnectPauseMs);
    }
  }
  await client?.end().catch(() => undefined);
}

/** @param {string} databaseUrl */
export async function connectWriter(databaseUrl) {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'writer' });
  // Queries report a lost connection; an error event without a listener would end the process.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/**
 * @param {Session} session
 * @param {readonly ChaosChannel[]} channels
 * @param {boolean} prepares
 */
async function work(session, channels, prepares) {
  const { client, chance } = session;
  const outcome = chance();
  const prepared = prepares && outcome < 0.1;
  await client.query('BEGIN');
  // PREPARE TRANSACTION fails after a NOTIFY.
  if (prepared) await client.query(`SET LOCAL flagcast.notify = 'off'`);
  const savepoint = chance() < 1 / 3;
  if (savepoint) await client.query('SAVEPOINT step');
  const kind = chance();
  if (kind < 0.07) await addFlag(session, channels);
  else if (kind < 0.14) await deleteFlag(session, channels);
  else if (kind < 0.24) await requestChange(session, pick(chance, channels));
  else if (kind < 0.34) await decideRequest(session, pick(chance, channels));
  else await edit(session, pick(chance, channels));
  if (savepoint && chance() < 0.25) await client.query('ROLLBACK TO SAVEPOINT step');
  const seconds = (2 * 200 ** chance()) / 1_000;
  await client.query('SELECT pg_sleep($1)', [seconds]);
  if (prepared) await prepareAndCommit(client, seconds);
  else await client.query(outcome > 0.9 ? 'ROLLBACK' : 'COMMIT');
}

/**
 * Ends a transaction with a two-phase commit.
 *
 * @param {pg.Client} client
 * @param {number} seconds between the two phases
 * @param {'COMMIT' | 'ROLLBACK'} [end]
 */
export async function prepareAndCommit(client, seconds, end = 'COMMIT') {
  const name = client.escapeLiteral(randomUUID());
  await client.query(`PREPARE TRANSACTION ${name}`);
  await client.query('SELECT pg_sleep($1)', [seconds]);
  await client.query(`${end} PREPARED ${name}`);
}

/**
 * @param {Session} session
 * @param {ChaosChannel} channel
 */
async function edit({ client, chance }, channel) {
  const feature = await lockFlag(client, channel.projectId);
  if (feature === null) return;
  await client.query(
    `UPDATE feature_params SET enabled = $4, default_value = $3, updated_at = now()
     WHERE feature_id = $1 AND environment_id = $2`,
    [feature, channel.environmentId, randomUUID(), chance() < 0.5],
  );
  await audit({ client, chance }, channel, feature, 'update');
}

/**
 * Adds a flag, with an audit row for each environment.
 *
 * @param {Session} session
 * @param {readonly ChaosChannel[]} channels
 */
async function addFlag({ client, chance }, channels) {
  const feature = randomUUID();
  await client.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, $3, 'simple')`,
    [feature, channels[0]?.projectId, feature],
  );
  for (const channel of channels) await audit({ client, chance }, channel, feature, 'create');
}

/**
 * Deletes a flag, with an audit row for each environment.
 *
 * @param {Session} session
 * @param {readonly ChaosChannel[]} channels
 */
async function deleteFlag({ client, chance }, channels) {
  const feature = await lockFlag(client, channels[0]?.projectId ?? '');
  if (feature === null) return;
  await client.query('DELETE FROM features WHERE id = $1', [feature]);
  for (const channel of channels) await audit({ client, chance }, channel, feature, 'delete');
}

/**
 * @param {Session} session
 * @param {ChaosChannel} channel
 */
async function requestChange({ client, chance }, channel) {
  const feature = await lockFlag(client, channel.projectId);
  if (feature === null) return;
  /** @type {pg.QueryResult<{ open: boolean }>} */
  const { rows } = await client.query(
    `SELECT EXISTS (SELECT FROM pending_change_entities e JOIN pending_changes c ON c.id = e.pending_change_id
       WHERE e.entity_id = $1 AND c.status = 'pending') AS open`,
    [feature],
  );
  if (rows[0]?.open === true) return;
  const change = randomUUID();
  await client.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
     VALUES ($1, $2, $3, 'bob', '{"entities":[],"meta":{"reason":"chaos"}}')`,
    [change, channel.projectId, channel.environmentId],
  );
  await client.query(
    `INSERT INTO pending_change_entities (id, pending_change_id, entity, entity_id, created_at)
     VALUES (gen_random_uuid(), $1, 'feature', $2, now() + $3 * interval '1 s')`,
    [change, feature, timeOffset(chance)],
  );
}

/**
 * @param {Session} session
 * @param {ChaosChannel} channel
 */
async function decideRequest({ client, chance }, channel) {
  const decision = pick(chance, [
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

/**
 * Locks a random flag that no other session has locked; null if there is none.
 *
 * @param {pg.Client} client
 * @param {string} projectId
 */
async function lockFlag(client, projectId) {
  /** @type {pg.QueryResult<{ id: string }>} */
  const { rows } = await client.query(
    `SELECT id FROM features WHERE project_id = $1 ORDER BY md5(id::text || $2) LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [projectId, randomUUID()],
  );
  return rows[0]?.id ?? null;
}

/**
 * @param {Session} session
 * @param {ChaosChannel} channel
 * @param {string} feature
 * @param {string} action
 */
async function audit({ client, chance }, channel, feature, action) {
  await client.query(
    `INSERT INTO audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, created_at)
     VALUES ($1, $2, $3, 'feature', $3, 'user', 'alice', $4, now() + $5 * interval '1 s')`,
    [channel.projectId, channel.environmentId, feature, action, timeOffset(chance)],
  );
}

/**
 * Returns the offset of a created_at from now, in seconds. Consecutive rows can get decreasing times, as from a clock
 * that is set back.
 *
 * @param {() => number} chance
 */
function timeOffset(chance) {
  if (chance() < 0.5) return 0;
  return offsets.oldest + (offsets.newest - offsets.oldest) * chance();
}

/**
 * Inserts `count` audit rows of one channel in one statement, as an import does.
 *
 * @param {pg.Client} client
 * @param {ChaosChannel} channel
 * @param {number} count
 */
export async function writeMany(client, channel, count) {
  await client.query(
    `INSERT INTO audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, created_at)
     SELECT $1, $2, (SELECT min(id::text)::uuid FROM features WHERE project_id = $1), 'rule', gen_random_uuid(), 'user',
       'import', 'create', now() - n * interval '1 s' FROM generate_series(1, $3) n`,
    [channel.projectId, channel.environmentId, count],
  );
}

/**
 * @template Item
 * @param {() => number} chance
 * @param {readonly Item[]} items
 * @returns {Item}
 */
function pick(chance, items) {
  const item = items[Math.floor(chance() * items.length)];
  if (item === undefined) throw new Error('The list is empty');
  return item;
}

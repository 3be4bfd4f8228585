import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

/**
 * One environment of one project. `env`: the key that it begins with. `keys`: all keys that it has had.
 *
 * @typedef {{
 *   readonly projectId: string,
 *   readonly environmentId: string,
 *   readonly env: string,
 *   readonly keys?: readonly string[],
 * }} ChaosChannel
 */

/**
 * `projects`: by project, its channels. `writers`: sessions that write at the same time. `signal`: they end
 * when it is aborted; the transactions that are running are finished. `pauseMs`: of each between two
 * transactions, on average, in milliseconds; default none. `chance`: from 0 up to 1, default Math.random.
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
 * `prepares`: one transaction in ten is prepared and committed later, as by a transaction manager.
 */

/** @typedef {{ readonly client: pg.Client, readonly chance: () => number }} Session */

/** Times that hosts write, from ten days ago to one hour ahead, in seconds from now. Half of them are the present. */
const ages = { oldest: -864_000, newest: 3_600 };

/** How long a writer waits for a database that is down, in milliseconds. */
const reconnectPauseMs = 100;

/**
 * People at work on flags of their own, all at the same time: they switch and edit, add and delete flags,
 * ask for changes and decide on them; each with its audit row in one transaction of 2-400 ms, a third under
 * savepoints, one in ten rolled back. They go on through lost connections.
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
      // The database is being restarted; what was under way is rolled back.
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
  // Its queries tell when the connection is lost; without a listener the process would end.
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
  // A transaction that has notified cannot be prepared.
  if (prepared) await client.query(`SET LOCAL flagcast.notify = 'off'`);
  const savepoint = chance() < 1 / 3;
  if (savepoint) await client.query('SAVEPOINT step');
  const kind = chance();
  if (kind < 0.07) await addFlag(session, channels);
  else if (kind < 0.14) await deleteFlag(session, channels);
  else if (kind < 0.24) await ask(session, pick(chance, channels));
  else if (kind < 0.34) await decide(session, pick(chance, channels));
  else await edit(session, pick(chance, channels));
  if (savepoint && chance() < 0.25) await client.query('ROLLBACK TO SAVEPOINT step');
  const seconds = (2 * 200 ** chance()) / 1_000;
  await client.query('SELECT pg_sleep($1)', [seconds]);
  if (prepared) await prepareAndCommit(client, seconds);
  else await client.query(outcome > 0.9 ? 'ROLLBACK' : 'COMMIT');
}

/**
 * Ends a transaction in two phases.
 *
 * @param {pg.Client} client
 * @param {number} seconds how long it stays prepared
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
 * A flag is there, or gone, in every environment: each gets its audit row.
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
async function ask({ client, chance }, channel) {
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
    [change, feature, age(chance)],
  );
}

/**
 * @param {Session} session
 * @param {ChaosChannel} channel
 */
async function decide({ client, chance }, channel) {
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
 * Some flag that nobody else is writing just now.
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
    [channel.projectId, channel.environmentId, feature, action, age(chance)],
  );
}

/**
 * Seconds between now and a created_at. Consecutive rows get decreasing times as well, as from a clock that steps
 * back.
 *
 * @param {() => number} chance
 */
function age(chance) {
  if (chance() < 0.5) return 0;
  return ages.oldest + (ages.newest - ages.oldest) * chance();
}

/**
 * Many changes of one channel in one transaction, as an import makes them.
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
  if (item === undefined) throw new Error('nothing to pick from');
  return item;
}

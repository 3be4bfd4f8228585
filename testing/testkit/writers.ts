import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { ChannelIds, FlagIds, TestChannel } from './channel.ts';
import { openClient, withClient } from './postgres.ts';
import { SeededRandom } from './random.ts';

export interface WritersOptions {
  readonly databaseUrl: string;
  /** The channels of each project. */
  readonly projects: readonly (readonly TestChannel[])[];
  /** Number of concurrent sessions. */
  readonly writers: number;
  /** Ends the writers after their current transactions. */
  readonly signal: AbortSignal;
  /** Average pause of a writer between two transactions, in milliseconds. Default 0. */
  readonly pauseMs?: number;
  /** Whether one transaction in ten is prepared and committed later, as by a transaction manager. Default false. */
  readonly prepares?: boolean;
  /** Of what they write. Default: a random one. */
  readonly seed?: number;
}

interface Session {
  readonly client: pg.Client;
  readonly random: SeededRandom;
}

/** Range of created_at of half of the rows, relative to now, in seconds; the other half is written with now(). */
const offsets = { oldest: -864_000, newest: 3_600 };
/** Pause of a writer before it reconnects, in milliseconds. */
const reconnectPauseMs = 100;

/**
 * Runs concurrent writers until `signal`. Each transaction edits, adds or deletes a flag, with its audit row, or creates,
 * edits, decides, reopens or deletes a change request; it takes 2-400 ms. One in three uses a savepoint, one in ten is rolled back. Writers
 * reconnect after a lost connection.
 */
export async function runWriters(options: WritersOptions): Promise<void> {
  const { writers, seed = Math.floor(Math.random() * 2 ** 32) } = options;
  const randoms = Array.from({ length: writers }, (_, index) => new SeededRandom(seed, index));
  await Promise.all(randoms.map(async (random) => await runWriter(options, random)));
}

async function runWriter(
  { databaseUrl, projects, signal, pauseMs = 0, prepares = false }: WritersOptions,
  random: SeededRandom,
): Promise<void> {
  let client: pg.Client | null = null;
  while (!signal.aborted) {
    try {
      client ??= await openClient(databaseUrl, 'writer');
      await work({ client, random }, random.pick(projects), prepares);
      if (pauseMs > 0) await delay(2 * pauseMs * random.next());
    } catch {
      // A fault restarts the database or ends the session; PostgreSQL rolls the transaction back.
      await client?.end().catch(() => undefined);
      client = null;
      await delay(reconnectPauseMs);
    }
  }
  await client?.end().catch(() => undefined);
}

/** What a transaction does in an environment, or in all of its project. */
type Change = (session: Session, channel: ChannelIds, all: readonly ChannelIds[]) => Promise<void>;

const isOpen = "status = 'pending'";
const decisions = [
  `status = 'approved', approved_by = 'alice', approved_at = now()`,
  `status = 'rejected', rejected_by = 'alice', rejected_at = now(), rejection_reason = gen_random_uuid()`,
  `status = 'cancelled'`,
];
const reopened = `status = 'pending', approved_by = NULL, approved_at = NULL, rejected_by = NULL, rejected_at = NULL,
  rejection_reason = NULL`;

/** SQL for a change of a flag with a reason and a value that occur in no other. */
const requestedChange = (feature: string): string => `jsonb_build_object(
  'entities', jsonb_build_array(jsonb_build_object('entity', 'feature', 'entity_id', ${feature}::text, 'action', 'update',
    'changes', jsonb_build_object('default_value', jsonb_build_object('old', '', 'new', gen_random_uuid())))),
  'meta', jsonb_build_object('reason', gen_random_uuid()))`;

/** Executes a statement for one request of the environment that no other session has locked. */
const writeRequest =
  (condition: string, statement: (random: SeededRandom) => string): Change =>
  async ({ client, random }, { environmentId }) => {
    await client.query(
      `${statement(random)} WHERE id = (
         SELECT id FROM pending_changes WHERE ${condition} AND environment_id = $1 LIMIT 1 FOR UPDATE SKIP LOCKED)`,
      [environmentId],
    );
  };

const edited = requestedChange("(change #>> '{entities,0,entity_id}')");

/** The changes with their shares of the transactions. */
const changes: readonly (readonly [share: number, change: Change])[] = [
  [0.55, edit],
  [0.07, addFlag],
  [0.07, deleteFlag],
  [0.1, requestChange],
  [0.1, writeRequest(isOpen, (random) => `UPDATE pending_changes SET ${random.pick(decisions)}`)],
  [0.06, writeRequest(isOpen, () => `UPDATE pending_changes SET change = ${edited}`)],
  [0.03, writeRequest(`NOT ${isOpen}`, () => `UPDATE pending_changes SET ${reopened}`)],
  // The deletion of a decided one is no step.
  [0.02, writeRequest(isOpen, () => 'DELETE FROM pending_changes')],
];

async function work(session: Session, channels: readonly ChannelIds[], prepares: boolean): Promise<void> {
  const { client, random } = session;
  const outcome = random.next();
  const prepared = prepares && outcome < 0.1;
  await client.query('BEGIN');
  // PREPARE TRANSACTION fails after a NOTIFY.
  if (prepared) await client.query(`SET LOCAL flagcast.notify = 'off'`);
  const savepoint = random.next() < 1 / 3;
  if (savepoint) await client.query('SAVEPOINT step');
  let drawn = random.next();
  const [, change = edit] = changes.find(([share]) => (drawn -= share) < 0) ?? [];
  await change(session, random.pick(channels), channels);
  if (savepoint && random.next() < 0.25) await client.query('ROLLBACK TO SAVEPOINT step');
  const seconds = (2 * 200 ** random.next()) / 1_000;
  await client.query('SELECT pg_sleep($1)', [seconds]);
  if (prepared) await prepareAndCommit(client, seconds);
  else await client.query(outcome > 0.9 ? 'ROLLBACK' : 'COMMIT');
}

/**
 * Ends a transaction with a two-phase commit, with `seconds` between the phases.
 */
export async function prepareAndCommit(
  client: pg.Client,
  seconds: number,
  end: 'COMMIT' | 'ROLLBACK' = 'COMMIT',
): Promise<void> {
  const name = client.escapeLiteral(randomUUID());
  await client.query(`PREPARE TRANSACTION ${name}`);
  await client.query('SELECT pg_sleep($1)', [seconds]);
  await client.query(`${end} PREPARED ${name}`);
}

async function edit({ client, random }: Session, channel: ChannelIds): Promise<void> {
  const featureId = await lockFlag(client, channel.projectId);
  if (featureId === null) return;
  await client.query(
    `UPDATE feature_params SET enabled = $4, default_value = $3, updated_at = now()
     WHERE feature_id = $1 AND environment_id = $2`,
    [featureId, channel.environmentId, randomUUID(), random.next() < 0.5],
  );
  await insertAudit(client, { ...channel, featureId }, { offsetSeconds: timeOffset(random) });
}

/** Adds a flag, with an audit row for each environment. */
async function addFlag(session: Session, channel: ChannelIds, all: readonly ChannelIds[]): Promise<void> {
  const feature = randomUUID();
  await session.client.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, $3, 'simple')`,
    [feature, channel.projectId, feature],
  );
  await auditAll(session, all, feature, 'create');
}

/** Deletes a flag, with an audit row for each environment. */
async function deleteFlag(session: Session, channel: ChannelIds, all: readonly ChannelIds[]): Promise<void> {
  const feature = await lockFlag(session.client, channel.projectId);
  if (feature === null) return;
  await session.client.query('DELETE FROM features WHERE id = $1', [feature]);
  await auditAll(session, all, feature, 'delete');
}

async function auditAll(
  { client, random }: Session,
  channels: readonly ChannelIds[],
  featureId: string,
  action: string,
): Promise<void> {
  for (const channel of channels) {
    await insertAudit(client, { ...channel, featureId }, { action, offsetSeconds: timeOffset(random) });
  }
}

async function requestChange({ client, random }: Session, channel: ChannelIds): Promise<void> {
  const feature = await lockFlag(client, channel.projectId);
  if (feature === null) return;
  const { rows } = await client.query<{ open: boolean }>(
    `SELECT EXISTS (SELECT FROM pending_change_entities e JOIN pending_changes c ON c.id = e.pending_change_id
       WHERE e.entity_id = $1 AND c.status = 'pending') AS open`,
    [feature],
  );
  if (rows[0]?.open === true) return;
  await insertRequest(client, channel, feature, timeOffset(random));
}

/** Returns the id of the request. `offset`: of its created_at from now, in seconds. */
export async function insertRequest(
  client: pg.Client,
  channel: ChannelIds,
  feature: string,
  offset = 0,
): Promise<string> {
  const id = randomUUID();
  await client.query(
    `INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
     VALUES ($1, $2, $3, 'bob', ${requestedChange('$4')})`,
    [id, channel.projectId, channel.environmentId, feature],
  );
  await client.query(
    `INSERT INTO pending_change_entities (id, pending_change_id, entity, entity_id, created_at)
     VALUES (gen_random_uuid(), $1, 'feature', $2, now() + $3 * interval '1 s')`,
    [id, feature, offset],
  );
  return id;
}

/** Locks a random flag that no other session has locked; null if there is none. */
async function lockFlag(client: pg.Client, projectId: string): Promise<string | null> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT id FROM features WHERE project_id = $1 ORDER BY md5(id::text || $2) LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [projectId, randomUUID()],
  );
  return rows[0]?.id ?? null;
}

/** Inserts an audit row of the flag; by default of its update, now. */
export async function insertAudit(
  client: pg.Client,
  { projectId, environmentId, featureId }: FlagIds,
  {
    entityId = featureId,
    action = 'update',
    username = 'alice',
    value = 'new',
    offsetSeconds = 0,
  }: {
    readonly entityId?: string;
    readonly action?: string;
    readonly username?: string;
    /** The new default value. */
    readonly value?: string;
    /** Of created_at from now. */
    readonly offsetSeconds?: number;
  } = {},
): Promise<void> {
  await client.query({
    name: 'insert_audit',
    text: `INSERT INTO audit_log (feature_id, entity, entity_id, actor, username, action, old_value, new_value,
        project_id, environment_id, created_at)
      VALUES ($1, 'feature', $2, 'user', $3, $4, '{}', jsonb_build_object('default_value', $5::text), $6, $7,
        now() + $8 * interval '1 s')`,
    values: [featureId, entityId, username, action, value, projectId, environmentId, offsetSeconds],
  });
}

/**
 * Returns the offset of a created_at from now, in seconds. Consecutive rows can get decreasing times, as from a clock
 * that is set back.
 */
function timeOffset(random: SeededRandom): number {
  if (random.next() < 0.5) return 0;
  return offsets.oldest + (offsets.newest - offsets.oldest) * random.next();
}

/** Inserts `count` audit rows of one channel in one statement, as an import does. */
export async function writeMany(client: pg.Client, channel: ChannelIds, count: number): Promise<void> {
  await client.query(
    `INSERT INTO audit_log
       (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, created_at)
     SELECT $1, $2, (SELECT min(id::text)::uuid FROM features WHERE project_id = $1), 'rule', gen_random_uuid(), 'user',
       'import', 'create', now() - n * interval '1 s' FROM generate_series(1, $3) n`,
    [channel.projectId, channel.environmentId, count],
  );
}

/**
 * Commits transactions that the writers left prepared, as a transaction manager does. `olderThanMs`: minimum age in
 * milliseconds; default 0: all.
 */
export async function commitPrepared(databaseUrl: string, olderThanMs = 0): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ gid: string }>(
      `SELECT gid FROM pg_prepared_xacts
       WHERE database = current_database() AND prepared <= clock_timestamp() - $1 * interval '1 ms'`,
      [olderThanMs],
    );
    for (const { gid } of rows) await client.query(`COMMIT PREPARED ${client.escapeLiteral(gid)}`);
  });
}

import { setTimeout as delay } from 'node:timers/promises';
import { install } from 'flagcast/testing';
import type pg from 'pg';
import { withClient } from '../testkit/postgres.ts';
import { serverRole } from '../testkit/seed-database.ts';
import { writeMany } from '../testkit/writers.ts';
import type { ChaosSystem, Faults, RunFault } from './fault.ts';
import type { PlannedFault } from './plan.ts';

/**
 * Faults of the host: it alters, replaces and locks its tables and revokes privileges while Flagcast is attached.
 */

/** lock_timeout of DDL, in milliseconds. While DDL waits for a lock, all other sessions of the table queue behind it. */
const lockTimeoutMs = 2_000;
/** Writers hold a lock for at most 20 s: the run commits prepared transactions after 12 s. An import can take minutes. */
const attempts = 240;
const retryPauseMs = 500;
/** Rows of the first import of a long run, and of every other import. */
const importRows = { first: 300_000, others: 5_000 };
const longRunMs = 240_000;
/** An import is repeated if a restart of PostgreSQL rolls it back. */
const importAttempts = 2;
/** Retention keeps events of this age, in milliseconds: longer than a server needs to read them. */
const retentionKeepMs = 90_000;
const retention = { batches: 20, rows: 5_000 };

/**
 * Errors after which a statement is retried: no lock, connection or server available, or the feature was deleted
 * meanwhile.
 */
const transientErrors =
  /lock timeout|foreign key|deadlock|terminat|connection|ECONNRE|shut(ting)? down|starting up|recovery mode|Connection/i;

/** What a transaction does: statements without parameters, or a function. */
type Change = string | ((client: pg.Client) => Promise<void>);

/** Retries `work` on a new connection after these errors, up to `limit` times. */
async function retry(
  { databaseUrl, signal }: ChaosSystem,
  work: (client: pg.Client) => Promise<void>,
  retried = /./,
  limit = attempts,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      await withClient(databaseUrl, work);
      return;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (attempt >= limit || !retried.test(message)) throw error;
      await delay(retryPauseMs);
    }
  }
}

/** Runs a transaction of the host. Retries while a lock is not available or PostgreSQL is down. */
export async function changeHost(system: ChaosSystem, change: Change, limit = attempts): Promise<void> {
  const transaction = async (client: pg.Client): Promise<void> => {
    await client.query(`BEGIN; SET LOCAL lock_timeout = '${lockTimeoutMs}ms'`);
    if (typeof change === 'string') await client.query(change);
    else await change(client);
    await client.query('COMMIT');
  };
  await retry(system, transaction, transientErrors, limit);
}

/** Selects the audit rows that are missing in the event log. */
const unlogged = `
  SELECT a.id, a.created_at FROM public.audit_log a
  WHERE NOT EXISTS (
    SELECT FROM (SELECT * FROM flagcast.event_log UNION ALL SELECT * FROM testkit.deleted_events) l
    WHERE l.source = 'audit' AND l.row_id = a.id::text AND l.created_at = a.created_at
  ) AND NOT EXISTS (SELECT FROM testkit.unlogged_rows u WHERE u.id = a.id AND u.created_at = a.created_at)`;

/** Excludes the rows that were written while the trigger was missing from the count. */
const excludeUnlogged = `INSERT INTO testkit.unlogged_rows ${unlogged}`;

/** Counts the audit rows that were written while the triggers existed but are missing in the event log. */
export async function countUnlogged(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM (${unlogged}) u`,
  );
  return rows[0]?.count ?? 0;
}

/** Locks the audit log, counts its rows that are missing in the event log, and removes all rows. */
async function removeRows(system: ChaosSystem, statements: string): Promise<void> {
  await changeHost(system, async (client) => {
    await client.query('LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE');
    system.unlogged += await countUnlogged(client);
    await client.query(statements);
  });
}

/** A fault that changes something and reverts it after its duration. */
function temporary(change: Change, undo: string): RunFault {
  return async (system, { holdMs }) => {
    await changeHost(system, change);
    await delay(holdMs);
    await changeHost(system, undo);
    return `for ${holdMs} ms`;
  };
}

/** Keeps all others from the tables. */
function lock(tables: string): RunFault {
  return async (system, { holdMs }) => {
    await changeHost(
      system,
      `LOCK TABLE ${tables} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(${holdMs / 1_000})`,
    );
    return `for ${holdMs} ms`;
  };
}

/** Makes a varchar column of one of two tables longer each time. */
function alterColumn(one: string, other: string): RunFault {
  return async (system, { strength, atMs }) => {
    const [table = '', column = ''] = (strength < 0.5 ? one : other).split('.');
    const text = `ALTER TABLE public.${table} ALTER COLUMN ${column} TYPE varchar(${256 + Math.round(atMs / 100)})`;
    await changeHost(system, text);
    return text;
  };
}

/** Revokes all privileges on the columns of the features. */
async function revokeFeatures(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ columns: string }>(
    `SELECT string_agg(quote_ident(attname), ', ') AS columns FROM pg_attribute
     WHERE attrelid = 'public.features'::regclass AND attnum > 0
       AND has_column_privilege($1, attrelid, attnum, 'SELECT')`,
    [serverRole],
  );
  await client.query(`REVOKE SELECT ON public.features FROM ${serverRole};
    REVOKE SELECT (${rows[0]?.columns}) ON public.features FROM ${serverRole}`);
}

async function renameEnvironment(system: ChaosSystem, { target, holdMs }: PlannedFault): Promise<string> {
  // The browser shows the first channel.
  const others = system.channels.slice(1);
  const channel = others[Math.floor(target * others.length)];
  if (channel === undefined) return 'nothing';
  const renamed = `${channel.env}-renamed`;
  if (channel.keys?.includes(renamed) === false) channel.keys.push(renamed);
  for (const key of [renamed, channel.env]) {
    await changeHost(system, async (client) => {
      await client.query('UPDATE environments SET key = $2 WHERE id = $1', [channel.environmentId, key]);
    });
    if (key === renamed) await delay(holdMs);
  }
  return `${channel.env} to ${renamed} for ${holdMs} ms`;
}

async function deleteOldEvents(system: ChaosSystem): Promise<string> {
  let deleted = 0;
  let rows = retention.rows;
  for (let batch = 0; rows === retention.rows && batch < retention.batches; batch += 1) {
    await changeHost(system, async (client) => {
      const answer = await client.query<{ rows: string | null }>(
        `SELECT flagcast.prune_event_log($1 * interval '1 ms', $2)::text AS rows`,
        [retentionKeepMs, retention.rows],
      );
      rows = Number(answer.rows[0]?.rows ?? 0);
    });
    deleted += rows;
  }
  return `deleted ${deleted} rows`;
}

export async function importMany(system: ChaosSystem): Promise<string> {
  const { importChannel, durationMs } = system;
  const isFirst = system.imports === 0;
  system.imports += 1;
  const rows = isFirst && durationMs >= longRunMs ? importRows.first : importRows.others;
  try {
    const work = async (client: pg.Client): Promise<void> => await writeMany(client, importChannel, rows);
    await changeHost(system, work, importAttempts);
    return `${rows} rows in one statement`;
  } catch (error) {
    return `rolled back: ${error instanceof Error ? error.message : String(error)}`;
  }
}

export const hostChanges: Faults = {
  'audit_log truncated': async (system) => {
    await removeRows(system, 'TRUNCATE public.audit_log RESTART IDENTITY');
    return 'and its ids restarted';
  },
  'audit_log replaced': async (system, { atMs, holdMs }) => {
    const old = `audit_log_${atMs}`;
    await removeRows(
      system,
      `ALTER TABLE public.audit_log RENAME TO ${old};
       CREATE TABLE public.audit_log (LIKE public.${old} INCLUDING ALL)`,
    );
    await delay(holdMs / 2);
    // Retries every error: InstallError hides the SQLSTATE of a lock that was not available.
    await retry(system, async (client) => void (await install(client)));
    await changeHost(system, excludeUnlogged);
    return `and installed again after ${Math.round(holdMs / 2)} ms`;
  },
  'triggers switched off': async (system, plan, server) => {
    const table = 'ALTER TABLE public.audit_log';
    const run = temporary(
      `${table} DISABLE TRIGGER flagcast_log`,
      `${table} ENABLE ALWAYS TRIGGER flagcast_log`,
    );
    const done = await run(system, plan, server);
    await changeHost(system, excludeUnlogged);
    return done;
  },
  'columns of audit_log altered': alterColumn('audit_log.actor', 'audit_log.username'),
  'columns of other tables altered': alterColumn('environments.key', 'pending_changes.requested_by'),
  'event log unreadable': temporary(
    `REVOKE SELECT ON flagcast.event_log FROM ${serverRole}`,
    `GRANT SELECT ON flagcast.event_log TO ${serverRole}`,
  ),
  'features unreadable': temporary(revokeFeatures, `GRANT SELECT ON public.features TO ${serverRole}`),
  'event log locked': lock('flagcast.event_log'),
  'tables locked': lock('audit_log, features, feature_params, pending_changes, pending_change_entities'),
  'row-level security': temporary(
    'ALTER TABLE public.features ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE public.features DISABLE ROW LEVEL SECURITY',
  ),
  'sessions refused': temporary(
    `ALTER ROLE ${serverRole} CONNECTION LIMIT 0;
     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${serverRole}' AND random() < 0.5`,
    `ALTER ROLE ${serverRole} CONNECTION LIMIT -1`,
  ),
  'environment renamed': renameEnvironment,
  retention: deleteOldEvents,
};

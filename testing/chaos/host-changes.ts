import { setTimeout as delay } from 'node:timers/promises';
import { install } from 'flagcast/testing';
import type pg from 'pg';
import { withClient } from '../testkit/postgres.ts';
import { serverRole } from '../testkit/seed-database.ts';
import { writeMany } from '../testkit/writers.ts';
import { deleteEnvironment } from './deleted-environment.ts';
import type { Fault, NemesisContext } from './fault.ts';
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
const retentionBatches = 20;

/**
 * Errors after which a statement is retried: no lock, connection or server available, or the feature was deleted
 * meanwhile.
 */
const transientErrors =
  /lock timeout|foreign key|deadlock|terminat|connection|ECONNRE|shut(ting)? down|starting up|recovery mode|Connection/i;

/**
 * Runs `work` in a transaction of the host. Retries while a lock is not available or PostgreSQL is down, up to `limit` times.
 */
async function change(
  { databaseUrl, signal }: NemesisContext,
  work: (client: pg.Client) => Promise<void>,
  limit = attempts,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      await withClient(databaseUrl, async (client) => {
        await client.query(`BEGIN; SET LOCAL lock_timeout = '${lockTimeoutMs}ms'`);
        await work(client);
        await client.query('COMMIT');
      });
      return;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (attempt >= limit || !transientErrors.test(message)) throw error;
      await delay(retryPauseMs);
    }
  }
}

async function repair(context: NemesisContext): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    context.signal.throwIfAborted();
    try {
      await withClient(context.databaseUrl, async (client) => void (await install(client)));
      return;
    } catch (error) {
      // Retries every error: InstallError hides the SQLSTATE of a lock that was not available.
      if (attempt >= attempts) throw error;
      await delay(retryPauseMs);
    }
  }
}

/** Selects the audit rows that are missing in the event log. */
const unlogged = `
  SELECT a.id, a.created_at FROM public.audit_log a
  WHERE NOT EXISTS (
    SELECT FROM (SELECT * FROM flagcast.event_log UNION ALL SELECT * FROM testkit.deleted_events) l
    WHERE l.source = 'audit' AND l.row_id = a.id::text AND l.created_at = a.created_at
  ) AND NOT EXISTS (SELECT FROM testkit.unlogged_rows u WHERE u.id = a.id AND u.created_at = a.created_at)`;

/** Counts the audit rows that were written while the triggers existed but are missing in the event log. */
export async function countUnlogged(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM (${unlogged}) u`,
  );
  return rows[0]?.count ?? 0;
}

/** Excludes the rows that were written while the trigger was missing from the count. */
async function excludeUnlogged(context: NemesisContext): Promise<void> {
  await change(context, async (client) => {
    await client.query(`INSERT INTO testkit.unlogged_rows ${unlogged}`);
  });
}

/** Locks the audit log, and counts its rows that are missing in the event log before they are removed. */
async function lockAuditLog(context: NemesisContext, client: pg.Client): Promise<void> {
  await client.query('LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE');
  context.unlogged += await countUnlogged(client);
}

/** A fault that executes a statement and reverts it after its duration. */
function temporaryChange(statement: string, undo: string): Fault {
  return {
    resource: 'host',
    run: async (context, { holdMs }) => {
      await change(context, async (client) => void (await client.query(statement)));
      await delay(holdMs);
      await change(context, async (client) => void (await client.query(undo)));
      return `for ${holdMs} ms`;
    },
  };
}

function alteration(statement: (fault: PlannedFault) => string): Fault {
  return {
    resource: 'host',
    run: async (context, fault) => {
      const text = statement(fault);
      await change(context, async (client) => void (await client.query(text)));
      return text;
    },
  };
}

/** Length of a varchar column, which grows with each change. */
const widthOf = ({ atMs }: PlannedFault): number => 256 + Math.round(atMs / 100);

export const hostChanges: Readonly<Record<string, Fault>> = {
  'audit_log truncated': {
    resource: 'host',
    run: async (context) => {
      await change(context, async (client) => {
        await lockAuditLog(context, client);
        await client.query('TRUNCATE public.audit_log RESTART IDENTITY');
      });
      return 'and its ids restarted';
    },
  },
  'audit_log replaced': {
    resource: 'host',
    run: async (context, { atMs, holdMs }) => {
      const old = `audit_log_${atMs}`;
      await change(context, async (client) => {
        await lockAuditLog(context, client);
        await client.query(`ALTER TABLE public.audit_log RENAME TO ${old}`);
        await client.query(`CREATE TABLE public.audit_log (LIKE public.${old} INCLUDING ALL)`);
      });
      await delay(holdMs / 2);
      await repair(context);
      await excludeUnlogged(context);
      return `and installed again after ${Math.round(holdMs / 2)} ms`;
    },
  },
  'triggers switched off': {
    resource: 'host',
    run: async (context, { holdMs }) => {
      await change(context, async (client) => {
        await client.query('ALTER TABLE public.audit_log DISABLE TRIGGER flagcast_log');
      });
      await delay(holdMs);
      await change(context, async (client) => {
        await client.query('ALTER TABLE public.audit_log ENABLE ALWAYS TRIGGER flagcast_log');
      });
      await excludeUnlogged(context);
      return `for ${holdMs} ms`;
    },
  },
  'columns of audit_log altered': alteration((fault) =>
    fault.strength < 0.5
      ? `ALTER TABLE public.audit_log ALTER COLUMN actor TYPE varchar(${widthOf(fault)})`
      : `ALTER TABLE public.audit_log ALTER COLUMN username TYPE varchar(${widthOf(fault)})`,
  ),
  'columns of other tables altered': alteration((fault) =>
    fault.strength < 0.5
      ? `ALTER TABLE public.environments ALTER COLUMN key TYPE varchar(${widthOf(fault)})`
      : `ALTER TABLE public.pending_changes ALTER COLUMN requested_by TYPE varchar(${widthOf(fault)})`,
  ),
  'event log unreadable': temporaryChange(
    `REVOKE SELECT ON flagcast.event_log FROM ${serverRole}`,
    `GRANT SELECT ON flagcast.event_log TO ${serverRole}`,
  ),
  'features unreadable': {
    resource: 'host',
    run: async (context, { holdMs }) => {
      let columns: string[] = [];
      await change(context, async (client) => {
        const { rows } = await client.query<{ name: string }>(
          `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'public.features'::regclass AND attnum > 0
             AND has_column_privilege($1, attrelid, attnum, 'SELECT')`,
          [serverRole],
        );
        columns = rows.map(({ name }) => name);
        await client.query(`REVOKE SELECT ON public.features FROM ${serverRole};
          REVOKE SELECT (${columns.join(', ')}) ON public.features FROM ${serverRole}`);
      });
      await delay(holdMs);
      await change(context, async (client) => {
        await client.query(`GRANT SELECT ON public.features TO ${serverRole}`);
      });
      return `for ${holdMs} ms`;
    },
  },
  'event log locked': {
    resource: 'host',
    run: async (context, { holdMs }) => {
      await change(context, async (client) => {
        await client.query('LOCK TABLE flagcast.event_log IN ACCESS EXCLUSIVE MODE');
        await client.query('SELECT pg_sleep($1)', [holdMs / 1_000]);
      });
      return `for ${holdMs} ms`;
    },
  },
  'environment renamed': {
    resource: 'host',
    run: async (context, { target, holdMs }) => {
      // The browser shows the first channel.
      const others = context.channels.slice(1);
      const channel = others[Math.floor(target * others.length)];
      if (channel === undefined) return 'nothing';
      const renamed = `${channel.env}-renamed`;
      if (channel.keys?.includes(renamed) === false) channel.keys.push(renamed);
      for (const key of [renamed, channel.env]) {
        await change(context, async (client) => {
          await client.query('UPDATE environments SET key = $2 WHERE id = $1', [channel.environmentId, key]);
        });
        if (key === renamed) await delay(holdMs);
      }
      return `${channel.env} to ${renamed} for ${holdMs} ms`;
    },
  },
  'environment deleted': {
    resource: 'environments',
    run: async (context) => await deleteEnvironment(context, async (work) => await change(context, work)),
  },
  import: {
    resource: 'import',
    run: async (context) => {
      const { importChannel, durationMs } = context;
      const isFirst = context.imports === 0;
      context.imports += 1;
      const rows = isFirst && durationMs >= longRunMs ? importRows.first : importRows.others;
      let done = `${rows} rows in one statement`;
      const work = async (client: pg.Client) => await writeMany(client, importChannel, rows);
      await change(context, work, importAttempts).catch((error: unknown) => {
        done = `rolled back: ${error instanceof Error ? error.message : String(error)}`;
      });
      return done;
    },
  },
  retention: {
    resource: 'host',
    run: async (context) => {
      let deleted = 0;
      for (let rows = 5_000, batch = 0; rows === 5_000 && batch < retentionBatches; batch += 1) {
        await change(context, async (client) => {
          const answer = await client.query<{ rows: string | null }>(
            `SELECT flagcast.prune_event_log($1 * interval '1 ms', 5000)::text AS rows`,
            [retentionKeepMs],
          );
          rows = Number(answer.rows[0]?.rows ?? 0);
        });
        deleted += rows;
      }
      return `deleted ${deleted} rows`;
    },
  },
};

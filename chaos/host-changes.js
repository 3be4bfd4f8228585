import { setTimeout as delay } from 'node:timers/promises';
import { install } from '../packages/server/dist/database/install.js';
import { serverRole, withClient } from './company.js';
import { deleteEnvironment } from './deleted-environment.js';
import { writeMany } from './writers.js';

/** @import pg from 'pg' */
/** @import { FaultAction, World } from './faults.js' */
/** @import { PlannedFault } from './plan.js' */

/**
 * Faults of the host: it alters, replaces and locks its tables, and takes rights away, while Flagcast is attached.
 */

/** DDL waits for locks this long, in milliseconds. While it waits, every other session of the table waits as well. */
const lockTimeoutMs = 2_000;
/** Writers keep a lock for 20 s at most, because prepared transactions are ended after 12 s. An import can take minutes. */
const attempts = 240;
const retryPauseMs = 500;
/** Rows of the first import of a long run, and of every other one. */
const importRows = { first: 300_000, others: 5_000 };
const longRunMs = 240_000;
/** Retention keeps this much, in milliseconds: more than any server needs to read it. */
const retentionKeepMs = 90_000;
const retentionBatches = 20;

/** What PostgreSQL says when a lock, the connection or the server is not there: the statement is tried again. */
const transientErrors =
  /lock timeout|deadlock|terminat|connection|ECONNRE|shut(ting)? down|starting up|recovery mode|Connection/i;

/**
 * Runs `work` in a transaction of the host. Repeats it while a lock is not available, or PostgreSQL is down.
 *
 * @param {World} world
 * @param {(client: pg.Client) => Promise<void>} work
 */
async function change({ databaseUrl, signal }, work) {
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
      if (attempt >= attempts || !transientErrors.test(message)) throw error;
      await delay(retryPauseMs);
    }
  }
}

/** @param {World} world */
async function repair(world) {
  for (let attempt = 1; ; attempt += 1) {
    world.signal.throwIfAborted();
    try {
      await withClient(world.databaseUrl, async (client) => void (await install(client)));
      return;
    } catch (error) {
      // InstallError has the code of a lock that was not available.
      if (attempt >= attempts) throw error;
      await delay(retryPauseMs);
    }
  }
}

/** The audit rows that are not in the event log. */
const unlogged = `
  SELECT a.id, a.created_at FROM public.audit_log a
  WHERE NOT EXISTS (
    SELECT FROM (SELECT * FROM flagcast.event_log UNION ALL SELECT * FROM chaos.deleted_events) l
    WHERE l.source = 'audit' AND l.row_id = a.id::text AND l.created_at = a.created_at
  ) AND NOT EXISTS (SELECT FROM chaos.unlogged_rows u WHERE u.id = a.id AND u.created_at = a.created_at)`;

/**
 * How many audit rows were written while the triggers were there, and are not in the event log.
 *
 * @param {pg.Client} client
 */
export async function countUnlogged(client) {
  /** @type {pg.QueryResult<{ count: number }>} */
  const { rows } = await client.query(`SELECT count(*)::int AS count FROM (${unlogged}) u`);
  return rows[0]?.count ?? 0;
}

/**
 * Notes the rows that were written while there was no trigger.
 *
 * @param {World} world
 */
async function noteUnlogged(world) {
  await change(world, async (client) => {
    await client.query(`INSERT INTO chaos.unlogged_rows ${unlogged}`);
  });
}

/**
 * Counts, before the rows go, what is missing in the event log.
 *
 * @param {World} world
 * @param {pg.Client} client
 */
async function lockAuditLog({ onUnlogged }, client) {
  await client.query('LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE');
  onUnlogged(await countUnlogged(client));
}

/**
 * Does something, waits, and undoes it.
 *
 * @param {string} statement
 * @param {string} undo
 * @returns {FaultAction}
 */
function forAWhile(statement, undo) {
  return {
    busy: 'host',
    run: async (world, { holdMs }) => {
      await change(world, async (client) => void (await client.query(statement)));
      await delay(holdMs);
      await change(world, async (client) => void (await client.query(undo)));
      return `for ${holdMs} ms`;
    },
  };
}

/**
 * @param {(world: World, fault: PlannedFault) => string} statement
 * @returns {FaultAction}
 */
function alteration(statement) {
  return {
    busy: 'host',
    run: async (world, fault) => {
      const text = statement(world, fault);
      await change(world, async (client) => void (await client.query(text)));
      return text;
    },
  };
}

/** Of varchar columns: longer with each change. @param {PlannedFault} fault */
const widthOf = ({ atMs }) => 256 + Math.round(atMs / 100);

/** @satisfies {Record<string, FaultAction>} */
export const hostChanges = {
  'audit_log truncated': {
    busy: 'host',
    run: async (world) => {
      await change(world, async (client) => {
        await lockAuditLog(world, client);
        await client.query('TRUNCATE public.audit_log RESTART IDENTITY');
      });
      return 'its ids begin again';
    },
  },
  'audit_log replaced': {
    busy: 'host',
    run: async (world, { atMs, holdMs }) => {
      const old = `audit_log_${atMs}`;
      await change(world, async (client) => {
        await lockAuditLog(world, client);
        await client.query(`ALTER TABLE public.audit_log RENAME TO ${old}`);
        await client.query(`CREATE TABLE public.audit_log (LIKE public.${old} INCLUDING ALL)`);
      });
      await delay(holdMs / 2);
      await repair(world);
      await noteUnlogged(world);
      return `and installed again after ${Math.round(holdMs / 2)} ms`;
    },
  },
  'triggers switched off': {
    busy: 'host',
    run: async (world, { holdMs }) => {
      await change(world, async (client) => {
        await client.query('ALTER TABLE public.audit_log DISABLE TRIGGER flagcast_log');
      });
      await delay(holdMs);
      await change(world, async (client) => {
        await client.query('ALTER TABLE public.audit_log ENABLE ALWAYS TRIGGER flagcast_log');
      });
      await noteUnlogged(world);
      return `for ${holdMs} ms`;
    },
  },
  'columns of audit_log altered': alteration((_world, fault) =>
    fault.strength < 0.5
      ? `ALTER TABLE public.audit_log ALTER COLUMN actor TYPE varchar(${widthOf(fault)})`
      : `ALTER TABLE public.audit_log ALTER COLUMN username TYPE varchar(${widthOf(fault)})`,
  ),
  'columns of other tables altered': alteration((_world, fault) =>
    fault.strength < 0.5
      ? `ALTER TABLE public.environments ALTER COLUMN key TYPE varchar(${widthOf(fault)})`
      : `ALTER TABLE public.pending_changes ALTER COLUMN requested_by TYPE varchar(${widthOf(fault)})`,
  ),
  'event log unreadable': forAWhile(
    `REVOKE SELECT ON flagcast.event_log FROM ${serverRole}`,
    `GRANT SELECT ON flagcast.event_log TO ${serverRole}`,
  ),
  'features unreadable': {
    busy: 'host',
    run: async (world, { holdMs }) => {
      /** @type {string[]} */
      let columns = [];
      await change(world, async (client) => {
        /** @type {pg.QueryResult<{ name: string }>} */
        const { rows } = await client.query(
          `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'public.features'::regclass AND attnum > 0
             AND has_column_privilege($1, attrelid, attnum, 'SELECT')`,
          [serverRole],
        );
        columns = rows.map(({ name }) => name);
        await client.query(`REVOKE SELECT ON public.features FROM ${serverRole};
          REVOKE SELECT (${columns.join(', ')}) ON public.features FROM ${serverRole}`);
      });
      await delay(holdMs);
      await change(world, async (client) => {
        await client.query(`GRANT SELECT ON public.features TO ${serverRole}`);
      });
      return `for ${holdMs} ms`;
    },
  },
  'event log locked': {
    busy: 'host',
    run: async (world, { holdMs }) => {
      await change(world, async (client) => {
        await client.query('LOCK TABLE flagcast.event_log IN ACCESS EXCLUSIVE MODE');
        await client.query('SELECT pg_sleep($1)', [holdMs / 1_000]);
      });
      return `for ${holdMs} ms`;
    },
  },
  'environment renamed': {
    busy: 'host',
    run: async (world, { target, holdMs }) => {
      // The first one is the browser's.
      const others = world.channels.slice(1);
      const channel = others[Math.floor(target * others.length)];
      if (channel === undefined) return 'nothing';
      const renamed = `${channel.env}-renamed`;
      if (channel.keys?.includes(renamed) === false) /** @type {string[]} */ (channel.keys).push(renamed);
      for (const key of [renamed, channel.env]) {
        await change(world, async (client) => {
          await client.query('UPDATE environments SET key = $2 WHERE id = $1', [channel.environmentId, key]);
        });
        if (key === renamed) await delay(holdMs);
      }
      return `${channel.env} to ${renamed} for ${holdMs} ms`;
    },
  },
  'environment deleted': {
    busy: 'environments',
    run: async (world) => await deleteEnvironment(world, async (work) => await change(world, work)),
  },
  import: {
    busy: 'import',
    run: async (world) => {
      const { importChannel, durationMs } = world;
      const isFirst = world.imports === 0;
      world.imports += 1;
      const rows = isFirst && durationMs >= longRunMs ? importRows.first : importRows.others;
      let done = `${rows} rows in one statement`;
      await change(world, async (client) => await writeMany(client, importChannel, rows)).catch(
        (/** @type {unknown} */ error) => {
          done = `rolled back: ${error instanceof Error ? error.message : String(error)}`;
        },
      );
      return done;
    },
  },
  retention: {
    busy: 'host',
    run: async (world) => {
      let deleted = 0;
      for (let rows = 5_000, batch = 0; rows === 5_000 && batch < retentionBatches; batch += 1) {
        await change(world, async (client) => {
          /** @type {pg.QueryResult<{ rows: string | null }>} */
          const answer = await client.query(
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

import pg from 'pg';
import { triggerProblem } from '../../host/host-triggers.js';
import { askJson, installFix, type Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

/** What the checks of the event log read in it. */
export interface LogFacts {
  readonly bytes: number;
  /** As the statistics estimate it. */
  readonly rows: number;
  /** Of the oldest row, in seconds; null where there is none. */
  readonly ageSeconds: number | null;
  /** Since old rows were looked for, in seconds; null where they never were. */
  readonly prunedSecondsAgo: number | null;
  readonly isOfThisCluster: boolean;
  /** The owner of the functions that log requests, and the tables that it may not read. */
  readonly functionOwner: string | null;
  readonly unreadable: readonly string[];
}

/** Needs SELECT on flagcast.event_log and flagcast.log_state, as the reader does. */
export async function readLogFacts(client: pg.ClientBase): Promise<LogFacts> {
  return await askJson<LogFacts>(
    client,
    `SELECT json_build_object(
      'bytes', pg_total_relation_size(c.oid),
      'rows', greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint,
      'ageSeconds', (
        SELECT extract(epoch FROM clock_timestamp() - l.logged_at)
        FROM flagcast.event_log l ORDER BY l.xid, l.seq LIMIT 1
      ),
      'prunedSecondsAgo', (SELECT extract(epoch FROM clock_timestamp() - s.pruned_at) FROM flagcast.log_state s),
      'isOfThisCluster', EXISTS (
        SELECT FROM flagcast.log_state s, pg_control_system() p
        WHERE s.system_identifier = p.system_identifier::text
      ),
      'functionOwner', owner.name,
      'unreadable', (
        SELECT coalesce(json_agg(t.relname ORDER BY t.relname), '[]')
        FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE n.nspname = 'public' AND t.relname IN ('pending_changes', 'pending_change_entities')
          AND NOT has_table_privilege(owner.name, t.oid, 'SELECT')
      )
    )::text
    FROM pg_class c
    LEFT JOIN LATERAL (
      SELECT pg_get_userbyid(p.proowner) AS name FROM pg_proc p
      WHERE p.pronamespace = c.relnamespace AND p.proname = 'log_request' LIMIT 1
    ) owner ON true
    WHERE c.oid = 'flagcast.event_log'::regclass`,
  );
}

/** Whether each change is logged. */
export function checkLog(facts: Facts, { isOfThisCluster, functionOwner, unreadable }: LogFacts): Finding[] {
  const id = 'log';
  const findings: Finding[] = [];
  if (!isOfThisCluster) {
    findings.push({
      id,
      level: facts.replica ? 'error' : 'warning',
      message:
        'the event log was written in another cluster (restored from a dump, upgraded or replicated): its transaction ids mean nothing here',
      consequence: facts.replica
        ? 'flagcast serve does not read it'
        : 'the first server that reads it starts a new log: no client resumes, each takes a new snapshot',
      fix: facts.replica
        ? advice('let a server read the primary once, which starts a new log')
        : sql('SELECT flagcast.adopt_event_log(); -- or start a server'),
    });
  }
  if (facts.eventSource?.hasHostTriggers !== true) {
    findings.push(ok(id, 'the host writes the event log with flagcast.record_event'));
    return findings;
  }
  if (functionOwner !== null && unreadable.length > 0) {
    const tables = unreadable.map((table) => `public.${table}`).join(', ');
    findings.push({
      id,
      level: 'error',
      message: `role ${functionOwner}, which owns the trigger functions, may not read ${tables}`,
      consequence: 'the steps of requests are not logged, so they are never delivered',
      fix: sql(`GRANT SELECT ON ${tables} TO ${pg.escapeIdentifier(functionOwner)};`),
    });
  }
  const problem = triggerProblem(facts.state.triggers);
  if (problem === null && findings.length > 0) return findings;
  if (problem === null) {
    findings.push(ok(id, 'the triggers that write the event log are in place and enabled'));
    return findings;
  }
  const isColumn = problem.includes('has no column');
  findings.push({
    id,
    level: 'error',
    message: problem,
    consequence: isColumn
      ? 'events are logged without what was in that column; the server counts as stale'
      : 'changes are not logged, so they are never delivered; the server is stale',
    fix: isColumn ? advice('add the column again, or a generated column of that name') : installFix(facts),
  });
  return findings;
}

const secondsPerDay = 86_400;

/** How large the event log is, and how fast it grows. */
export function checkLogSize({ bytes, rows, ageSeconds }: LogFacts): Finding {
  const size = `the event log takes ${formatBytes(bytes)} with about ${rows} rows`;
  if (ageSeconds === null) return ok('log-size', 'the event log is empty');
  const age = `the oldest is ${formatAge(ageSeconds)} old`;
  if (ageSeconds < 3_600) return ok('log-size', `${size}, ${age}`);
  const perDay = Math.round((rows / ageSeconds) * secondsPerDay);
  const bytesPerDay = (bytes / ageSeconds) * secondsPerDay;
  return ok('log-size', `${size}, ${age}: about ${perDay} rows, ${formatBytes(bytesPerDay)} a day`);
}

/** After this time without a look for old rows no server does it, in seconds. A server looks every minute. */
const pruneOverdueSeconds = 3_600;

/** Whether a server deletes old rows. */
export function checkRetention({ ageSeconds, prunedSecondsAgo }: LogFacts): Finding {
  const id = 'retention';
  const isOverdue =
    (prunedSecondsAgo ?? Infinity) > pruneOverdueSeconds && (ageSeconds ?? 0) > pruneOverdueSeconds;
  if (!isOverdue) {
    return ok(
      id,
      prunedSecondsAgo === null
        ? 'no server has looked for old rows of the event log yet'
        : `a server looked for old rows of the event log ${formatAge(prunedSecondsAgo)} ago`,
    );
  }
  return {
    id,
    level: 'warning',
    message:
      prunedSecondsAgo === null
        ? 'no server has ever looked for old rows of the event log'
        : `no server has looked for old rows of the event log for ${formatAge(prunedSecondsAgo)}`,
    consequence: 'the event log grows without end',
    fix: advice(
      'run a server that reads the primary with a role that may execute flagcast.prune_event_log (flagcast install --role grants it)',
    ),
  };
}

/** What logging costs the host. */
export function checkWriteCost({ eventSource }: Facts): Finding {
  const source =
    eventSource?.hasHostTriggers === true ? 'each logged change' : 'each call of flagcast.record_event';
  return ok(
    'write-cost',
    `${source} inserts one row with two index entries in the host's own transaction; npm run bench -- host-cost measures what that costs`,
  );
}

/** Whether the feature of a rule or schedule can be looked up by an index. */
export async function checkIndexes(client: pg.ClientBase): Promise<Finding[]> {
  const id = 'index';
  const isMissing = await askJson<boolean | null>(
    client,
    `SELECT to_json(CASE WHEN to_regclass('public.audit_log') IS NOT NULL THEN EXISTS (
       SELECT FROM pg_attribute a
       JOIN pg_class t ON t.oid = a.attrelid AND t.relname = 'audit_log'
       JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
       WHERE a.attname = 'entity_id' AND NOT a.attisdropped
         AND NOT EXISTS (
           SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
           WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum
             AND m.amname = 'btree'
         )
     ) END)::text`,
  );
  if (isMissing === null) return [];
  if (!isMissing) return [ok(id, 'the index that finds the feature of a request exists')];
  return [
    {
      id,
      level: 'note',
      message: 'there is no index on public.audit_log (entity_id)',
      consequence:
        'a request for a rule or schedule that does not name its feature is shown without one, and snapshots with such requests take longer',
      fix: sql('CREATE INDEX CONCURRENTLY ON public.audit_log (entity_id);'),
    },
  ];
}

function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit] ?? ''}`;
}

function formatAge(seconds: number): string {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * secondsPerDay) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / secondsPerDay)} days`;
}

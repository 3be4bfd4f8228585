import type pg from 'pg';
import { parseUserClaim } from '../../auth/user-claim.js';
import { isoUtcSeconds } from '../../host/sql-expressions.js';
import { errorCode } from '../../postgres/errors.js';
import { defaultDatabaseConnections } from '../../postgres/database-sessions.js';
import type { Session } from '../../postgres/session.js';
import { defaultLogRetentionMs } from '../../operations/log-retention.js';
import { type EventSource, EventSourceError, findEventSource } from '../../reader/event-source.js';
import { defaultOverlapMs } from '../../reader/overlap.js';
import { readGrants, type GrantState } from '../grants.js';
import { readInstallState, type InstallState } from '../install-state.js';

/** `error`: `flagcast serve` does not work or events are lost. `warning`: it works worse than it could. */
export type Severity = 'ok' | 'note' | 'warning' | 'error';

/** How to resolve a finding: by SQL, by a command for a shell in which DATABASE_URL is set, or manually (`advice`). */
export interface Fix {
  readonly kind: 'sql' | 'command' | 'advice';
  readonly text: string;
}

/** The result of one check. The texts are one line each and contain no password. */
export interface Finding {
  /** Stable, e.g. `listen`. Several findings may have the same id. */
  readonly id: string;
  readonly severity: Severity;
  readonly message: string;
  /** What it means for users of Flagcast; null for `ok`. */
  readonly consequence: string | null;
  readonly fix: Fix | null;
}

/** A finding of a check, whose id is the key in the table of checks. */
export type Result = Omit<Finding, 'id'>;

/** Without a result the check does not apply to this database. */
type Check = (facts: Facts) => Result | readonly Result[] | Promise<Result | readonly Result[]>;

/** Checks by the id of their findings. */
export type Checks = Readonly<Record<string, Check>>;

export const ok = (message: string): Result => ({ severity: 'ok', message, consequence: null, fix: null });

const problem =
  (severity: Severity) =>
  (message: string, consequence: string, fix: Fix | null): Result => ({
    severity,
    message,
    consequence,
    fix,
  });
export const note = problem('note');
export const warning = problem('warning');
export const error = problem('error');

export const sql = (text: string): Fix => ({ kind: 'sql', text });
export const command = (text: string): Fix => ({ kind: 'command', text });
export const advice = (text: string): Fix => ({ kind: 'advice', text });

/** The settings of `flagcast serve` that findings depend on, and those of doctor, with their defaults. */
export const defaultSettings = {
  /** FLAGCAST_VIEW. */
  view: null as string | null,
  /** How far `flagcast serve` looks back without an event log, in milliseconds. */
  overlapMs: defaultOverlapMs,
  /** FLAGCAST_AUTHORIZE_SQL. Null: Togglr's tables decide about access. */
  authorizeSql: null as string | null,
  /** FLAGCAST_WRITES. */
  writes: false,
  /** FLAGCAST_JWT_USER_CLAIM. */
  userClaim: null as string | null,
  /** FLAGCAST_LOG_RETENTION, in milliseconds. */
  logRetentionMs: defaultLogRetentionMs,
  /** FLAGCAST_DB_CONNECTIONS. */
  databaseConnections: defaultDatabaseConnections,
  /** FLAGCAST_LISTEN_URL. Null: the database's URL. */
  listenUrl: null as string | null,
  /** Whether to open two more connections and test LISTEN. */
  listen: true,
  /** Transactions that have been open for so long are reported, in milliseconds. */
  oldTransactionMs: 60_000,
  /** The time-out of each query, in milliseconds. */
  queryTimeoutMs: 10_000,
  /** This machine's clock, in milliseconds since the epoch. */
  now: Date.now,
};

export type Settings = Readonly<typeof defaultSettings> & { readonly databaseUrl: string };

interface ServerFacts {
  readonly versionText: string;
  readonly superuser: boolean;
  readonly replica: boolean;
  readonly encoding: string;
  /** The number of subscriptions of logical replication in this database. */
  readonly subscriptions: number;
  readonly tracksCommitTimes: boolean;
  readonly maxPreparedTransactions: number;
  /** The setting flagcast.notify of a new session of this role; empty if it is unset. */
  readonly notify: string;
}

/** What the checks read. */
export interface Facts
  extends Settings, ServerFacts, Pick<InstallState, 'serverVersion' | 'database' | 'role'> {
  readonly client: Session;
  readonly state: InstallState;
  readonly grants: readonly GrantState[];
  /** What `flagcast serve` would read events from; null: nothing, because of `noEventSource` or a lock. */
  readonly eventSource: EventSource | null;
  readonly noEventSource: string;
  /** Whether a locked table hides the event source. */
  readonly isLocked: boolean;
  /** Null if the server does not read the event log. */
  readonly log: Promise<LogFacts> | null;
}

/** Runs a query whose one column is JSON text: a session returns every other type as PostgreSQL's text. */
export async function queryJson<Answer>(client: pg.ClientBase, text: string): Promise<Answer> {
  const { rows } = await client.query<[string]>({ text, rowMode: 'array' });
  return JSON.parse(rows[0]?.[0] ?? 'null') as Answer;
}

/** Reads the catalogue, settings and, later, the event log. */
export async function readFacts(client: Session, settings: Settings): Promise<Facts> {
  const server = await queryJson<ServerFacts>(
    client,
    `SELECT json_build_object(
      'versionText', current_setting('server_version'),
      'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
      'replica', pg_is_in_recovery(),
      'encoding', current_setting('server_encoding'),
      'subscriptions', (SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()),
      'tracksCommitTimes', current_setting('track_commit_timestamp')::boolean,
      'maxPreparedTransactions', current_setting('max_prepared_transactions')::int,
      'notify', lower(coalesce(current_setting('flagcast.notify', true), ''))
    )::text`,
  );
  const { view, userClaim, writes } = settings;
  const state = await readInstallState(client);
  const { serverVersion, database, role } = state;
  const source = await describeEventSource(client, view);
  const byEmail = userClaim !== null && parseUserClaim(userClaim).column === 'email';
  const grants = await readGrants(client, { database, role, ownTables: state.ownTables, byEmail, writes });
  const log =
    source.eventSource?.reason === 'event_log' ? readLogFacts(client, settings.logRetentionMs) : null;
  // Each check that awaits it reports its failure.
  log?.catch(() => undefined);
  return { ...settings, ...server, serverVersion, database, role, ...source, client, state, grants, log };
}

async function describeEventSource(
  client: pg.ClientBase,
  view: string | null,
): Promise<Pick<Facts, 'eventSource' | 'noEventSource' | 'isLocked'>> {
  try {
    return { eventSource: await findEventSource(client, view), noEventSource: '', isLocked: false };
  } catch (failure) {
    if (failure instanceof EventSourceError) {
      return { eventSource: null, noEventSource: failure.message, isLocked: false };
    }
    // lock_not_available
    if (errorCode(failure) !== '55P03') throw failure;
    return { eventSource: null, noEventSource: '', isLocked: true };
  }
}

/** What the checks of the event log read. */
interface LogFacts {
  /** For people, e.g. `96 kB`. */
  readonly size: string;
  /** Estimated by the statistics. */
  readonly rows: number;
  /** When the oldest row was logged; null for an empty log. */
  readonly oldest: string | null;
  /** Its growth in a day, and the size of what retention keeps; null if the oldest row is younger than an hour. */
  readonly growth: { readonly rows: number; readonly size: string; readonly kept: string } | null;
  /** When a server last looked for old rows; null if it never happened. */
  readonly prunedAt: string | null;
  /** Whether no server looked for old rows for an hour, and the log has some. A server looks every minute. */
  readonly isPruneOverdue: boolean;
  readonly isOfThisCluster: boolean;
  /** The owner of the functions that log requests, and the tables that it may not read. */
  readonly functionOwner: string | null;
  readonly unreadable: readonly string[];
}

/** Needs SELECT on flagcast.event_log and flagcast.log_state, as the reader does. */
async function readLogFacts(client: pg.ClientBase, retentionMs: number): Promise<LogFacts> {
  return await queryJson<LogFacts>(
    client,
    `SELECT json_build_object(
      'size', pg_size_pretty(bytes),
      'rows', rows,
      'oldest', ${isoUtcSeconds('oldest.logged_at')},
      'growth', CASE WHEN oldest.age >= interval '1 hour' THEN (
        SELECT json_build_object(
          'rows', round(rows / days), 'size', pg_size_pretty(round(bytes / days)),
          'kept', pg_size_pretty(round(bytes / days * ${retentionMs / 86_400_000}))
        )
        FROM (SELECT (extract(epoch FROM oldest.age) / 86400)::numeric AS days) AS age
      ) END,
      'prunedAt', (SELECT ${isoUtcSeconds('s.pruned_at')} FROM flagcast.log_state s),
      'isPruneOverdue', oldest.age > interval '1 hour' AND NOT EXISTS (
        SELECT FROM flagcast.log_state s WHERE s.pruned_at > now() - interval '1 hour'
      ),
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
    CROSS JOIN LATERAL (
      SELECT pg_total_relation_size(c.oid)::numeric AS bytes,
        greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint AS rows
    ) AS total
    LEFT JOIN LATERAL (SELECT l.logged_at, now() - l.logged_at AS age FROM flagcast.event_log l ORDER BY l.xid, l.seq LIMIT 1) oldest ON true
    LEFT JOIN LATERAL (
      SELECT pg_get_userbyid(p.proowner) AS name FROM pg_proc p
      WHERE p.pronamespace = c.relnamespace AND p.proname = 'log_request' LIMIT 1
    ) owner ON true
    WHERE c.oid = 'flagcast.event_log'::regclass`,
  );
}

import type { QueryArrayConfig } from 'pg';
import { maxLevels, tooDeep } from '../deep-json.js';
import { type FlagEvent, hashOf } from '../events/event.js';
import type { EventView } from './event-view.js';
import type { SnapshotPosition } from './watermark.js';

/** Microseconds in UTC, whatever the session's time zone and date style are. */
export const isoUtc = (expression: string): string =>
  `to_char(${expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/**
 * Plans are made once: planning the view costs more than running it. With a generic plan the
 * planner knows no bounds; the second bound on created_at in the read makes it a range of
 * unknown ends, which it takes to be 0.5 % of the table (DEFAULT_RANGE_INEQ_SEL), so that it
 * chooses the index on created_at however the table has grown. JIT would cost more than the read.
 */
export const sessionSettings = `SET plan_cache_mode = force_generic_plan; SET jit = off`;

const historyColumns = `
  (SELECT system_identifier::text || '/' || oid::text
    FROM pg_control_system(), pg_database WHERE datname = current_database()),
  (SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END)`;

/** Which history this database has: another cluster or timeline has other transaction ids. */
export const historyStatement = `SELECT ${historyColumns}`;

export const positionColumns = `
  pg_snapshot_xmin(pg_current_snapshot())::text,
  pg_snapshot_xmax(pg_current_snapshot())::text,
  CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::text END,
  CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_flush_lsn() - '0/0')::text END`;

/** Only where the history stands now. */
export const positionStatement = `SELECT ${positionColumns}`;

export function toPosition(row: readonly (string | null)[]): SnapshotPosition {
  const [xmin = null, xmax = null, insertLsn = null, flushLsn = null] = row;
  return {
    xmin: BigInt(xmin ?? 0),
    xmax: BigInt(xmax ?? 0),
    insertLsn: insertLsn === null ? null : BigInt(insertLsn),
    flushLsn: flushLsn === null ? null : BigInt(flushLsn),
  };
}

/**
 * The floor for the reads that follow: no row that can still appear has an older created_at.
 * created_at is the start of a transaction, so the floor is the smaller of the clock and the
 * start of the oldest open transaction, less an allowance, because a session takes its start time
 * a moment before it shows it. A prepared transaction shows only when it was prepared: the
 * look-back before that. Where this role may not see other sessions, or they are on another server
 * (a replica), the look-back alone. Autovacuum and replication senders write no rows.
 *
 * A replica may be hours behind: what it has yet to replay was committed after what it replayed last or,
 * while it has replayed nothing since it was started, after the checkpoint that it was started from.
 *
 * The created_at of somebody else's view may not be the start of a transaction: there the floor is never
 * later than the overlap before the clock. Without transaction ids that takes the place of the look-back, and
 * nothing is looked at that is younger than the newest event less the overlap.
 *
 * $1 allowance, $2 look-back or null, $3 overlap or null, all in milliseconds; $4 the newest event's created_at, or
 * null. Answers the floor, whether sessions were visible, and the age of the oldest open transaction in
 * milliseconds.
 */
export const floorStatement = `
WITH observed AS MATERIALIZED (
  SELECT
    CASE WHEN pg_is_in_recovery() THEN least(
      clock_timestamp(),
      coalesce(pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint()))
    ) ELSE clock_timestamp() END AS clock,
    $1::float8 * interval '1 millisecond' AS allowance,
    $2::float8 * interval '1 millisecond' AS look_back,
    $3::float8 * interval '1 millisecond' AS overlap,
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
      AND current_setting('track_activities')::boolean
      AND NOT pg_is_in_recovery() AS visible
), oldest AS MATERIALIZED (
  SELECT
    (SELECT min(xact_start) FROM pg_stat_activity
      WHERE datname = current_database()
        AND backend_type NOT IN ('autovacuum worker', 'walsender')) AS started,
    (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()) AS prepared
)
SELECT
  ${isoUtc(`least(
    CASE WHEN visible OR look_back IS NOT NULL THEN
      least(
        clock,
        started,
        prepared - coalesce(look_back, interval '0'),
        CASE WHEN NOT visible THEN clock - look_back END
      ) - allowance
    END,
    least(clock, $4::timestamptz) - overlap
  )`)},
  visible::text,
  round(extract(epoch FROM clock - least(clock, started, prepared)) * 1000)::bigint::text
FROM observed, oldest
`;

/** The columns of an event, as `toEvent` takes them, of the view's rows `v`. */
export function eventColumns({ hasState }: Pick<EventView, 'hasState'>): string {
  return `
  v.source, v.event_id, v.project_id::text, v.environment_id::text, v.environment_key,
  v.entity, v.entity_id::text, v.action, ${isoUtc('v.created_at')},
  v.xid::text, v.feature_id::text, v.pending_change_id::text, v.actor,
  CASE WHEN current_setting('track_commit_timestamp')::boolean
    THEN ${isoUtc('pg_xact_commit_timestamp(nullif(v.xid & 4294967295, 0)::text::xid)')} END,
  ${hasState ? featureState('v.feature_id', 'v.environment_id') : 'NULL'}`;
}

/** A feature with its parameters in one environment, as the JSON text of the protocol's FeatureState. */
export function featureState(featureId: string, environmentId: string): string {
  return `(
    SELECT ${featureJson}::text
    FROM public.features f
    LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = ${environmentId}
    WHERE f.id = ${featureId}
  )`;
}

/** Of a row of features `f` and its parameters `p`. */
export const featureJson = `json_build_object(
      'id', f.id, 'key', f.key, 'name', f.name, 'description', f.description, 'kind', f.kind,
      'rollout_key', f.rollout_key, 'enabled', coalesce(p.enabled, false),
      'default_value', coalesce(p.default_value, ''),
      'created_at', ${isoUtc('f.created_at')},
      'updated_at', ${isoUtc('greatest(f.updated_at, p.updated_at)')},
      'version', concat_ws('.', f.xmin, p.xmin))`;

/**
 * By created_at, and within one (mostly one transaction) a request before its decision, then in the order
 * of their ids: by length, then by text, which for numbers is their order.
 */
export const eventOrder = `v.created_at, (v.source = 'pending' AND v.action <> 'pending'), v.xid, v.source,
  length(v.event_id), v.event_id, v.action, v.entity, v.entity_id`;

/**
 * The rows of the view that somebody at a position has not been given: $1 watermark, $2 floor,
 * $3 the transactions from the watermark on that were delivered already. Without transaction ids
 * those that are younger than the floor, among which the caller tells new from old; $1 and $3 are
 * named all the same, because PostgreSQL wants a type for each parameter.
 *
 * The floor holds for times that are the start of a transaction. The time of a decision is not one:
 * hosts write it by the clock of another machine, or not at all. In each branch of our view the
 * condition folds to what concerns it.
 */
export function unseenRows({ relation, guarantee }: EventView): string {
  if (guarantee === 'overlap') {
    return `SELECT v.* FROM ${relation} v
  WHERE v.created_at > $2::timestamptz AND v.created_at <= 'infinity'::timestamptz
    AND $1::bigint IS NOT NULL AND $3::bigint[] IS NOT NULL`;
  }
  return `SELECT v.* FROM ${relation} v
  WHERE v.xid >= $1::bigint
    AND (
      (v.source = 'pending' AND v.action <> 'pending')
      OR (v.created_at > $2::timestamptz AND v.created_at <= 'infinity'::timestamptz)
    )
    AND NOT EXISTS (SELECT FROM unnest($3::bigint[]) AS seen (xid) WHERE seen.xid = v.xid)`;
}

/**
 * One read: one statement, hence one snapshot. Parameters as for `unseenRows`. Always answers at least
 * one row, which tells the snapshot's own position; event columns are null where there is no event.
 * With `tellsHistory` the last two columns are those of `historyStatement`.
 */
export function readStatement(view: EventView, tellsHistory = false): QueryArrayConfig {
  return {
    rowMode: 'array',
    text: `
SELECT ${positionColumns}, ${eventColumns(view)}${tellsHistory ? `, ${historyColumns}` : ''}
FROM (SELECT 1) AS always
LEFT JOIN (${unseenRows(view)}) v ON true
ORDER BY ${eventOrder}
`,
  };
}

/** How many columns stand before the event's. */
const eventOffset = 4;

/** The event in a row of a read, or null when the row only carries the position. */
export function toEvent(row: readonly (string | null)[], view: EventView): FlagEvent | null {
  const column = (index: number): string | null => row[eventOffset + index] ?? null;
  const text = (index: number): string => column(index) ?? '';
  const xid = column(9);
  // A row that only carries the position has neither.
  if (xid === null && (view.guarantee === 'exact' || column(8) === null)) return null;
  const names = {
    source: text(0),
    eventId: text(1),
    projectId: text(2),
    environmentId: text(3),
    environmentKey: text(4),
    entity: text(5),
    entityId: text(6),
    action: text(7),
    createdAt: text(8),
  };
  const occurrence = occurrenceOf(names, xid, view);
  return {
    ...names,
    occurrence,
    mark: xid === null ? hashOf({ ...names, occurrence }) : BigInt(xid),
    featureId: column(10),
    pendingChangeId: column(11),
    actor: column(12),
    committedAt: column(13),
    featureJson: view.hasState ? column(14) : undefined,
  };
}

/** Our own definition gives each event a name of its own; a view of somebody else may give one to many. */
function occurrenceOf(
  { projectId, environmentId, createdAt }: Pick<FlagEvent, 'projectId' | 'environmentId' | 'createdAt'>,
  xid: string | null,
  view: EventView,
): string {
  if (view.isOwnDefinition) return '';
  return JSON.stringify([projectId, environmentId, xid ?? createdAt]);
}

/** As `shownJson` has it in the other answers. */
const shownChange = `CASE WHEN c.change::jsonb @? 'strict $.**{${maxLevels + 1}}' THEN to_jsonb('${tooDeep}'::text) ELSE c.change::jsonb END`;

/**
 * The features and the open requests of a channel, each as JSON text: $1 the project, $2 the
 * environment's number.
 */
export function channelStatement({
  relation,
  isOwnDefinition,
}: Pick<EventView, 'relation' | 'isOwnDefinition'>): string {
  // The ids of a view of somebody else may be text.
  const isOfChange = isOwnDefinition
    ? 'v.pending_change_id = c.id'
    : 'v.pending_change_id::text = c.id::text';
  return `
SELECT
  (
    SELECT coalesce(json_agg(${featureJson} ORDER BY f.key, f.id), '[]')::text
    FROM public.features f
    LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2::bigint
    WHERE f.project_id = $1::uuid
  ) AS features,
  (
    SELECT coalesce(json_agg(json_build_object(
      'id', c.id, 'requested_by', c.requested_by, 'created_at', ${isoUtc('c.created_at')},
      'reason', c.change #>> '{meta,reason}', 'change', ${shownChange},
      'entities', (
        SELECT coalesce(json_agg(json_build_object(
          'entity', v.entity, 'entity_id', v.entity_id, 'feature_id', v.feature_id)), '[]')
        FROM ${relation} v
        WHERE ${isOfChange} AND v.action = 'pending'
      )) ORDER BY c.created_at, c.id), '[]')::text
    FROM public.pending_changes c
    WHERE c.status = 'pending' AND c.project_id = $1::uuid AND c.environment_id = $2::bigint
  ) AS pending_changes`;
}

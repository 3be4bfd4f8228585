import { isUtf8 } from 'node:buffer';
import { type ListColumns, withScheduleState } from '../host/feature-lists.js';
import { asBigint, asUuid, featureState } from '../host/feature-state.js';
import { isLargeRequest, pendingChangeState } from '../host/pending-change.js';
import { hasPoliciesExpression } from '../host/host-schema.js';
import { isoUtcInRange } from '../host/sql-expressions.js';
import type { ControlEntry, FlagEvent } from '../events/event.js';
import { positionColumns, type SnapshotPosition } from './snapshot-position.js';

/**
 * Plans are made once. A plan that was made while the log was small must still be right when it is large, so only
 * the index remains: scans in the order of the primary key, which stop at the limit. JIT would cost more than
 * the read.
 */
export const plannerSettings = `SET plan_cache_mode = force_generic_plan; SET jit = off;
SET enable_seqscan = off; SET enable_bitmapscan = off`;

const historyColumns = `
  (SELECT system_identifier::text || '/' || oid::text
    FROM pg_control_system(), pg_database WHERE datname = current_database()),
  (SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END)`;

/** Identifies the history: another cluster or timeline has other transaction ids. */
export const historyStatement = `SELECT ${historyColumns}`;

/** A read returns at most this many rows of new transactions, and as many of a large one that it continues. */
export const pageRows = 500;

/** A state of a feature or request with more bytes is not sent: a page stays below 64 MiB. */
const maxStateBytes = 65_536;
/** Texts are cut after so many characters. Ids may be longer: a client's message is never as long as 16,384. */
const [maxTextLength, maxIdLength] = [1_000, 16_384];
const tooLarge = '!';
/** The state of a feature or request that an earlier row of the same result has. */
const sameState = '=';
/** The state of a feature or request that only the mode `full` reads. */
const unreadState = '?';

const limited = (state: string): string => `(
    SELECT CASE WHEN octet_length(s.state) > ${maxStateBytes} THEN '${tooLarge}' ELSE s.state END
    FROM (SELECT ${state} AS state OFFSET 0) s
  )`;

/** SQL for whether an earlier row in this order has the same entity in the same channel. */
const isRepeated = (row: string, id: string, order: string): string => {
  const same = ['source', 'project_id', 'environment_id', id].map((column) => `${row}.${column}`);
  return `row_number() OVER (PARTITION BY ${same.join(', ')} ORDER BY ${order}) > 1`;
};

interface FeatureColumn {
  readonly columns: ListColumns;
  /** The first row in this order has the state. */
  readonly order: string;
  /** Whether its size is limited. */
  readonly bounds?: boolean;
  /** Whether a feature with lists is `unreadState`. */
  readonly isShort?: boolean;
}

/** SQL for the feature of a row, for `States`. */
export const featureOfRow = (
  row: string,
  { columns, order, bounds = false, isShort = false }: FeatureColumn,
): string => {
  const scope = {
    projectId: asUuid(`${row}.project_id`),
    featureId: asUuid(`${row}.feature_id`),
    environmentId: asBigint(`${row}.environment_id`),
  };
  const state = featureState(columns, scope, isShort ? unreadState : undefined);
  return `CASE WHEN ${row}.source <> 'control' THEN CASE
    WHEN ${isRepeated(row, 'feature_id', order)} THEN '${sameState}' ELSE ${bounds ? limited(state) : state}
  END END`;
};

/**
 * SQL for the request of a row that is a step, for `States`. A step has a row for each entity of its request: the
 * first one in this order has the state. A request that was moved to another channel has steps in both.
 */
export const requestOfStep = (row: string, order: string): string => {
  const id = asUuid(`${row}.pending_change_id`);
  const [projectId, environmentId] = [asUuid(`${row}.project_id`), asBigint(`${row}.environment_id`)];
  return `CASE WHEN ${row}.source = 'pending' THEN CASE
    WHEN ${isRepeated(row, 'pending_change_id', order)} THEN '${sameState}'
    WHEN ${isLargeRequest(id, maxStateBytes)} THEN '${tooLarge}'
    ELSE ${limited(pendingChangeState(id, projectId, environmentId))}
  END END`;
};

/** The states of the features or of the requests in the rows of one result, as their columns return them. */
class States {
  readonly #states = new Map<string, string | null>();

  /** The state of a row. `isUnreadable`: it is too large. */
  of(
    { source, projectId, environmentId }: Pick<FlagEvent, 'source' | 'projectId' | 'environmentId'>,
    id: string | null,
    column: string | null,
  ): { json: string | null; isUnreadable: boolean } {
    // The lengths say where each of them ends.
    const lengths = `${source.length} ${projectId.length} ${environmentId.length} ${id?.length ?? ''}`;
    const key = `${lengths} ${source}${projectId}${environmentId}${id ?? ''}`;
    if (column !== sameState) this.#states.set(key, column === null ? null : withScheduleState(column));
    const json = this.#states.get(key) ?? null;
    return { json, isUnreadable: json === tooLarge };
  }
}

/**
 * - `full`: with the states of features and requests
 * - `short`: like `full`, if no row is a step and no feature has lists; else `isIncomplete`
 * - `safe`: reads no states, and texts as bytes, of which `decoded` escapes those that cannot be decoded
 */
export type ReadMode = 'full' | 'short' | 'safe';

/** What the statements depend on. */
export interface LogFeatures {
  /** Whether the features can be read. */
  readonly hasState: boolean;
  /** What can be read of their lists. */
  readonly lists: ListColumns;
  /** Whether public.environments has the keys of environments. */
  readonly hasEnvironments: boolean;
}

/** The columns of a row of the log `l`, after those of the position. */
function eventColumns({ hasState, lists, hasEnvironments }: LogFeatures, mode: ReadMode): string {
  // In a database with SQL_ASCII or an incomplete encoding, a text can contain bytes without an equivalent in UTF-8.
  const text = (column: string, most = maxTextLength): string => {
    const cut = `left(${column}, ${most})`;
    return mode === 'safe' ? `encode(convert_to(${cut}, 'SQL_ASCII'), 'hex')` : cut;
  };
  const id = (column: string): string => text(column, maxIdLength);
  const key = hasEnvironments
    ? `coalesce(l.environment_key, (
      SELECT e.key::text FROM public.environments e WHERE e.id = ${asBigint('l.environment_id')}
    ), l.environment_id)`
    : 'coalesce(l.environment_key, l.environment_id)';
  const hasStates = hasState && mode !== 'safe';
  const isShort = mode === 'short';
  const request = isShort
    ? `CASE WHEN l.source = 'pending' THEN '${unreadState}' END`
    : requestOfStep('l', 'l.seq');
  return `
  l.seq::text, l.xid::text, ${text('l.source')}, ${id('l.row_id')}, ${id('l.project_id')},
  ${id('l.environment_id')}, ${id(key)}, ${text('l.entity')}, ${id('l.entity_id')}, ${text('l.action')},
  -- Outside of these bounds a time cannot be written as RFC 3339.
  ${isoUtcInRange(`CASE WHEN l.created_at >= '0001-01-01' AND l.created_at < '10000-01-01' THEN l.created_at ELSE l.logged_at END`)},
  ${id('l.feature_id')}, ${id('l.pending_change_id')}, ${text('l.actor')},
  CASE WHEN current_setting('track_commit_timestamp')::boolean
    THEN ${isoUtcInRange('pg_xact_commit_timestamp(nullif(l.xid & 4294967295, 0)::text::xid)')} END,
  ${hasStates ? featureOfRow('l', { columns: lists, order: 'l.seq', bounds: true, isShort }) : 'NULL'},
  ${hasStates ? request : 'NULL'}`;
}

/** How many transactions have got an id that the snapshot does not know of. */
const unknownXids = 'age(pg_snapshot_xmax(pg_current_snapshot())::xid)::text';

/** The highest transaction of which rows have been deleted. */
const deletedXid = '(SELECT deleted_xid::text FROM flagcast.log_state)';

/** The columns of a read or search after those of the event. */
const stateColumns = (tellsHistory: boolean): string =>
  `${unknownXids}, ${deletedXid}${tellsHistory ? `, ${historyColumns}` : ''}`;

/**
 * One read: one statement, hence one snapshot. $1 and $2 are the ranges of transactions to read, $3 a transaction to
 * continue (null: none) after its row number $4. Returns at least one row, whose event columns are null where there
 * is no event. With `tellsHistory` the last two columns are those of `historyStatement`.
 *
 * A page holds the first rows in the order of transactions: the nested loop visits the ranges in their order, and
 * each range in the order of the primary key, so that it stops at the limit. Only the last transaction of a full
 * page can be incomplete. Within a page the order is that of the row numbers, which is the order in which the rows
 * were written.
 */
export function readStatement(
  features: LogFeatures,
  { limit, mode, tellsHistory }: { limit: number; mode: ReadMode; tellsHistory: boolean },
): string {
  return `
SELECT ${positionColumns}, ${eventColumns(features, mode)}, ${stateColumns(tellsHistory)}
FROM (SELECT 1) AS always
LEFT JOIN (
  (
    SELECT page.*
    FROM unnest($1::bigint[], $2::bigint[]) AS range (low, high)
    CROSS JOIN LATERAL (
      SELECT * FROM flagcast.event_log l WHERE l.xid BETWEEN range.low AND range.high
      ORDER BY l.xid, l.seq LIMIT ${limit}
    ) page
    LIMIT ${limit}
  )
  UNION ALL
  (
    SELECT * FROM flagcast.event_log l WHERE l.xid = $3::bigint AND l.seq > $4::bigint
    ORDER BY l.xid, l.seq LIMIT ${limit}
  )
) l ON true
ORDER BY l.seq`;
}

/**
 * Whether a read would find rows, for a third of the work of one: `hasRows`. If there are none, its row is that of a read,
 * and has the position of the same snapshot.
 */
export function searchStatement(tellsHistory: boolean): string {
  return `
SELECT ${positionColumns}, CASE WHEN EXISTS (
  SELECT FROM unnest($1::bigint[], $2::bigint[]) AS range (low, high)
  CROSS JOIN LATERAL (
    SELECT FROM flagcast.event_log l WHERE l.xid BETWEEN range.low AND range.high ORDER BY l.xid, l.seq LIMIT 1
  ) row
) THEN 'found' END${', NULL'.repeat(eventWidth - 1)}, ${stateColumns(tellsHistory)}`;
}

/** The rows of one range of transactions in one channel: $3 the project, $4 the environment. */
const channelRows = `l.environment_id = $4 AND l.xid BETWEEN range.low AND range.high AND l.project_id = $3
      AND l.source <> 'control'
    ORDER BY l.environment_id, l.xid`;

/** The steps of approvals in one range of transactions. */
const approvalRows = `l.source = 'pending' AND l.xid BETWEEN range.low AND range.high
    ORDER BY l.xid, l.seq`;

/**
 * The events of a channel or of the approvals feed that a client has not received: $1 and $2 are the ranges of
 * transactions. The last columns are the highest transaction of which retention has deleted rows, and whether policies
 * apply to this session.
 */
export function missedStatement(
  features: LogFeatures,
  { limit, of }: { limit: number; of: 'channel' | 'approvals' },
): string {
  return `
SELECT ${positionColumns}, ${eventColumns(features, 'full')}, ${deletedXid},
  ${hasPoliciesExpression}::text
FROM (SELECT 1) AS always
LEFT JOIN (
  SELECT page.*
  FROM unnest($1::bigint[], $2::bigint[]) AS range (low, high)
  CROSS JOIN LATERAL (
    SELECT * FROM flagcast.event_log l
    WHERE ${of === 'channel' ? channelRows : approvalRows} LIMIT ${limit}
  ) page
  LIMIT ${limit}
) l ON true
ORDER BY l.seq`;
}

/** The columns before the event's: the position. */
const eventOffset = 3;
const eventWidth = 17;

/** The column of `missedStatement` after the event's. */
export const deletedXidColumn = eventOffset + eventWidth;
/** The one after it. */
export const hasPoliciesColumn = deletedXidColumn + 1;

/**
 * Whether no transaction that has written was in flight at a read with this row: the snapshot lists none, and none has
 * begun to write since. On a replica, where snapshots list none, it is not known.
 */
export function isQuiet({ coverage }: SnapshotPosition, row: readonly (string | null)[]): boolean {
  const isListed = coverage.listed === 'open';
  return isListed && coverage.xids.length === 0 && row[eventOffset + eventWidth] === '0';
}

/** The highest transaction of which rows had been deleted at a read with this row. */
export function deletedXidOf(row: readonly (string | null)[]): bigint {
  return BigInt(row[eventOffset + eventWidth + 1] ?? 0);
}

/** A row of the log. */
export interface LogRow {
  readonly xid: bigint;
  readonly seq: bigint;
  /** Null for control entries. */
  readonly event: FlagEvent | null;
  readonly control: ControlEntry | null;
}

/** Whether a read in the mode `short` has found a state that only the mode `full` reads. */
export function isIncomplete(rows: readonly (readonly (string | null)[])[]): boolean {
  const [feature, request] = [eventOffset + eventWidth - 2, eventOffset + eventWidth - 1];
  return rows.some((row) => row[feature] === unreadState || row[request] === unreadState);
}

/** Whether a read or search has found rows. */
export function hasRows([first]: readonly (readonly (string | null)[])[]): boolean {
  return typeof first?.[eventOffset] === 'string';
}

/** The rows of the log in the rows of a read: none if these contain only the position. */
export function toLogRows(
  rows: readonly (readonly (string | null)[])[],
  features: LogFeatures,
  mode: ReadMode = 'full',
): LogRow[] {
  const toEvent = eventReader(features, mode);
  const found = rows.filter((row) => typeof row[eventOffset] === 'string');
  return found.map((row) => {
    const event = toEvent(row.slice(eventOffset));
    const { xid } = event;
    const isControl = event.source === 'control';
    return {
      xid,
      seq: BigInt(event.id),
      event: isControl ? null : event,
      control: isControl ? toControl(event) : null,
    };
  });
}

/** Reads the rows of one result in their order, each with the columns of `eventColumns`. */
export function eventReader(
  { hasState }: Pick<LogFeatures, 'hasState'>,
  mode: ReadMode = 'full',
): (row: readonly (string | null)[]) => FlagEvent {
  const states = { requests: new States(), features: new States() };
  return (row) => toEvent(row, { ...states, hasState, mode });
}

interface RowContext {
  readonly hasState: boolean;
  readonly mode: ReadMode;
  readonly requests: States;
  readonly features: States;
}

function toEvent(
  row: readonly (string | null)[],
  { hasState, mode, requests, features }: RowContext,
): FlagEvent {
  const column = (index: number): string | null => row[index] ?? null;
  const textOrNull = (index: number): string | null =>
    mode === 'safe' ? decoded(column(index)) : column(index);
  const text = (index: number): string => textOrNull(index) ?? '';
  const channel = { source: text(2), projectId: text(4), environmentId: text(5) };
  const isStep = channel.source === 'pending';
  const [featureId, pendingChangeId] = [textOrNull(11), textOrNull(12)];
  const feature = features.of(channel, featureId, column(15));
  const isUnreadable = hasState && (mode === 'safe' || feature.isUnreadable);
  const request = isStep ? requests.of(channel, pendingChangeId, column(16)) : null;
  const isRequestUnreadable = hasState && (mode === 'safe' || request?.isUnreadable === true);
  return {
    id: column(0) ?? '',
    xid: BigInt(column(1) ?? ''),
    ...channel,
    rowId: text(3),
    environmentKey: text(6),
    entity: text(7),
    entityId: text(8),
    action: text(9),
    createdAt: column(10) ?? '',
    featureId,
    pendingChangeId,
    actor: textOrNull(13),
    committedAt: column(14),
    featureJson: hasState && !isUnreadable ? feature.json : undefined,
    featureUnreadable: isUnreadable,
    pendingChangeJson: hasState && !isRequestUnreadable ? request?.json : undefined,
    pendingChangeUnreadable: isStep && isRequestUnreadable,
  };
}

/** The text of bytes in hexadecimal. If they are not UTF-8, those that are not ASCII are escaped as by PostgreSQL. */
function decoded(hex: string | null): string | null {
  if (hex === null) return null;
  const bytes = Buffer.from(hex, 'hex');
  if (isUtf8(bytes)) return bytes.toString('utf8');
  return bytes
    .toString('latin1')
    .replaceAll('\\', '\\\\')
    .replaceAll(/[\x80-\xff]/g, (byte) => `\\${byte.charCodeAt(0).toString(8)}`);
}

function toControl({ entity, action, projectId, environmentId, environmentKey }: FlagEvent): ControlEntry {
  if (entity === 'environment') {
    return action === 'renamed'
      ? { type: 'environment_renamed', projectId, environmentId, environmentKey }
      : { type: 'environment_deleted', projectId, environmentId };
  }
  if (entity === 'project') {
    return { type: action === 'archived' ? 'project_archived' : 'project_deleted', projectId };
  }
  return { type: 'rights_changed' };
}

import { requestEntities } from '../host/pending-change.js';
import {
  isTooLarge,
  requestedDiff,
  requestedEntity,
  shownJson,
  stateDiff,
  tooLarge,
  isoUtc,
} from '../host/sql-expressions.js';

/** The limits of a page: rows of audit_log, in all and without an index by time; steps of requests. */
export const maxScannedRows = 20_000;
const maxScannedWithoutIndex = 5_000;
const maxScannedSteps = 2_000;
/** The limits of what a page shows: entities of a step, bytes of JSON, characters of a reason. */
const maxShownEntities = 200;
const maxPageBytes = 1_048_576;
const maxReasonLength = 4_096;

/** RFC 3339 cannot express times outside of these. */
const firstTime = `'0001-01-01T00:00:00Z'::timestamptz`;
const lastTime = `'9999-12-31T00:00:00Z'::timestamptz`;

/** SQL for the times that a page covers: from `before` or `until` down to `since`. */
const inSearchedTime = (time: string): string => `${time} <= coalesce($4::timestamptz, ${lastTime})
    AND ${time} < coalesce($13::timestamptz, ${lastTime})
    AND ${time} >= coalesce($12::timestamptz, ${firstTime})`;

/** An index of audit_log with the rows in the order of created_at. */
export interface AuditIndex {
  readonly name: string;
  /** The columns before created_at. All rows that a search reads have the same values in them. */
  readonly channelColumns: readonly ('project_id' | 'environment_id')[];
}

/** SQL for the rows of audit_log that a page reads, with the parameters of `auditStatement`. */
export interface AuditScan {
  /** The rows, for FROM. */
  readonly rows: string;
  /** The time down to which all rows were read; null if none was left out. It can use `audit`, the entries of the page. */
  readonly end: string;
  /** `exclusive` leaves the rows of that time for the next page. */
  readonly endRank: 'exclusive' | 'inclusive';
}

const columns =
  'a.id, a.created_at, a.project_id, a.environment_id, a.entity, a.action, a.username, a.actor, a.feature_id';

const inChannel = ({ channelColumns }: AuditIndex): string =>
  channelColumns
    .map((column) => `a.${column} = ${column === 'project_id' ? '$1::uuid' : '$2::bigint'} AND `)
    .join('');

/**
 * The next rows in the order of the index, without sorting. The limit may cut the rows of one moment apart, so the
 * moment of the first unread row is left for the next page, unless the page was full before.
 */
export function scanByTime(index: AuditIndex): AuditScan {
  const inScan = `${inChannel(index)}${inSearchedTime('a.created_at')}`;
  return {
    rows: `(
    SELECT ${columns} FROM public.audit_log a WHERE ${inScan}
    ORDER BY a.created_at DESC LIMIT ${maxScannedRows}
  )`,
    end: `(
    SELECT a.created_at FROM public.audit_log a
    WHERE ${inScan}
      AND a.created_at >= coalesce((SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) END FROM audit), ${firstTime})
    ORDER BY a.created_at DESC OFFSET ${maxScannedRows} LIMIT 1
  )`,
    endRank: 'exclusive',
  };
}

/** All rows of the moment `before`: one transaction wrote more rows than a page reads. */
export function scanOneTime(index: AuditIndex): AuditScan {
  return {
    rows: `(SELECT ${columns} FROM public.audit_log a WHERE ${inChannel(index)}a.created_at = $4::timestamptz)`,
    end: '$4::timestamptz',
    endRank: 'inclusive',
  };
}

/** The rows of one feature, if there are at most `maxScannedRows`. */
export const scanFeature: AuditScan = {
  rows: `(
    SELECT ${columns} FROM public.audit_log a
    WHERE a.feature_id = $11::uuid AND ${inSearchedTime('a.created_at')} OFFSET 0
  )`,
  end: 'NULL::timestamptz',
  endRank: 'inclusive',
};

const newestRows = `SELECT ${columns} FROM public.audit_log a ORDER BY a.id DESC`;

/** The newest rows by id: without an index by time, finding older ones would read the whole table. */
export const scanNewest: AuditScan = {
  rows: `(
    SELECT * FROM (${newestRows} LIMIT ${maxScannedWithoutIndex}) a WHERE ${inSearchedTime('a.created_at')}
  )`,
  end: `(
    SELECT CASE WHEN count(*) > ${maxScannedWithoutIndex} THEN least(greatest(min(a.created_at), ${firstTime}), ${lastTime}) END
    FROM (${newestRows} LIMIT ${maxScannedWithoutIndex + 1}) a
  )`,
  endRank: 'inclusive',
};

export interface AuditRow {
  /** The page keys down to which the audit log and the steps of requests were read; null if to the end. */
  readonly audit_end: string | null;
  readonly step_end: string | null;
  /** The page key, the same for all entities of a step; null in the only row of an empty page. */
  readonly key: string | null;
  /** The rows before it already have as many bytes as a page may have. */
  readonly is_beyond: boolean;
  /** AuditEntry of `/api/openapi.json` as JSON; null for a row beyond, and for a request that names no entity. */
  readonly entry: string | null;
}

const auditAction = `CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
  ELSE a.action::text END`;
const auditUsername = `coalesce(nullif(a.username, ''), a.actor)::text`;

const pageKey = (row: string): string =>
  `concat_ws('_', ${isoUtc(`${row}.at`)}, ${row}.rank, ${row}.audit_id, ${row}.change_id)`;

/** Whether the step has a matching entity. A scalar subquery: a join would look up the features of all requests. */
const hasEntity = (changeId: string): string => `(($8::text IS NULL AND $11::uuid IS NULL) OR (
    SELECT true FROM ${requestEntities} v
    WHERE v.pending_change_id = ${changeId}
      AND ($8::text IS NULL OR v.entity = $8::text)
      AND ($11::uuid IS NULL OR v.feature_id = $11::uuid)
    LIMIT 1
  ))`;

const entryJson = `json_build_object(
    'id', format('%s:%s:%s:%s:%s', CASE WHEN p.rank = 0 THEN 'audit' ELSE 'pending' END,
      coalesce(p.audit_id::text, p.change_id::text), p.entity, p.entity_id, p.action),
    'source', CASE WHEN p.rank = 0 THEN 'audit' ELSE 'pending' END,
    'audit_id', p.audit_id::text, 'pending_change_id', p.change_id, 'created_at', p.created_at,
    'requested_at', p.requested_at, 'action', p.action, 'entity', p.entity, 'entity_id', p.entity_id,
    'feature_id', p.feature_id, 'feature_key', f.key, 'feature_name', f.name, 'username', p.username,
    'reason', p.reason, 'request_id', p.request_id, 'old_value', p.old_value, 'new_value', p.new_value,
    'truncated', p.truncated, 'diff', CASE WHEN p.truncated OR p.rank = 2 THEN '[]'
      WHEN p.rank = 0 THEN ${stateDiff('p.old_value', 'p.new_value')}
      ELSE ${requestedDiff('p.requested')} END)`;

/**
 * Reads both lists from new to old, each up to one page, and the steps of requests only as far as the scan of the audit
 * log came. No index has the times of decisions; but if the log fills the page, nothing older than its last entry is
 * needed, and only the steps on the page have their entities looked up.
 *
 * Within one moment, entries of the audit log come before steps, and a request before its decision, as in the events. A
 * decision without a recorded time follows its request.
 *
 * $1 project, $2 environment, $3 limit, $4 to $7 `before`: time, rank, audit id, request; $8 entity, $9 action, $10 user
 * name, $11 feature, $12 since, $13 until.
 */
// oxlint-disable-next-line max-lines-per-function -- one SQL statement
export const auditStatement = (scan: AuditScan): string => `
WITH audit AS MATERIALIZED (
  SELECT a.created_at AS at, 0 AS rank, a.id AS audit_id, NULL::uuid AS change_id, NULL::text AS action
  FROM ${scan.rows} a
  WHERE a.project_id = $1::uuid AND a.environment_id = $2::bigint
    AND ($4::timestamptz IS NULL OR a.created_at < $4::timestamptz OR $5::int > 0 OR a.id < $6::bigint)
    AND ($8::text IS NULL OR a.entity = $8::text)
    AND ($9::text IS NULL OR ${auditAction} = $9::text)
    AND ($10::text IS NULL OR ${auditUsername} = $10::text)
    AND ($11::uuid IS NULL OR a.feature_id = $11::uuid)
  ORDER BY a.created_at DESC, a.id DESC
  LIMIT $3::int
), scan_end AS MATERIALIZED (
  SELECT ${scan.end} AS at
), candidates AS MATERIALIZED (
  SELECT s.at, s.rank, NULL::bigint AS audit_id, s.change_id, s.action
  FROM (
    SELECT c.id AS change_id, c.project_id, c.environment_id, 1 AS rank, 'pending' AS action,
      c.created_at AS at, c.requested_by AS username
    FROM public.pending_changes c
    UNION ALL
    SELECT c.id, c.project_id, c.environment_id, 2, c.status::text,
      greatest(c.created_at, CASE c.status WHEN 'approved' THEN c.approved_at WHEN 'rejected' THEN c.rejected_at END),
      CASE c.status WHEN 'approved' THEN c.approved_by WHEN 'rejected' THEN c.rejected_by END
    FROM public.pending_changes c
    WHERE c.status <> 'pending'
  ) s
  WHERE s.project_id = $1::uuid AND s.environment_id = $2::bigint
    AND ${inSearchedTime('s.at')}
    AND s.at >= (SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) ELSE ${firstTime} END FROM audit)
    AND s.at ${scan.endRank === 'exclusive' ? '>' : '>='} coalesce((SELECT scan_end.at FROM scan_end), '-infinity')
    AND ($4::timestamptz IS NULL OR s.at < $4::timestamptz OR s.rank < $5::int
      OR (s.rank = $5::int AND s.change_id < $7::uuid))
    AND ($9::text IS NULL OR s.action = $9::text)
    AND ($10::text IS NULL OR s.username = $10::text)
  ORDER BY s.at DESC, s.rank DESC, s.change_id DESC
  LIMIT ${maxScannedSteps}
), steps AS MATERIALIZED (
  SELECT s.* FROM candidates s WHERE ${hasEntity('s.change_id')}
  ORDER BY s.at DESC, s.rank DESC, s.change_id DESC
  LIMIT $3::int
), page AS (
  SELECT * FROM audit UNION ALL SELECT * FROM steps
  ORDER BY at DESC, rank DESC, audit_id DESC, change_id DESC
  LIMIT $3::int
), content AS MATERIALIZED (
  SELECT
    page.at, page.rank, page.audit_id, page.change_id,
    ${pageKey('page')} AS key,
    CASE WHEN page.rank < 2 OR (c.status = 'approved' AND c.approved_at IS NOT NULL)
        OR (c.status = 'rejected' AND c.rejected_at IS NOT NULL)
      THEN ${isoUtc('page.at')} END AS created_at,
    ${isoUtc('c.created_at')} AS requested_at,
    coalesce(page.action, ${auditAction}) AS action,
    coalesce(a.entity::text, v.entity) AS entity,
    coalesce(a.entity_id, a.feature_id, v.entity_id) AS entity_id,
    coalesce(a.feature_id, v.feature_id) AS feature_id,
    CASE WHEN page.rank = 0 THEN ${auditUsername} WHEN page.rank = 1 THEN c.requested_by
      WHEN c.status = 'approved' THEN c.approved_by WHEN c.status = 'rejected' THEN c.rejected_by END AS username,
    left(CASE WHEN page.rank = 1 AND NOT large.change THEN c.change #>> '{meta,reason}'
      WHEN page.rank = 2 AND c.status = 'rejected' THEN c.rejection_reason END, ${maxReasonLength}) AS reason,
    a.request_id, state.old_value, state.new_value, state.requested,
    large.old_value OR large.new_value OR (page.rank = 1 AND large.change) AS truncated,
    coalesce(octet_length(state.old_value::text), 0) + coalesce(octet_length(state.new_value::text), 0)
      + coalesce(octet_length(state.requested::text), 0) AS bytes
  FROM page
  LEFT JOIN public.audit_log a ON a.id = page.audit_id
  LEFT JOIN public.pending_changes c ON c.id = page.change_id
  LEFT JOIN LATERAL (
    SELECT e.entity, e.entity_id, e.feature_id
    FROM ${requestEntities} e
    WHERE e.pending_change_id = page.change_id
      AND ($8::text IS NULL OR e.entity = $8::text)
      AND ($11::uuid IS NULL OR e.feature_id = $11::uuid)
    LIMIT ${maxShownEntities}
  ) v ON true
  CROSS JOIN LATERAL (
    SELECT ${isTooLarge('a.old_value')} AS old_value, ${isTooLarge('a.new_value')} AS new_value,
      ${isTooLarge('c.change')} AS change OFFSET 0
  ) large
  CROSS JOIN LATERAL (
    SELECT CASE WHEN large.old_value THEN ${tooLarge} ELSE ${shownJson('a.old_value::jsonb')} END AS old_value,
      CASE WHEN large.new_value THEN ${tooLarge} ELSE ${shownJson('a.new_value::jsonb')} END AS new_value,
      CASE WHEN page.rank = 1 AND NOT large.change
        THEN ${requestedEntity(shownJson('c.change::jsonb'), 'v.entity', 'v.entity_id')} END AS requested
    OFFSET 0
  ) state
), sized AS (
  SELECT content.*, sum(bytes) OVER (
      ORDER BY at DESC, rank DESC, audit_id DESC, change_id DESC, entity, entity_id ROWS UNBOUNDED PRECEDING
    ) - bytes >= ${maxPageBytes} AS is_beyond
  FROM content
)
SELECT
  ${isoUtc('scan_end.at')} || '${scan.endRank === 'exclusive' ? '_3' : '_0_0'}' AS audit_end,
  CASE WHEN (SELECT count(*) FROM candidates) = ${maxScannedSteps} AND (SELECT count(*) FROM steps) < $3::int
    THEN (SELECT ${pageKey('s')} FROM candidates s ORDER BY s.at, s.rank, s.change_id LIMIT 1) END AS step_end,
  p.key, coalesce(p.is_beyond, false) AS is_beyond,
  CASE WHEN NOT p.is_beyond AND p.entity IS NOT NULL AND p.entity_id IS NOT NULL THEN ${entryJson}::text END AS entry
FROM scan_end
LEFT JOIN sized p ON true
LEFT JOIN public.features f ON f.id = p.feature_id
ORDER BY p.at DESC, p.rank DESC, p.audit_id DESC, p.change_id DESC, p.entity, p.entity_id`;

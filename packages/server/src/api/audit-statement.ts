import { requestEntities } from '../host/feature-state.js';
import {
  isTooLarge,
  requestedDiff,
  requestedEntity,
  shownJson,
  stateDiff,
  tooLarge,
} from '../host/stored-json.js';
import { isoUtc } from '../host/time-text.js';
import { type AuditScan, firstTime, floorPlace, inSearchedTime } from './audit-scan.js';

/** A row of the answer; entity and entity_id are null for a request that names no entity. */
export interface AuditRow {
  /** Down to where the audit log, and the steps of requests, were looked at; null: to the end, or the page is full. */
  readonly audit_floor: string | null;
  readonly step_floor: string | null;
  /** Its place in the history, as text; one for all entities of a step. Null in the only row of an empty page. */
  readonly place: string | null;
  /** The rows before it have as many bytes as a page may have: it has no values. */
  readonly is_beyond: boolean;
  readonly audit_id: string | null;
  readonly pending_change_id: string | null;
  readonly created_at: string | null;
  readonly requested_at: string | null;
  readonly action: string;
  readonly entity: string | null;
  readonly entity_id: string | null;
  readonly feature_id: string | null;
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  readonly username: string | null;
  readonly reason: string | null;
  readonly request_id: string | null;
  readonly old_value: string | null;
  readonly new_value: string | null;
  readonly truncated: boolean;
  readonly diff: string;
}

/** How many steps of requests a page looks at, how many entities it shows of one, and how many bytes of JSON it has. */
const maxScannedSteps = 2_000;
const maxShownEntities = 200;
const maxPageBytes = 1_048_576;
const maxReasonLength = 4_096;

const auditAction = `CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
  ELSE a.action::text END`;
const auditUsername = `coalesce(nullif(a.username, ''), a.actor)::text`;

const placeText = (row: string): string =>
  `concat_ws('_', ${isoUtc(`${row}.at`)}, ${row}.rank, ${row}.audit_id, ${row}.change_id)`;

/** Whether the step has an entity that was asked for. A scalar subquery: a join would find the features of all requests. */
const hasEntity = (changeId: string): string => `(($8::text IS NULL AND $11::uuid IS NULL) OR (
    SELECT true FROM ${requestEntities} v
    WHERE v.pending_change_id = ${changeId}
      AND ($8::text IS NULL OR v.entity = $8::text)
      AND ($11::uuid IS NULL OR v.feature_id = $11::uuid)
    LIMIT 1
  ))`;

/**
 * Both lists are read newest first, each up to a page, and only as far as the scan of the audit log came. No index has
 * the times at which requests were decided; but where the log fills the page nothing older than its last entry is
 * needed, and only the steps on the page have their entities looked up.
 *
 * At one moment: the audit log's entries before the steps of requests, a request before its decision, as the
 * events come. A decision whose time is not kept stands right after its request.
 *
 * $1 project, $2 environment, $3 limit, $4 to $7 where to go on: time, rank, audit id, request; $8 entity,
 * $9 action, $10 user name, $11 feature, $12 since, $13 until.
 */
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
), floor AS MATERIALIZED (
  SELECT ${scan.floor} AS at
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
    AND s.at ${scan.floorRank === 'exclusive' ? '>' : '>='} coalesce((SELECT floor.at FROM floor), '-infinity')
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
    ${placeText('page')} AS place,
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
  ${floorPlace(scan, 'floor.at')} AS audit_floor,
  CASE WHEN (SELECT count(*) FROM candidates) = ${maxScannedSteps} AND (SELECT count(*) FROM steps) < $3::int
    THEN (SELECT ${placeText('s')} FROM candidates s ORDER BY s.at, s.rank, s.change_id LIMIT 1) END AS step_floor,
  p.place, coalesce(p.is_beyond, false) AS is_beyond,
  p.audit_id::text AS audit_id, p.change_id AS pending_change_id, p.created_at, p.requested_at, p.action, p.entity,
  p.entity_id, p.feature_id, f.key::text AS feature_key, f.name::text AS feature_name, p.username, p.reason,
  p.request_id, p.truncated,
  CASE WHEN NOT p.is_beyond THEN p.old_value::text END AS old_value,
  CASE WHEN NOT p.is_beyond THEN p.new_value::text END AS new_value,
  CASE WHEN p.is_beyond OR p.truncated OR p.rank = 2 THEN '[]'
    WHEN p.rank = 0 THEN ${stateDiff('p.old_value', 'p.new_value')}::text
    ELSE ${requestedDiff('p.requested')}::text END AS diff
FROM floor
LEFT JOIN sized p ON true
LEFT JOIN public.features f ON f.id = p.feature_id
ORDER BY p.at DESC, p.rank DESC, p.audit_id DESC, p.change_id DESC, p.entity, p.entity_id`;

import type { Pool } from 'pg';
import type { Channel } from '../access/access.js';
import { requestEntities } from '../host/feature-state.js';
import { requestedDiff, requestedEntity, shownJson, stateDiff } from '../host/stored-json.js';
import { isoUtc } from '../host/time-text.js';
import { JsonText } from '../json-text.js';
import type { AuditPlace } from './audit-place.js';

/** Which entries of a channel's history are wanted. */
export interface AuditQuery {
  /** Only what is older than this; null for the newest. */
  readonly before: AuditPlace | null;
  /** How many at the most; one step of a request counts once, however many entities it touches. */
  readonly limit: number;
  readonly entity: string | null;
  readonly action: string | null;
  readonly username: string | null;
  readonly featureId: string | null;
  /** From this time on, RFC 3339. */
  readonly since: string | null;
  /** Before this time, RFC 3339. */
  readonly until: string | null;
}

/** One entry of the history: an entry of the audit log, or one entity's part in a step of a request. */
interface AuditEntry {
  /** Unique in the answer: source, row id, entity, entity id and action, which an event of flagcast.v1 has, too. */
  readonly id: string;
  readonly source: 'audit' | 'pending';
  /** The audit log's own number; null for a step of a request. */
  readonly audit_id: string | null;
  /** The request; null for an entry of the audit log. */
  readonly pending_change_id: string | null;
  /** Null where the database keeps no time for it: that of a cancellation. */
  readonly created_at: string | null;
  /** When it was asked for; null for an entry of the audit log. */
  readonly requested_at: string | null;
  /** `created`, `updated`, `deleted`, or what a host calls it; `pending`, `approved`, `rejected`, `cancelled`. */
  readonly action: string;
  readonly entity: string;
  readonly entity_id: string;
  readonly feature_id: string | null;
  /** As it is now; null where it is gone. */
  readonly feature_key: string | null;
  readonly feature_name: string | null;
  /** Who did it: the user name, else the kind of actor; null where the database does not tell. */
  readonly username: string | null;
  /** Why it was asked for, or rejected; else null. */
  readonly reason: string | null;
  /** The same for all that one request to the host changed; null for a step. */
  readonly request_id: string | null;
  readonly old_value: JsonText | null;
  readonly new_value: JsonText | null;
  /** What was changed, a list of `{field, old, new}`; of a request what it asks for. */
  readonly diff: JsonText;
}

export interface AuditPage {
  readonly entries: AuditEntry[];
  /** What to give as `before` for what is older; null at the end. */
  readonly next: string | null;
}

/** A row of the answer; entity and entity_id are null for a request that names no entity. */
interface Row extends Omit<
  AuditEntry,
  'id' | 'source' | 'entity' | 'entity_id' | 'old_value' | 'new_value' | 'diff'
> {
  /** Its place in the history, as text; one for all entities of a step. */
  readonly place: string;
  readonly entity: string | null;
  readonly entity_id: string | null;
  readonly old_value: string | null;
  readonly new_value: string | null;
  readonly diff: string;
}

const auditAction = `CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
  ELSE a.action::text END`;
const auditUsername = `coalesce(nullif(a.username, ''), a.actor)::text`;

/** Outside of these no time can be written as RFC 3339 has it. */
const firstTime = `'0001-01-01T00:00:00Z'::timestamptz`;
const lastTime = `'9999-12-31T00:00:00Z'::timestamptz`;

/**
 * Both lists are read newest first, each up to a page. That of the audit log comes from an index. The
 * requests have one for when they were asked for, none for when they were decided; but where the log fills
 * the page nothing older than its last entry is needed, so that few of them are sorted, and only those on the
 * page have their entities looked up (OFFSET keeps the planner from doing that for all of them at once).
 *
 * At one moment: the audit log's entries before the steps of requests, a request before its decision, as the
 * events come. A decision whose time is not kept stands right after its request.
 *
 * $1 project, $2 environment, $3 limit, $4 to $7 where to go on: time, rank, audit id, request; $8 entity,
 * $9 action, $10 user name, $11 feature, $12 since, $13 until.
 */
const auditStatement = `
WITH audit AS MATERIALIZED (
  SELECT a.created_at AS at, 0 AS rank, a.id AS audit_id, NULL::uuid AS change_id, NULL::text AS action
  FROM public.audit_log a
  WHERE a.project_id = $1::uuid AND a.environment_id = $2::bigint
    AND a.created_at <= coalesce($4::timestamptz, ${lastTime})
    AND a.created_at < coalesce($13::timestamptz, ${lastTime})
    AND a.created_at >= coalesce($12::timestamptz, ${firstTime})
    AND ($4::timestamptz IS NULL OR a.created_at < $4::timestamptz OR $5::int > 0 OR a.id < $6::bigint)
    AND ($8::text IS NULL OR a.entity = $8::text)
    AND ($9::text IS NULL OR ${auditAction} = $9::text)
    AND ($10::text IS NULL OR ${auditUsername} = $10::text)
    AND ($11::uuid IS NULL OR a.feature_id = $11::uuid)
  ORDER BY a.created_at DESC, a.id DESC
  LIMIT $3::int
), about AS MATERIALIZED (
  SELECT v.pending_change_id AS id
  FROM ${requestEntities} v
  WHERE ($8::text IS NOT NULL OR $11::uuid IS NOT NULL)
    AND v.project_id = $1::uuid AND v.environment_id = $2::bigint
    AND ($8::text IS NULL OR v.entity = $8::text)
    AND ($11::uuid IS NULL OR v.feature_id = $11::uuid)
), steps AS (
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
    AND s.at <= coalesce($4::timestamptz, ${lastTime})
    AND s.at < coalesce($13::timestamptz, ${lastTime})
    AND s.at >= coalesce($12::timestamptz, ${firstTime})
    AND s.at >= (SELECT CASE WHEN count(*) = $3::int THEN min(audit.at) ELSE ${firstTime} END FROM audit)
    AND ($4::timestamptz IS NULL OR s.at < $4::timestamptz OR s.rank < $5::int
      OR (s.rank = $5::int AND s.change_id < $7::uuid))
    AND ($9::text IS NULL OR s.action = $9::text)
    AND ($10::text IS NULL OR s.username = $10::text)
    AND (($8::text IS NULL AND $11::uuid IS NULL) OR s.change_id IN (SELECT about.id FROM about))
  ORDER BY s.at DESC, s.rank DESC, s.change_id DESC
  LIMIT $3::int
), page AS (
  SELECT * FROM audit UNION ALL SELECT * FROM steps
  ORDER BY at DESC, rank DESC, audit_id DESC, change_id DESC
  LIMIT $3::int
)
SELECT
  concat_ws('_', ${isoUtc('page.at')}, page.rank, page.audit_id, page.change_id) AS place,
  page.audit_id::text AS audit_id,
  page.change_id AS pending_change_id,
  CASE WHEN page.rank < 2 OR (c.status = 'approved' AND c.approved_at IS NOT NULL)
      OR (c.status = 'rejected' AND c.rejected_at IS NOT NULL)
    THEN ${isoUtc('page.at')} END AS created_at,
  ${isoUtc('c.created_at')} AS requested_at,
  coalesce(page.action, ${auditAction}) AS action,
  coalesce(a.entity::text, v.entity) AS entity,
  coalesce(a.entity_id, a.feature_id, v.entity_id) AS entity_id,
  coalesce(a.feature_id, v.feature_id) AS feature_id,
  f.key::text AS feature_key,
  f.name::text AS feature_name,
  CASE WHEN page.rank = 0 THEN ${auditUsername} WHEN page.rank = 1 THEN c.requested_by
    WHEN c.status = 'approved' THEN c.approved_by WHEN c.status = 'rejected' THEN c.rejected_by END AS username,
  CASE WHEN page.rank = 1 THEN c.change #>> '{meta,reason}'
    WHEN page.rank = 2 AND c.status = 'rejected' THEN c.rejection_reason END AS reason,
  a.request_id,
  state.old_value::text AS old_value,
  state.new_value::text AS new_value,
  CASE page.rank WHEN 0 THEN ${stateDiff('state.old_value', 'state.new_value')}
    WHEN 1 THEN ${requestedDiff('requested.entity')} ELSE '[]' END::text AS diff
FROM page
LEFT JOIN public.audit_log a ON a.id = page.audit_id
LEFT JOIN public.pending_changes c ON c.id = page.change_id
LEFT JOIN LATERAL (
  SELECT e.entity, e.entity_id, e.feature_id
  FROM ${requestEntities} e
  WHERE e.pending_change_id = page.change_id
    AND ($8::text IS NULL OR e.entity = $8::text)
    AND ($11::uuid IS NULL OR e.feature_id = $11::uuid)
  OFFSET 0
) v ON true
CROSS JOIN LATERAL (
  SELECT ${shownJson('a.old_value::jsonb')} AS old_value, ${shownJson('a.new_value::jsonb')} AS new_value OFFSET 0
) state
CROSS JOIN LATERAL (
  SELECT ${requestedEntity(shownJson('c.change::jsonb'), 'v.entity', 'v.entity_id')} AS entity OFFSET 0
) requested
LEFT JOIN public.features f ON f.id = coalesce(a.feature_id, v.feature_id)
ORDER BY page.at DESC, page.rank DESC, page.audit_id DESC, page.change_id DESC, v.entity, v.entity_id`;

/**
 * A page of a channel's history, newest first: the audit log, and the steps of the requests for changes.
 * Pages follow each other by time and id, so that what is written meanwhile shifts none of them.
 */
export async function readAudit(pool: Pool, channel: Channel, query: AuditQuery): Promise<AuditPage> {
  const { rows } = await pool.query<Row>(auditStatement, [
    channel.projectId,
    channel.environmentId,
    query.limit + 1,
    query.before?.at ?? null,
    query.before?.rank ?? null,
    query.before?.auditId ?? null,
    query.before?.changeId ?? null,
    query.entity,
    query.action,
    query.username,
    query.featureId,
    query.since,
    query.until,
  ]);
  const moments = new Map<string, AuditEntry[]>();
  for (const { place, ...row } of rows) {
    moments.set(place, [...(moments.get(place) ?? []), ...toEntries(row)]);
  }
  const shown = [...moments].slice(0, query.limit);
  return {
    entries: shown.flatMap(([, entries]) => entries),
    next: moments.size > query.limit ? (shown.at(-1)?.[0] ?? null) : null,
  };
}

function toEntries(row: Omit<Row, 'place'>): AuditEntry[] {
  const { entity, entity_id: entityId, audit_id: auditId, pending_change_id: pendingChangeId, action } = row;
  if (entity === null || entityId === null) return [];
  const source = pendingChangeId === null ? 'audit' : 'pending';
  return [
    {
      id: [source, auditId ?? pendingChangeId, entity, entityId, action].join(':'),
      source,
      ...row,
      entity,
      entity_id: entityId,
      old_value: row.old_value === null ? null : new JsonText(row.old_value),
      new_value: row.new_value === null ? null : new JsonText(row.new_value),
      diff: new JsonText(row.diff),
    },
  ];
}

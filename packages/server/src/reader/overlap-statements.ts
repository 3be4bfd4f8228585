import { requestEntities } from '../host/pending-change.js';
import { isoUtc, isoUtcInRange } from '../host/sql-expressions.js';
import { featureOfRow, type LogFeatures, requestOfStep } from './log-statements.js';

/**
 * The events of the host's tables that are younger than $1, for FROM: the audit log; all open requests, which
 * `is_open_request` marks; and the decisions on those requests $2 that were open at the read before. The tables do
 * not record when a request was cancelled, so a decision is found by its request being open no more.
 */
export const tablesRelation = `(
  SELECT 'audit' AS source, a.id::text AS row_id, a.project_id::text AS project_id,
    a.environment_id::text AS environment_id, e.key::text AS environment_key, a.entity::text AS entity,
    coalesce(a.entity_id, a.feature_id)::text AS entity_id,
    CASE a.action WHEN 'create' THEN 'created' WHEN 'update' THEN 'updated' WHEN 'delete' THEN 'deleted'
      ELSE a.action::text END AS action,
    a.created_at, a.feature_id::text AS feature_id, NULL::text AS pending_change_id,
    coalesce(nullif(a.username, ''), a.actor)::text AS actor, false AS is_open_request
  FROM public.audit_log a
  LEFT JOIN public.environments e ON e.id = a.environment_id
  WHERE a.created_at > $1::timestamptz
  UNION ALL
  SELECT 'pending', c.id::text, c.project_id::text, c.environment_id::text, e.key::text, r.entity,
    r.entity_id::text, c.status::text,
    CASE c.status
      WHEN 'pending' THEN r.created_at
      WHEN 'approved' THEN coalesce(c.approved_at, statement_timestamp())
      WHEN 'rejected' THEN coalesce(c.rejected_at, statement_timestamp())
      ELSE statement_timestamp()
    END,
    r.feature_id::text, c.id::text,
    CASE c.status WHEN 'pending' THEN c.requested_by WHEN 'approved' THEN c.approved_by
      WHEN 'rejected' THEN c.rejected_by END::text,
    c.status = 'pending'
  FROM public.pending_changes c
  JOIN ${requestEntities} r ON r.pending_change_id = c.id
  LEFT JOIN public.environments e ON e.id = c.environment_id
  WHERE c.status = 'pending' OR c.id::text = ANY ($2::text[])
)`;

/**
 * Where a read begins: so long ago ($1, in milliseconds), or when the oldest open transaction of this database began, as far
 * as this role sees. On a replica the transactions are not visible, so it is the time of what was replayed last.
 */
export const sinceStatement = `
SELECT ${isoUtcInRange(`least(
  (SELECT min(xact_start) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type NOT IN ('autovacuum worker', 'walsender')),
  CASE WHEN pg_is_in_recovery() THEN least(clock_timestamp(), pg_last_xact_replay_timestamp()) ELSE clock_timestamp() END
) - $1::float8 * interval '1 millisecond'`)}`;

const order = `v.created_at, (v.source = 'pending' AND v.action <> 'pending'), length(v.row_id), v.row_id, v.action,
  v.entity, v.entity_id`;

/** The events of a source without transaction ids: $1 since when, $2 the requests that were open at the last read. */
export function overlapStatement(
  relation: string,
  { hasState, lists }: Pick<LogFeatures, 'hasState' | 'lists'>,
): string {
  return `
SELECT v.source, v.row_id, v.project_id, v.environment_id, v.environment_key, v.entity, v.entity_id, v.action,
  ${isoUtc('v.created_at')}, v.feature_id, v.pending_change_id, v.actor, v.is_open_request::text,
  ${hasState ? featureOfRow('v', { columns: lists, order }) : 'NULL'},
  ${hasState ? requestOfStep('v', order) : 'NULL'}
FROM ${relation} v
WHERE v.created_at <= 'infinity'::timestamptz
ORDER BY ${order}`;
}

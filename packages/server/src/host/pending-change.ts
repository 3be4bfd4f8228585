import type { Queries } from '../postgres/session-pool.js';
import { featureText, type ListColumns, listSql } from './feature-lists.js';
import { featureJsonOf } from './feature-state.js';
import {
  escapedText,
  isoUtc,
  plainText,
  requestedDiffTexts,
  requestedEntity,
  shownJson,
  type TextReader,
} from './sql-expressions.js';

/**
 * The entities of all requests, for FROM: pending_change_id, project_id, environment_id, requested_by, created_at,
 * entity, entity_id, feature_id. The feature is found as flagcast.feature_of finds it; the audit log is looked up in
 * a materialized subquery, because with a plain LIMIT 1 the planner may read the table from its start.
 */
export const requestEntities = `(
  SELECT c.id AS pending_change_id, c.project_id, c.environment_id, c.requested_by, p.created_at,
    p.entity::text AS entity, p.entity_id,
    CASE WHEN p.entity = 'feature' THEN p.entity_id::uuid ELSE coalesce(
      (jsonb_path_query_first(
        c.change::jsonb,
        '$.entities[*] ? (@.entity_id == $id).changes.feature_id.* ? (@ like_regex "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")',
        jsonb_build_object('id', p.entity_id),
        true
      ) #>> '{}')::uuid,
      (jsonb_path_query_first(
        c.change::jsonb,
        '$.entities[*] ? (@.entity == "feature").entity_id ? (@ like_regex "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")',
        '{}',
        true
      ) #>> '{}')::uuid,
      (
        WITH known AS MATERIALIZED (SELECT a.feature_id FROM public.audit_log a WHERE a.entity_id = p.entity_id)
        SELECT known.feature_id FROM known LIMIT 1
      )
    ) END AS feature_id
  FROM public.pending_change_entities p
  JOIN public.pending_changes c ON c.id = p.pending_change_id
)`;

/** The reason that a request has, in `shown.change`; null if there is none. */
export const requestReason = `jsonb_path_query_first(shown.change, '$.meta.reason ? (@.type() == "string")', '{}', true) #>> '{}'`;

/**
 * The entities of a request `c` with `shown.change`, as JSON. `diff` and `joins` can use the entity as `requested.entity`,
 * its feature `f` and the parameters `p`. The feature is one lookup by the primary key for each entity: without
 * statistics the planner would read all features for each request. The sum keeps it from the index on the environment.
 */
export const requestedEntitiesJson = ({
  diff,
  joins = '',
  text = plainText,
}: {
  diff: string;
  joins?: string;
  text?: TextReader;
}): string => `(
      SELECT coalesce(json_agg(json_build_object(
        'entity', v.entity, 'entity_id', v.entity_id,
        'action', jsonb_path_query_first(requested.entity, '$.action ? (@.type() == "string")', '{}', true),
        'feature_id', v.feature_id, 'feature_key', ${text('f.key')}, 'feature_name', ${text('f.name')},
        'feature_version', CASE WHEN f.id IS NOT NULL THEN concat_ws('.', f.xmin, p.xmin) END,
        'diff', ${diff}) ORDER BY v.entity, v.entity_id), '[]')
      FROM ${requestEntities} v
      CROSS JOIN LATERAL (
        SELECT ${requestedEntity('shown.change', 'v.entity', 'v.entity_id')} AS entity OFFSET 0
      ) requested
      LEFT JOIN LATERAL (
        SELECT feature.*, feature.xmin FROM public.features feature WHERE feature.id = v.feature_id OFFSET 0
      ) f ON f.project_id = c.project_id
      LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id + 0 = c.environment_id
      ${joins}
      WHERE v.pending_change_id = c.id
    )`;

/**
 * The newest step to the status of a request `c`, for other statuses than those of which the host records the user and
 * the time. For FROM and JOIN: actor, created_at.
 */
export const lastStep = `SELECT s.actor, s.created_at FROM flagcast.request_steps s
  WHERE c.status NOT IN ('pending', 'approved', 'rejected') AND s.pending_change_id = c.id::text AND s.action = c.status
  ORDER BY s.created_at DESC, s.xid DESC LIMIT 1`;

/**
 * The protocol's PendingChange of a row of pending_changes `c`, as JSON. With `escapes` no text of it can fail to be
 * decoded; JSON cannot be escaped, so the reason and the differences are left out then. With `hasSteps` the host's table
 * is completed by flagcast.request_steps: by whom and when a request was cancelled.
 */
function pendingChangeJson({ escapes, hasSteps = false }: { escapes: boolean; hasSteps?: boolean }): string {
  const text: TextReader = escapes ? escapedText : plainText;
  const ofStep = (value: string): string => (hasSteps ? `ELSE (SELECT ${value} FROM (${lastStep}) s)` : '');
  return `(SELECT json_build_object(
    'id', c.id, 'project_id', c.project_id, 'environment_id', c.environment_id::text,
    'environment', (SELECT ${text('e.key')} FROM public.environments e WHERE e.id = c.environment_id),
    'status', c.status, 'requested_by', ${text('c.requested_by')}, 'requested_by_id', c.request_user_id::text,
    'created_at', ${isoUtc('c.created_at')}, 'version', c.xmin::text,
    'reason', ${escapes ? 'NULL' : requestReason},
    'entities', ${requestedEntitiesJson({ diff: requestedDiffTexts('requested.entity'), text })},
    'decided_by', CASE c.status WHEN 'approved' THEN ${text('c.approved_by')} WHEN 'rejected' THEN ${text('c.rejected_by')} ${ofStep(text('s.actor'))} END,
    'decided_at', CASE c.status WHEN 'approved' THEN ${isoUtc('c.approved_at')} WHEN 'rejected' THEN ${isoUtc('c.rejected_at')} ${ofStep(isoUtc('s.created_at'))} END,
    'decision_reason', CASE c.status WHEN 'rejected' THEN ${text('c.rejection_reason')} END
  ) FROM (SELECT ${escapes ? 'NULL::jsonb' : shownJson('c.change::jsonb')} AS change OFFSET 0) shown)`;
}

/** More entities than the JSON of a request that is sent with its steps can have. */
const maxSentEntities = 300;

/**
 * SQL for whether a request has a JSON text of more than `bytes`, as far as that is known without writing it: the time
 * for that grows with the square of the number of entities.
 */
export const isLargeRequest = (id: string, bytes: number): string => `(
    coalesce((SELECT pg_column_size(c.change) > ${bytes} FROM public.pending_changes c WHERE c.id = ${id}), false)
    OR EXISTS (SELECT FROM public.pending_change_entities p WHERE p.pending_change_id = ${id} OFFSET ${maxSentEntities})
  )`;

/**
 * Whether a row `c` of pending_changes is a request: it has an entity. The log has an event for each entity, so a row
 * without any could not be kept up to date.
 */
export const isRequest = `EXISTS (SELECT FROM public.pending_change_entities item WHERE item.pending_change_id = c.id)`;

/** For FROM: the request `c` of a channel. All parameters are SQL. */
export const requestOf = (id: string, projectId: string, environmentId: string): string =>
  `public.pending_changes c
    WHERE c.id = ${id} AND c.project_id = ${projectId} AND c.environment_id = ${environmentId} AND ${isRequest}`;

/**
 * The JSON text of the protocol's PendingChange of `requestOf`; null if the channel does not have it: it does not exist or
 * was moved.
 */
export const pendingChangeState = (...request: Parameters<typeof requestOf>): string =>
  `(SELECT ${pendingChangeJson({ escapes: false })}::text FROM ${requestOf(...request)})`;

/** Between the features of a channel. JSON has no such character. */
export const featureSeparator = '\u0002';

/**
 * The features of a channel, each as `withScheduleState` takes it, and the open requests as JSON text: $1 the project, $2
 * the environment's number.
 */
export function channelStatement(columns: ListColumns, { escapes }: { escapes: boolean }): string {
  const text = escapes ? escapedText : plainText;
  const lists = listSql(
    columns,
    { projectId: '$1::uuid', featureId: null, environmentId: '$2::bigint' },
    text,
  );
  return `
SELECT
  (
    SELECT coalesce(string_agg(${featureText(featureJsonOf(text, lists.fields), lists)}, chr(2) ORDER BY f.key, f.id), '')
    FROM public.features f
    LEFT JOIN public.feature_params p ON p.feature_id = f.id AND p.environment_id = $2::bigint
    ${lists.joins}
    WHERE f.project_id = $1::uuid
  ) AS features,
  (
    SELECT coalesce(json_agg(${pendingChangeJson({ escapes })} ORDER BY c.created_at, c.id), '[]')::text
    FROM public.pending_changes c
    WHERE c.status = 'pending' AND c.project_id = $1::uuid AND c.environment_id = $2::bigint AND ${isRequest}
  ) AS pending_changes`;
}

/** How many decided requests of a user the approvals feed begins with. */
const maxOwnDecided = 100;

/** Whether the session may read flagcast.request_steps. Looks in the catalogue, for which no right is needed. */
export async function canReadSteps(database: Queries): Promise<boolean> {
  const { rowCount } = await database.query(
    `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'flagcast' AND c.relname = 'request_steps'
       AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')`,
  );
  return rowCount === 1;
}

/**
 * What an approvals feed begins with, as JSON text: all open requests that the user may view, and the newest of the
 * user's own that were decided. $1 and $2 are the projects and environments that may be viewed, in parallel (null: all
 * that are not archived); an environment may be null for all of its project. $3 is the id of the user, $4 the name.
 * The host does not record the times of cancellations: with `hasSteps` they are read from flagcast.request_steps,
 * otherwise it is the time of the request.
 */
export function approvalsStatement({ escapes, hasSteps }: { escapes: boolean; hasSteps: boolean }): string {
  // The lists of projects and environments do not refer to the request, so that each is evaluated once.
  const isViewable = `${isRequest} AND EXISTS (
      SELECT FROM public.projects project WHERE project.id = c.project_id AND project.archived_at IS NULL
    ) AND (
      $1::text[] IS NULL
      OR c.project_id::text IN (
        SELECT v.project_id FROM unnest($1::text[], $2::text[]) AS v (project_id, environment_id) WHERE v.environment_id IS NULL
      )
      OR c.project_id::text || ' ' || c.environment_id IN (
        SELECT v.project_id || ' ' || v.environment_id FROM unnest($1::text[], $2::text[]) AS v (project_id, environment_id) WHERE v.environment_id IS NOT NULL
      )
    )`;
  // One look-up by the primary key for each of the user's own requests that needs it.
  const decidedAt = `CASE c.status WHEN 'approved' THEN c.approved_at WHEN 'rejected' THEN c.rejected_at
      ELSE ${hasSteps ? `coalesce((SELECT s.created_at FROM (${lastStep}) s), c.created_at)` : 'c.created_at'} END`;
  return `
SELECT coalesce(json_agg(${pendingChangeJson({ escapes, hasSteps })} ORDER BY c.created_at, c.id), '[]')::text AS pending_changes
FROM (
  SELECT c.xmin, c.* FROM public.pending_changes c WHERE c.status = 'pending' AND ${isViewable}
  UNION ALL
  (
    SELECT c.xmin, c.* FROM public.pending_changes c
    WHERE c.status <> 'pending' AND coalesce(c.request_user_id::text = $3, c.requested_by = $4) AND ${isViewable}
    ORDER BY ${decidedAt} DESC NULLS LAST, c.id LIMIT ${maxOwnDecided}
  )
) c`;
}

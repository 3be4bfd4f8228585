import { requestEntities } from '../host/pending-change.js';
import type { Rights } from '../host/rights.js';
import { requestedDiff, requestedEntity, shownJson, isoUtc } from '../host/sql-expressions.js';
import { JsonText } from '../json-text.js';
import type { Queries } from '../postgres/session-pool.js';
import { isUuid, type OpenChange } from './schemas.js';
import { decidableProjects } from './writes/decisions.js';

type OpenChangeJson = Omit<OpenChange, 'entities'> & { readonly entities: JsonText };

/** How many open requests a response has at most. */
export const maxOpenChanges = 1_000;

/**
 * The open requests of these projects that the user may see, or only those about one feature or with one id, newest
 * first.
 */
export async function readOpenChanges(
  pool: Queries,
  rights: Rights,
  wanted: {
    readonly projectIds: readonly string[];
    readonly featureId?: string;
    readonly pendingChangeId?: string;
  },
): Promise<OpenChangeJson[]> {
  const { rows } = await pool.query<
    Omit<OpenChange, 'entities' | 'may_decide' | 'may_cancel'> & { readonly entities: string }
  >(
    `SELECT c.id, c.project_id, project.name::text AS project, c.environment_id::text AS environment_id,
       e.key::text AS environment, e.name::text AS environment_name, c.requested_by,
       CASE WHEN c.request_user_id IS NULL
         THEN EXISTS (SELECT FROM public.users u WHERE u.is_active AND u.username = c.requested_by)
         ELSE EXISTS (SELECT FROM public.users u WHERE u.is_active AND u.id = c.request_user_id)
       END AS requester_active,
       ${isoUtc('c.created_at')} AS created_at,
       jsonb_path_query_first(shown.change, '$.meta.reason ? (@.type() == "string")', '{}', true) #>> '{}' AS reason,
       coalesce(c.request_user_id::text = $2::text, c.requested_by = $3::text) AS own,
       (
         SELECT coalesce(json_agg(json_build_object(
           'entity', v.entity, 'entity_id', v.entity_id,
           'action', jsonb_path_query_first(requested.entity, '$.action ? (@.type() == "string")', '{}', true),
           'feature_id', v.feature_id, 'feature_key', f.key, 'feature_name', f.name,
           'diff', ${requestedDiff('requested.entity')}) ORDER BY v.entity, v.entity_id), '[]')
         FROM ${requestEntities} v
         CROSS JOIN LATERAL (
           SELECT ${requestedEntity('shown.change', 'v.entity', 'v.entity_id')} AS entity OFFSET 0
         ) requested
         LEFT JOIN public.features f ON f.id = v.feature_id
         WHERE v.pending_change_id = c.id
       )::text AS entities
     FROM public.pending_changes c
     CROSS JOIN LATERAL (SELECT ${shownJson('c.change::jsonb')} AS change OFFSET 0) shown
     JOIN public.projects project ON project.id = c.project_id
     JOIN public.environments e ON e.id = c.environment_id
     WHERE c.status = 'pending' AND c.project_id = ANY ($1::uuid[])
       AND ($4::uuid IS NULL OR c.id = $4::uuid)
       AND ($5::uuid IS NULL OR EXISTS (
         SELECT FROM ${requestEntities} v
         WHERE v.pending_change_id = c.id AND v.feature_id = $5::uuid
       ))
     ORDER BY c.created_at DESC, c.id DESC
     LIMIT ${maxOpenChanges}`,
    [
      // Ids of a foreign schema may be other texts.
      wanted.projectIds.filter(isUuid),
      rights.userId,
      rights.username,
      wanted.pendingChangeId ?? null,
      wanted.featureId ?? null,
    ],
  );
  const shown = rows.filter((row) => rights.mayView(row.project_id, row.environment_id));
  const projectIds = [...new Set(shown.map((row) => row.project_id))];
  const decidable = await decidableProjects(pool, rights, projectIds);
  return shown.map((row) => ({
    ...row,
    entities: new JsonText(row.entities),
    may_decide: !row.own && decidable.has(row.project_id),
    may_cancel: row.own || rights.superuser,
  }));
}

import { isMissing } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { readTogglrFeatures } from './host-schema.js';
import type { Rights } from './rights.js';

/**
 * Those of the projects on whose requests the user may decide, except on requests of their own. In Togglr's database
 * these users are superusers, owners, managers and project_approvers; a role's permissions do not count there. Elsewhere
 * the users with `feature.manage` or `project.manage`.
 */
export async function decidableProjects(
  database: Queries,
  rights: Rights,
  projectIds: readonly string[],
): Promise<Set<string>> {
  return await findDecidable(database, rights, projectIds).catch((error: unknown) => {
    // Requests are shown even if the server may not read who decides on them.
    if (isMissing(error)) return new Set<string>();
    throw error;
  });
}

/** The same; rejects if the server may not read who decides. */
export async function findDecidable(
  database: Queries,
  rights: Rights,
  projectIds: readonly string[],
): Promise<Set<string>> {
  const viewable = projectIds.filter((id) => rights.may(id, 'project.view'));
  const { togglr, approvers } = await readTogglrFeatures(database);
  if (!togglr || rights.superuser) {
    return new Set(viewable.filter((id) => rights.may(id, 'feature.manage', 'project.manage')));
  }
  const { rows } = await database.query<{ id: string }>(
    `SELECT m.project_id AS id FROM public.memberships m JOIN public.roles r ON r.id = m.role_id
     WHERE m.user_id = $1::bigint AND m.project_id = ANY ($2::uuid[]) AND r.key IN ('project_owner', 'project_manager')
     ${
       approvers
         ? `UNION SELECT a.project_id FROM public.project_approvers a
            WHERE a.user_id = $1::bigint AND a.project_id = ANY ($2::uuid[])`
         : ''
     }`,
    [rights.userId, viewable],
  );
  return new Set(rows.map(({ id }) => id));
}

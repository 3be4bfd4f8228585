import { isMissing } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { HttpProblem } from '../http-problem.js';
import { readTogglrFeatures } from './host-schema.js';
import { isoUtc } from './sql-expressions.js';

/** The permissions that this server asks for; roles may hold others. */
export type Permission = 'project.view' | 'project.manage' | 'feature.toggle' | 'feature.manage';

/** The permissions of a user, as read from the database at one moment. */
export class Rights {
  readonly userId: string;
  readonly username: string;
  readonly superuser: boolean;
  readonly #granted: Readonly<Record<string, readonly string[]>>;
  readonly #environments: Readonly<Record<string, readonly string[]>> | null;

  constructor(user: {
    readonly id: string;
    readonly username: string;
    readonly superuser: boolean;
    /** The keys of the permissions by the project's id. */
    readonly granted: Readonly<Record<string, readonly string[]>>;
    /** The ids of the environments that may be seen by the project's id; null: all of a project. */
    readonly environments?: Readonly<Record<string, readonly string[]>> | null;
  }) {
    this.userId = user.id;
    this.username = user.username;
    this.superuser = user.superuser;
    this.#granted = user.granted;
    this.#environments = user.environments ?? null;
  }

  /** Whether the user has any of these permissions in the project. */
  may(projectId: string, ...anyOf: readonly Permission[]): boolean {
    if (this.superuser) return true;
    const granted = this.granted(projectId);
    return anyOf.some((permission) => granted.includes(permission));
  }

  /** The keys of all permissions that a role gives in the project; superusers do not need them. */
  granted(projectId: string): readonly string[] {
    return entryOf(this.#granted, projectId);
  }

  /** Whether the user may see this environment of the project. */
  mayView(projectId: string, environmentId: string): boolean {
    if (!this.may(projectId, 'project.view')) return false;
    return this.#environments === null || entryOf(this.#environments, projectId).includes(environmentId);
  }

  /** Throws HttpProblem `forbidden` unless the user may see the project and has any of these permissions in it. */
  require(projectId: string, ...anyOf: readonly Permission[]): void {
    if (!this.may(projectId, 'project.view')) {
      throw new HttpProblem(
        'forbidden',
        'You may not see this project: ask its owner for a role with project.view',
      );
    }
    if (this.may(projectId, ...anyOf)) return;
    throw new HttpProblem(
      'forbidden',
      `You may not do this in this project: ask its owner for a role with ${anyOf.join(' or ')}`,
    );
  }
}

/** Ids of a foreign schema are any text, also the name of something that every object has. */
function entryOf(table: Readonly<Record<string, readonly string[]>>, id: string): readonly string[] {
  return Object.hasOwn(table, id) ? (table[id] ?? []) : [];
}

/**
 * The rights of a user, in one project or in all that are not archived. Throws HttpProblem where the user does not
 * exist (any more) or is not active: between the token's check and this one time has passed.
 */
export async function readRights(
  database: Queries,
  userId: string,
  projectId: string | null = null,
): Promise<Rights> {
  const { rows } = await database.query<{
    id: string;
    username: string;
    active: boolean;
    superuser: boolean;
    granted: Record<string, string[]>;
  }>(
    `SELECT u.id::text AS id, u.username::text AS username, u.is_active AS active, u.is_superuser AS superuser,
      coalesce((
        SELECT json_object_agg(project_id, permissions) FROM (
          SELECT m.project_id, json_agg(p.key ORDER BY p.key) AS permissions
          FROM public.memberships m
          JOIN public.projects project ON project.id = m.project_id AND project.archived_at IS NULL
          JOIN public.role_permissions r ON r.role_id = m.role_id
          JOIN public.permissions p ON p.id = r.permission_id
          WHERE m.user_id = u.id AND ($2::uuid IS NULL OR m.project_id = $2::uuid)
          GROUP BY m.project_id
        ) AS projects
      ), '{}') AS granted
    FROM public.users u WHERE u.id = $1::bigint`,
    [userId, projectId],
  );
  const [user] = rows;
  if (user === undefined) {
    throw new HttpProblem('unknown_user', 'This user does not exist any more: sign in again');
  }
  if (!user.active) {
    throw new HttpProblem('user_inactive', 'This user has been deactivated: ask an administrator');
  }
  return new Rights(user);
}

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

/** Who has guarded an environment, and when (RFC 3339, UTC). */
export interface Guard {
  readonly by: string;
  readonly at: string;
}

/**
 * Which of these environments are guarded, by id. None where the table is missing or may not be read: in a
 * database that an older version prepared, or whose schema is not Togglr's.
 */
export async function readGuards(
  pool: Queries,
  environmentIds: readonly string[],
): Promise<ReadonlyMap<string, Guard>> {
  try {
    const { rows } = await pool.query<Guard & { id: string }>(
      `SELECT environment_id::text AS id, guarded_by AS by, ${isoUtc('created_at')} AS at
       FROM flagcast.guarded_environments WHERE environment_id::text = ANY ($1::text[])`,
      [environmentIds],
    );
    return new Map(rows.map(({ id, ...guard }) => [id, guard]));
  } catch (error) {
    if (isMissing(error)) return new Map();
    throw error;
  }
}

import type pg from 'pg';

/** An environment of a project. */
export interface Environment {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  /** Whether changes in it need the approval of another user. */
  readonly guarded: boolean;
}

/** The environments of a project, by id; empty if the project does not exist. */
export async function readEnvironments(client: pg.ClientBase, projectId: string): Promise<Environment[]> {
  const { rows } = await client.query<Environment>(
    `SELECT e.id::text AS id, e.key::text AS key, e.name::text AS name, g.environment_id IS NOT NULL AS guarded
     FROM public.environments e
     LEFT JOIN flagcast.guarded_environments g ON g.environment_id = e.id
     WHERE e.project_id = $1
     ORDER BY e.id`,
    [projectId],
  );
  return rows;
}

import type pg from 'pg';
import { isMissing } from '../database/missing.js';

/** An environment of a project. */
export interface Environment {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  /** Whether changes in it wait for somebody else's approval. */
  readonly guarded: boolean;
}

/** The environments of a project, by id; none for a project that does not exist. */
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

/**
 * Which of these environments are guarded. None where the table is missing or may not be read: in a
 * database that an older version prepared, or whose schema is not Togglr's.
 */
export async function readGuarded(pool: pg.Pool, environmentIds: readonly string[]): Promise<Set<string>> {
  try {
    const { rows } = await pool.query<{ id: string }>(
      'SELECT environment_id::text AS id FROM flagcast.guarded_environments WHERE environment_id::text = ANY ($1::text[])',
      [environmentIds],
    );
    return new Set(rows.map(({ id }) => id));
  } catch (error) {
    if (isMissing(error)) return new Set();
    throw error;
  }
}

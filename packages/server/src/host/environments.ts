import { isMissing } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { isoUtc } from './sql-expressions.js';

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

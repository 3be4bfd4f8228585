import type { Queries } from '../postgres/session-pool.js';

/** Which tables and columns of Togglr's the database has beyond those that every host has. */
export interface TogglrFeatures {
  /** `feature_tags`: features can carry tags. */
  readonly tags: boolean;
  /** Whether row-level security may hide tags from this session. */
  readonly tagsFiltered: boolean;
  /** `users.two_fa_enabled`: users can have a second factor. */
  readonly twoFactor: boolean;
  /** `project_approvers`: people who may approve besides owners and managers. */
  readonly approvers: boolean;
  /**
   * Whether this is the database of a Togglr: it has `feature_tags` or `users.two_fa_enabled`. The tables of
   * `flagcast install --tables` have neither.
   */
  readonly togglr: boolean;
}

/** Looks in the catalogue, for which no right is needed. Not cached: a host can be upgraded at any moment. */
export async function readTogglrFeatures(database: Queries): Promise<TogglrFeatures> {
  const { rows } = await database.query<TogglrFeatures>(
    `SELECT found.tags, found.two_factor AS "twoFactor", found.approvers, found.tags OR found.two_factor AS togglr,
       EXISTS (
         SELECT FROM pg_class c
         WHERE c.oid IN (to_regclass('public.tags'), to_regclass('public.feature_tags')) AND row_security_active(c.oid)
       ) AS "tagsFiltered"
     FROM (
       SELECT to_regclass('public.feature_tags') IS NOT NULL AS tags,
         to_regclass('public.project_approvers') IS NOT NULL AS approvers,
         EXISTS (
           SELECT FROM pg_attribute a
           WHERE a.attrelid = to_regclass('public.users') AND a.attname = 'two_fa_enabled' AND NOT a.attisdropped
         ) AS two_factor
     ) AS found`,
  );
  const [found] = rows;
  if (found === undefined) throw new Error('the catalogue did not answer');
  return found;
}

import type { Queries } from '../postgres/session-pool.js';
import { listTables } from './feature-lists.js';

/** A table of which row-level security may hide rows. */
export interface HiddenTable {
  /** With its schema. */
  readonly table: string;
  /** The role that its policies apply to: the server's, or that of the trigger functions. */
  readonly reader: string;
  /** Whether that is the owner of the trigger functions, who reads the request of an entity. */
  readonly isLogging: boolean;
}

/** SQL for whether Flagcast reads the table `c` of the schema `n`. */
const isRead = `(n.nspname = 'flagcast' OR n.nspname = 'public' AND c.relname IN ('projects', 'environments', 'features', 'feature_params', 'pending_changes',
       'pending_change_entities', 'audit_log', 'users', 'memberships', 'role_permissions', 'permissions'))`;

const hasRowSecurity = `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relrowsecurity AND ${isRead}`;
/** SQL for whether a table that Flagcast reads has row-level security. If none has, no policy applies and no row is hidden. */
export const hasRowSecurityExpression = `EXISTS (${hasRowSecurity})`;
/** SQL for whether policies apply to this session on a table that Flagcast reads, also if they show all rows. */
export const hasPoliciesExpression = `EXISTS (${hasRowSecurity} AND row_security_active(c.oid))`;

/**
 * SQL for the versions of the tables that Flagcast reads, and of their policies; null unless `hasPoliciesExpression`. A
 * policy that was changed and changed back has another version.
 */
export const policyVersionsExpression = `CASE WHEN ${hasPoliciesExpression} THEN (
   SELECT string_agg(concat_ws('/', c.oid, c.xmin, (
     SELECT string_agg(concat_ws('/', w.oid, w.xmin), ' ' ORDER BY w.oid) FROM pg_policy w WHERE w.polrelid = c.oid
   )), ',' ORDER BY c.oid)
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE ${isRead} OR n.nspname = 'public' AND c.relname IN (${listTables})) END`;

/**
 * The tables that Flagcast reads of which row-level security may hide rows from `role` (SQL of a name; null: the role
 * of the session) and, if `logs` (SQL of a boolean), from the owner of the trigger functions: `HiddenTable`s as JSON
 * text. A policy that shows all rows hides none.
 */
export const hiddenTablesStatement = (role: string, logs: string): string => `WITH readers AS (
   SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relowner, c.relforcerowsecurity, r.name AS reader, r.is_logging
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   CROSS JOIN LATERAL (
     SELECT coalesce(${role}::name, current_user), false
     UNION ALL
     SELECT DISTINCT pg_get_userbyid(p.proowner), true FROM pg_proc p
     WHERE ${logs}::boolean AND p.proname IN ('log_request', 'log_decision')
       AND p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'flagcast')
       AND c.relname IN ('pending_changes', 'pending_change_entities')
   ) AS r (name, is_logging)
   WHERE c.relrowsecurity AND ${isRead}
 )
 SELECT coalesce(json_agg(json_build_object('table', readers.name, 'reader', reader, 'isLogging', is_logging)
   ORDER BY is_logging, reader, readers.name), '[]')::text
 FROM readers JOIN pg_roles p ON p.rolname = reader
 CROSS JOIN LATERAL (
   SELECT coalesce(bool_or(w.polpermissive AND pg_get_expr(w.polqual, w.polrelid) = 'true'), false)
     AND bool_and(w.polpermissive) AS show_all
   FROM pg_policy w
   WHERE w.polrelid = readers.oid AND w.polcmd IN ('r', '*')
     AND EXISTS (SELECT FROM unnest(w.polroles) g WHERE g = 0 OR pg_has_role(reader, g, 'USAGE'))
 ) AS policies
 WHERE NOT p.rolsuper AND NOT p.rolbypassrls AND NOT policies.show_all
   AND (relforcerowsecurity OR NOT pg_has_role(reader, relowner, 'USAGE'))`;

/** Runs `hiddenTablesStatement`. */
export async function readHiddenTables(
  client: Queries,
  { role, logs }: { readonly role: string | null; readonly logs: boolean },
): Promise<HiddenTable[]> {
  const { rows } = await client.query<[string]>({
    text: hiddenTablesStatement('$1', '$2'),
    values: [role, logs],
    rowMode: 'array',
  });
  return JSON.parse(rows[0]?.[0] ?? '[]') as HiddenTable[];
}

/** Which tables and columns of Togglr's the database has beyond those that every host has. */
export interface TogglrFeatures {
  /** `feature_tags`: features can carry tags. */
  readonly tags: boolean;
  /** Whether row-level security may hide tags from this session. */
  readonly tagsFiltered: boolean;
  /**
   * `users.two_fa_enabled`: users can have a second factor. This marks the database of a Togglr, which always had the
   * column; the tables of `flagcast install --tables` do not have it.
   */
  readonly togglr: boolean;
  /** `project_approvers`: people who may approve besides owners and managers. */
  readonly approvers: boolean;
}

/** Looks in the catalogue, for which no right is needed. Not cached: a host can be upgraded at any moment. */
export async function readTogglrFeatures(database: Queries): Promise<TogglrFeatures> {
  const { rows } = await database.query<TogglrFeatures>(
    `SELECT found.tags, found.togglr, found.approvers,
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
         ) AS togglr
     ) AS found`,
  );
  const [found] = rows;
  if (found === undefined) throw new Error('the catalogue did not answer');
  return found;
}

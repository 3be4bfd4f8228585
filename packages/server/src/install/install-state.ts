import type pg from 'pg';
import { triggerName, triggerParameter, triggerStatement, type TriggerState } from '../host/host-triggers.js';
import { readInstallSql, schemaName, type InstallSql } from './sql-files.js';

interface PublicTable {
  readonly owner: string;
  /** Whether the role may act as the owner. */
  readonly owned: boolean;
  /** Whether the owner may act as the role. */
  readonly ownerIsMember: boolean;
  /** The privileges that the role needs for a trigger and lacks. */
  readonly lacks: readonly string[];
  /** The tables that inherit from it, without partitions: PostgreSQL creates no triggers on them. */
  readonly children: readonly ChildTable[];
}

interface ChildTable {
  /** With its schema, as SQL. */
  readonly name: string;
  readonly owned: boolean;
}

/** The state of a database that install, uninstall and doctor start from. */
export interface InstallState {
  readonly sql: InstallSql;
  /** As `server_version_num`, e.g. 180004. */
  readonly serverVersion: number;
  readonly database: string;
  readonly role: string;
  /** The owner of schema flagcast; null without such a schema. */
  readonly schemaOwner: string | null;
  /** Whether the role may act as that owner. */
  readonly ownsSchema: boolean;
  /** Whether Flagcast created the schema: it has the version table. */
  readonly installed: boolean;
  /** Whether install --tables created the contract tables. */
  readonly ownTables: boolean;
  readonly mayCreateSchema: boolean;
  readonly mayCreateInPublic: boolean;
  /** The names of the contract tables and view that exist in schema public. */
  readonly publicNames: readonly string[];
  /** The triggers on the host's tables; also if nothing is installed. */
  readonly triggers: readonly TriggerState[];
  /** The existing contract tables of the host or of install, by name. */
  readonly publicTables: Readonly<Record<string, PublicTable>>;
  /** The publications FOR ALL TABLES. */
  readonly publications: readonly string[];
  /** Flagcast's objects that exist, and all triggers that call its functions, in order. */
  readonly objects: readonly string[];
}

/** `$1`: the contract tables. */
const stateStatement = `
WITH relations AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relowner, n.nspname AS schema
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname IN ('public', '${schemaName}')
), functions AS (
  SELECT p.oid, p.proname::text AS name
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = '${schemaName}'
), children AS (
  WITH RECURSIVE tree AS (
    SELECT i.inhrelid AS oid, r.oid AS root FROM pg_catalog.pg_inherits i JOIN relations r ON r.oid = i.inhparent
    WHERE r.schema = 'public' AND r.name = ANY ($1::text[])
    UNION
    SELECT i.inhrelid, tree.root FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
  )
  SELECT tree.oid, tree.root, format('%I.%I', n.nspname, c.relname) AS name, c.relowner
  FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND NOT c.relispartition AND c.relpersistence <> 't'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), made AS (
  SELECT EXISTS (SELECT FROM relations WHERE schema = '${schemaName}' AND name = 'tables_version') AS tables
), objects AS (
  SELECT 'schema ${schemaName}' AS line FROM pg_catalog.pg_namespace WHERE nspname = '${schemaName}'
  UNION ALL
  SELECT 'table ' || schema || '.' || name FROM relations, made
  WHERE relkind = 'r' AND (schema = '${schemaName}' OR made.tables)
  UNION ALL
  SELECT 'function ${schemaName}.' || name || '()' FROM functions
  UNION ALL
  SELECT 'trigger ' || t.tgname || ' on ' || n.nspname || '.' || c.relname
    || CASE
      WHEN n.nspname = '${schemaName}'
        AND t.tgenabled NOT IN ('A', CASE t.tgname WHEN 'flagcast_skip_replicated' THEN 'R' ELSE 'O' END)
      THEN ' (disabled)' ELSE ''
    END
  FROM pg_catalog.pg_trigger t
  JOIN functions f ON f.oid = t.tgfoid
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  -- PostgreSQL creates the triggers of partitions. Those of tables that inherit belong to the table that they inherit from.
  WHERE t.tgparentid = 0 AND NOT (t.tgname = '${triggerName}' AND t.tgrelid IN (SELECT oid FROM children))
  UNION ALL
  -- In schema public it can be the host's, if install did not create the tables.
  SELECT 'view ' || schema || '.' || name FROM relations, made
  WHERE name = 'v_realtime_events' AND relkind = 'v' AND (schema = '${schemaName}' OR made.tables)
)
SELECT json_build_object(
  'serverVersion', current_setting('server_version_num')::int,
  'database', current_database(),
  'role', current_user,
  'schemaOwner', pg_get_userbyid(s.nspowner),
  'ownsSchema', coalesce(pg_has_role(s.nspowner, 'USAGE'), false),
  'installed', EXISTS (SELECT FROM relations WHERE schema = '${schemaName}' AND name = 'schema_version'),
  'ownTables', (SELECT tables FROM made),
  'mayCreateSchema', has_database_privilege(current_database(), 'CREATE'),
  'mayCreateInPublic', coalesce(
    (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = 'public'), false),
  'publicTables', (
    SELECT coalesce(json_object_agg(name, json_build_object(
      'owner', pg_get_userbyid(relowner),
      'owned', pg_has_role(relowner, 'USAGE'),
      'ownerIsMember', pg_has_role(relowner, current_user, 'USAGE'),
      'lacks', ARRAY(SELECT p FROM unnest('{SELECT,TRIGGER}'::text[]) p WHERE NOT has_table_privilege(oid, p)),
      'children', (
        SELECT coalesce(json_agg(json_build_object('name', c.name, 'owned', pg_has_role(c.relowner, 'USAGE')) ORDER BY c.name), '[]')
        FROM children c WHERE c.root = relations.oid
      )
    )), '{}') FROM relations WHERE schema = 'public' AND relkind IN ('r', 'p') AND name = ANY ($1::text[])
  ),
  'publications', (SELECT coalesce(json_agg(pubname ORDER BY pubname), '[]') FROM pg_catalog.pg_publication WHERE puballtables),
  'publicNames', (
    SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM relations
    WHERE schema = 'public' AND (name = ANY ($1::text[]) OR name = 'v_realtime_events')
  ),
  'objects', (SELECT coalesce(json_agg(line), '[]') FROM objects)
)::text AS state
FROM (SELECT) AS always LEFT JOIN pg_catalog.pg_namespace s ON s.nspname = '${schemaName}'`;

/** Reads only the catalogue, for which no privilege is needed. */
export async function readInstallState(client: pg.ClientBase): Promise<InstallState> {
  const sql = await readInstallSql();
  const contractTables = sql.contractObjects.flatMap((line) => /^table public\.(\w+)$/.exec(line)?.[1] ?? []);
  // JSON as text does not depend on the type parsers of the client.
  const states = await client.query<{ state: string }>(stateStatement, [contractTables]);
  const { rows } = await client.query<{ triggers: string }>(triggerStatement, [triggerParameter]);
  const state = JSON.parse(states.rows[0]?.state ?? '{}') as Omit<InstallState, 'triggers' | 'sql'>;
  // A host can have tables and functions of its own in the schema.
  const objects = state.objects.filter(
    (line) => /^(schema|trigger|view) /.test(line) || sql.ownObjects.includes(line),
  );
  const triggers = JSON.parse(rows[0]?.triggers ?? '[]') as TriggerState[];
  return { ...state, sql, triggers, objects: inOrder(objects) };
}

export const publicView = 'view public.v_realtime_events';

/** Sorts objects by kind, then by name; the public view comes last. */
export function inOrder(objects: readonly string[]): string[] {
  const kinds = ['schema', 'table', 'function', 'trigger', 'view'];
  const place = (object: string): number =>
    kinds.indexOf(object.split(' ', 1)[0] ?? '') + (object === publicView ? 1 : 0);
  return objects.toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}

/** The objects of an installation, without the triggers on the host's tables and without those of the contract tables. */
export function logObjects({ sql }: InstallState, withTables: boolean): string[] {
  return [...sql.logObjects, ...(withTables ? sql.viewObjects : [])];
}

/**
 * The views of Flagcast 0.1, in the order in which they can be dropped; none if another build is installed. They read the
 * host's tables, and this build has an event log, without which its own view cannot exist.
 */
export function legacyViews({ objects }: InstallState): string[] {
  const hasLog = objects.includes(`table ${schemaName}.event_log`);
  return hasLog ? [] : objects.filter((object) => object.startsWith('view ')).toReversed();
}

/** The objects, without the triggers on the host's tables, that are missing or disabled. */
export function missingObjects(state: InstallState): string[] {
  return logObjects(state, state.ownTables).filter((object) => !state.objects.includes(object));
}

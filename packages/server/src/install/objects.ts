import type pg from 'pg';
import {
  hostTriggers,
  triggerName,
  triggerParameter,
  triggerStatement,
  type TriggerState,
} from '../host/host-triggers.js';

/** The schema of all objects of Flagcast except the contract tables and the public view. */
export const schemaName = 'flagcast';

/** The columns of the views `v_realtime_events`, as they stand in `InstallState.viewColumns`. */
const viewColumns = {
  [schemaName]:
    'source text, event_id text, project_id text, environment_id text, environment_key text, entity text, ' +
    'entity_id text, action text, created_at timestamp with time zone, xid bigint, row_id text, feature_id text, ' +
    'pending_change_id text, actor text',
  public:
    'source text, event_id text, project_id uuid, environment_id bigint, environment_key text, entity text, ' +
    'entity_id uuid, action text, created_at timestamp with time zone',
} as const;

export type ViewSchema = keyof typeof viewColumns;

export const viewOf = (schema: ViewSchema): string => `view ${schema}.v_realtime_events`;

/** The tables that `install --tables` creates in schema public. */
const contractTables = [
  'projects',
  'environments',
  'features',
  'feature_params',
  'rules',
  'feature_schedules',
  'pending_changes',
  'pending_change_entities',
  'audit_log',
  'users',
  'roles',
  'permissions',
  'role_permissions',
  'memberships',
] as const;

/** The trigger functions of the contract tables. */
const contractFunctions = ['create_environments', 'create_feature_params', 'refuse_second_open_change'];

/**
 * The trigger functions of the log; `wake` is that of Flagcast 0.1. An upgrade or repair drops them, and with them
 * their triggers on any table, and creates them again.
 */
export const triggerFunctions = [
  ...new Set(hostTriggers.map((trigger) => trigger.function)),
  'record_deletion',
  'skip_replicated',
  'wake',
];

/** The other functions. They are replaced, not dropped, because the host may have granted rights on them. */
const otherFunctions = [
  'notify_reader',
  'feature_of',
  'reason_of',
  'keep_step',
  'record_event',
  'environment_key',
  'prune_event_log',
  'adopt_event_log',
];

/** The environments in which changes need approval. */
export const guardTable = 'guarded_environments';

/** The roles that were granted rights. */
export const roleTable = 'granted_roles';

/** The tables with data, which only uninstall drops. */
const dataTables = ['event_log', 'request_steps', 'log_state', guardTable, roleTable];

/** The record of installed versions marks the schema as Flagcast's, and the contract tables as created by install. */
const versionTables = ['schema_version', 'tables_version', 'public_version'];

/** The trigger that drops what logical replication writes into tables that describe one database or cluster. */
export const skipTrigger = 'flagcast_skip_replicated';

/** The triggers that record which rows of the event log were deleted. */
export const deletionTriggers = ['flagcast_record_delete', 'flagcast_record_truncate'];

const functionObject = (name: string): string => `function ${schemaName}.${name}()`;

/** A trigger on a table of the host, as in InstallState.objects. */
export const triggerObject = (table: string): string => `trigger ${triggerName} on public.${table}`;

/** What the files in sql/tables create. */
export const contractObjects: readonly string[] = [
  ...contractTables.map((table) => `table public.${table}`),
  ...contractFunctions.map(functionObject),
  'trigger create_environments on public.projects',
  'trigger create_feature_params on public.environments',
  'trigger create_feature_params on public.features',
  'trigger refuse_second_open_change on public.pending_change_entities',
];

/** What the files in sql/flagcast create and, for contract tables of install, those in sql/public. */
export function logObjects(withTables: boolean): string[] {
  const localTables = ['event_log', 'request_steps', 'log_state', roleTable, 'schema_version'];
  return [
    ...dataTables.map((table) => `table ${schemaName}.${table}`),
    ...[...triggerFunctions, ...otherFunctions].filter((name) => name !== 'wake').map(functionObject),
    ...[...localTables, ...(withTables ? ['tables_version'] : [])].map(
      (table) => `trigger ${skipTrigger} on ${schemaName}.${table}`,
    ),
    ...deletionTriggers.map((name) => `trigger ${name} on ${schemaName}.event_log`),
    viewOf(schemaName),
    ...(withTables ? [viewOf('public')] : []),
  ];
}

/** The objects, without the triggers on the host's tables, that are missing, replaced or disabled. */
export function missingObjects(state: InstallState): string[] {
  return logObjects(state.ownTables).filter(
    (object) =>
      !state.objects.includes(object) ||
      (['public', schemaName] as const).some(
        (schema) => object === viewOf(schema) && isOtherView(state, schema),
      ),
  );
}

/** The existing views that `CREATE OR REPLACE VIEW` cannot replace, in the order in which they can be dropped. */
export function viewsToDrop(state: InstallState): ViewSchema[] {
  const isToDrop = (schema: ViewSchema): boolean =>
    state.objects.includes(viewOf(schema)) && isOtherView(state, schema);
  if (!isToDrop(schemaName)) return isToDrop('public') ? ['public'] : [];
  // The public view reads the other one.
  return state.objects.includes(viewOf('public')) ? ['public', schemaName] : [schemaName];
}

/** Whether the view has other columns, or does not read the event log. */
function isOtherView(state: InstallState, schema: ViewSchema): boolean {
  return state.viewColumns[schema] !== viewColumns[schema];
}

/** The contract tables that install created and that still exist. */
export function existingContractTables({ objects }: InstallState): string[] {
  return contractTables.filter((table) => objects.includes(`table public.${table}`));
}

/** The statements that drop everything that install created. Only trigger functions are dropped by CASCADE. */
export function dropStatements(state: InstallState): string[] {
  const dropFunctions = (names: readonly string[], cascade: string): string[] =>
    names.map((name) => `DROP FUNCTION IF EXISTS ${schemaName}.${name}${cascade}`);
  const tables = existingContractTables(state).map((table) => `public.${table}`);
  return [
    ...(state.objects.includes(viewOf('public')) ? ['DROP VIEW public.v_realtime_events'] : []),
    ...dropFunctions(triggerFunctions, '() CASCADE'),
    `DROP VIEW IF EXISTS ${schemaName}.v_realtime_events`,
    ...dropFunctions(otherFunctions, ''),
    ...(tables.length === 0 ? [] : [`DROP TABLE ${tables.join(', ')}`]),
    ...dropFunctions(contractFunctions, '()'),
    ...[...dataTables, ...versionTables].map((name) => `DROP TABLE IF EXISTS ${schemaName}.${name}`),
    `DROP SCHEMA ${schemaName}`,
  ];
}

const kinds = ['schema', 'table', 'function', 'trigger', 'view'];

/** Sorts objects by kind, then by name; the public view comes last. */
export function inOrder(objects: readonly string[]): string[] {
  const place = (object: string): number =>
    kinds.indexOf(object.split(' ', 1)[0] ?? '') + (object === viewOf('public') ? 1 : 0);
  return objects.toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}

interface PublicTable {
  readonly owner: string;
  /** Whether the role may act as the owner. */
  readonly owned: boolean;
  /** Whether the owner may act as the role. */
  readonly ownerIsMember: boolean;
  /** The privileges that the role needs for a trigger and lacks. */
  readonly lacks: readonly string[];
}

/** The state of a database that install, uninstall and doctor start from. */
export interface InstallState {
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
  /** The columns, with their types, of Flagcast's views `v_realtime_events` that read the event log. */
  readonly viewColumns: Readonly<Partial<Record<ViewSchema, string>>>;
  /** The triggers on the host's tables; also if nothing is installed. */
  readonly triggers: readonly TriggerState[];
  /** The existing contract tables of the host or of install, by name. */
  readonly publicTables: Readonly<Record<string, PublicTable>>;
  /** The publications FOR ALL TABLES. */
  readonly publications: readonly string[];
  /** Flagcast's objects that exist, as lines such as `view flagcast.v_realtime_events`, in order. */
  readonly objects: readonly string[];
}

const stateStatement = `
WITH relations AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relowner, n.nspname AS schema
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname IN ('public', '${schemaName}')
), views AS (
  -- The public view is Flagcast's if it reads the other one, and that one if it reads the event log.
  SELECT v.schema, (
    SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = v.oid AND a.attnum > 0
  ) AS columns
  FROM relations v
  WHERE v.name = 'v_realtime_events' AND v.relkind = 'v' AND EXISTS (
    SELECT FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    JOIN relations o ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = o.oid
    WHERE r.ev_class = v.oid AND o.schema = '${schemaName}'
      AND o.name = CASE v.schema WHEN 'public' THEN 'v_realtime_events' ELSE 'event_log' END
  )
), functions AS (
  SELECT p.oid, p.proname::text AS name
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = '${schemaName}' AND p.proname = ANY ($2::text[])
), made AS (
  SELECT EXISTS (SELECT FROM relations WHERE schema = '${schemaName}' AND name = 'tables_version') AS tables
), objects AS (
  SELECT 'schema ${schemaName}' AS line FROM pg_catalog.pg_namespace WHERE nspname = '${schemaName}'
  UNION ALL
  SELECT 'table ' || schema || '.' || name FROM relations, made
  WHERE relkind = 'r' AND CASE schema WHEN 'public' THEN made.tables AND name = ANY ($1::text[]) ELSE name = ANY ($3::text[]) END
  UNION ALL
  SELECT 'function ${schemaName}.' || name || '()' FROM functions
  UNION ALL
  SELECT 'trigger ' || t.tgname || ' on ' || n.nspname || '.' || c.relname
    || CASE
      WHEN t.tgname = '${skipTrigger}' AND t.tgenabled NOT IN ('R', 'A') THEN ' (disabled)'
      WHEN t.tgname = ANY ($4::text[]) AND t.tgenabled NOT IN ('O', 'A') THEN ' (disabled)'
      ELSE ''
    END
  FROM pg_catalog.pg_trigger t
  JOIN functions f ON f.oid = t.tgfoid
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  -- PostgreSQL creates the triggers of partitions.
  WHERE t.tgparentid = 0
  UNION ALL
  SELECT 'view ' || schema || '.' || name FROM relations r
  WHERE name = 'v_realtime_events' AND relkind = 'v'
    AND (schema = '${schemaName}' OR EXISTS (SELECT FROM views v WHERE v.schema = 'public'))
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
  'viewColumns', (SELECT coalesce(json_object_agg(schema, columns), '{}') FROM views),
  'publicTables', (
    SELECT coalesce(json_object_agg(name, json_build_object(
      'owner', pg_get_userbyid(relowner),
      'owned', pg_has_role(relowner, 'USAGE'),
      'ownerIsMember', pg_has_role(relowner, current_user, 'USAGE'),
      'lacks', ARRAY(SELECT p FROM unnest('{SELECT,TRIGGER}'::text[]) p WHERE NOT has_table_privilege(oid, p))
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
  const functions = [...triggerFunctions, ...otherFunctions, ...contractFunctions];
  // JSON as text does not depend on the type parsers of the client.
  const states = await client.query<{ state: string }>(stateStatement, [
    contractTables,
    functions,
    dataTables,
    deletionTriggers,
  ]);
  const { rows } = await client.query<{ triggers: string }>(triggerStatement, [triggerParameter]);
  const state = JSON.parse(states.rows[0]?.state ?? '{}') as Omit<InstallState, 'triggers'>;
  return {
    ...state,
    triggers: JSON.parse(rows[0]?.triggers ?? '[]') as TriggerState[],
    objects: inOrder(state.objects),
  };
}

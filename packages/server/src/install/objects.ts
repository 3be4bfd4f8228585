import type pg from 'pg';
import {
  hostTriggers,
  triggerName,
  triggerParameter,
  triggerStatement,
  type TriggerState,
} from '../host/host-triggers.js';

/** The schema of all objects of Flagcast but the contract tables and the public view. */
export const schemaName = 'flagcast';

/** The columns of the two views, with their types, as they stand in `InstallState.viewColumns`. */
export const viewColumns = {
  [schemaName]: [
    'source text',
    'event_id text',
    'project_id text',
    'environment_id text',
    'environment_key text',
    'entity text',
    'entity_id text',
    'action text',
    'created_at timestamp with time zone',
    'xid bigint',
    'row_id text',
    'feature_id text',
    'pending_change_id text',
    'actor text',
  ],
  public: [
    'source text',
    'event_id text',
    'project_id uuid',
    'environment_id bigint',
    'environment_key text',
    'entity text',
    'entity_id uuid',
    'action text',
    'created_at timestamp with time zone',
  ],
} as const;

/** The contract tables that `install --tables` creates. */
export const contractTables = [
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
export const tableFunctions = [
  'create_environments',
  'create_feature_params',
  'refuse_second_open_change',
] as const;

/** The trigger functions. A repair drops them, and with them the triggers, wherever those are. */
export const triggerFunctions = [
  ...new Set(hostTriggers.map((trigger) => trigger.function)),
  'record_deletion',
  'skip_replicated',
] as const;

/** Our other functions. A repair replaces them: the host may have granted rights on them. */
export const otherFunctions = [
  'notify_reader',
  'feature_of',
  'record_event',
  'environment_key',
  'prune_event_log',
  'adopt_event_log',
] as const;

/** The environments that need approvals; uninstall drops it, a repair does not. */
export const guardTable = 'guarded_environments';

/** The roles that were granted rights. A repair keeps it, as the guards. */
export const roleTable = 'granted_roles';

/** What Flagcast stores in an attached database, in the order in which it is dropped. */
export const ownTables = ['event_log', 'log_state', guardTable, roleTable] as const;

/**
 * The tables that describe one database or cluster. Logical replication must not write them, so each has the
 * trigger `skipTriggerName`.
 */
export function localTables(withTables: boolean): string[] {
  return [
    'event_log',
    'log_state',
    roleTable,
    versionTables.flagcast,
    ...(withTables ? [versionTables.tables, versionTables.public] : []),
  ];
}

/** The name of the trigger that drops what logical replication writes. */
export const skipTriggerName = 'flagcast_skip_replicated';

/** The name of the triggers that record which rows of the event log are gone, before `_delete` and `_truncate`. */
export const deletionTriggerName = 'flagcast_record';

/** The newest version that Flagcast 0.1 installed: a view over the host's tables, and triggers that notify. */
export const lastLegacyVersion = 4;

/** The version table of each of the three folders of migrations. */
export const versionTables = {
  tables: 'tables_version',
  flagcast: 'schema_version',
  public: 'public_version',
} as const;

/** The state of a database that install and uninstall start from. */
export interface InstallState {
  /** As `server_version_num`, e.g. 180004. */
  readonly serverVersion: number;
  readonly database: string;
  readonly role: string;
  /** The owner of schema flagcast; null where there is no such schema. */
  readonly schemaOwner: string | null;
  /** Whether the role may act as that owner. */
  readonly ownsSchema: boolean;
  /** Whether Flagcast made the schema: it has the version table. */
  readonly installed: boolean;
  /** Whether install --tables made the contract tables. */
  readonly ownTables: boolean;
  readonly mayCreateSchema: boolean;
  readonly mayCreateInPublic: boolean;
  /** The names of the contract tables and view that exist in schema public. */
  readonly publicNames: readonly string[];
  /** The columns, with their types, of Flagcast's views `v_realtime_events`, by schema, in their order. */
  readonly viewColumns: Readonly<Record<keyof typeof viewColumns, readonly string[]>>;
  /** The triggers on the host's tables; also where nothing is installed. */
  readonly triggers: readonly TriggerState[];
  /** The tables, by name, that the role may alter as their owner. */
  readonly ownedTables: readonly string[];
  /** Flagcast's objects that exist, as lines such as `view flagcast.v_realtime_events`. */
  readonly objects: readonly string[];
}

const stateStatement = `
WITH own_schema AS (
  SELECT oid, nspowner FROM pg_catalog.pg_namespace WHERE nspname = '${schemaName}'
), public_schema AS (
  SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'public'
), own_relations AS (
  SELECT c.oid, c.relname::text AS name, c.relkind
  FROM pg_catalog.pg_class c JOIN own_schema s ON c.relnamespace = s.oid
), own_functions AS (
  SELECT p.oid, p.proname::text AS name
  FROM pg_catalog.pg_proc p JOIN own_schema s ON p.pronamespace = s.oid
  WHERE p.proname = ANY ($2::text[])
), public_relations AS (
  SELECT c.oid, c.relname::text AS name, c.relkind
  FROM pg_catalog.pg_class c JOIN public_schema s ON c.relnamespace = s.oid
  WHERE c.relname = ANY ($1::text[]) OR c.relname = 'v_realtime_events'
), made AS (
  SELECT EXISTS (SELECT FROM own_relations WHERE name = '${versionTables.tables}') AS tables
), objects AS (
  SELECT 1 AS place, 'schema ${schemaName}' AS line FROM own_schema
  UNION ALL
  SELECT 2, 'table public.' || name FROM public_relations, made
  WHERE made.tables AND relkind = 'r' AND name <> 'v_realtime_events'
  UNION ALL
  SELECT 3, 'function ${schemaName}.' || name || '()' FROM own_functions
  UNION ALL
  -- PostgreSQL creates those of partitions.
  SELECT 4, 'trigger ' || t.tgname || ' on ' || n.nspname || '.' || c.relname
    || CASE
      WHEN t.tgname = '${skipTriggerName}' AND t.tgenabled NOT IN ('R', 'A') THEN ' (switched off)'
      WHEN t.tgname LIKE '${deletionTriggerName}%' AND t.tgenabled NOT IN ('O', 'A') THEN ' (switched off)'
      ELSE ''
    END
  FROM pg_catalog.pg_trigger t
  JOIN own_functions f ON f.oid = t.tgfoid
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE t.tgparentid = 0
  UNION ALL
  SELECT 5, 'view ${schemaName}.v_realtime_events' FROM own_relations WHERE name = 'v_realtime_events' AND relkind = 'v'
  UNION ALL
  SELECT 2, 'table ${schemaName}.' || name FROM own_relations
  WHERE name IN (${ownTables.map((name) => `'${name}'`).join(', ')}) AND relkind = 'r'
  UNION ALL
  -- The public view is Flagcast's where it reads the other one.
  SELECT 6, 'view public.v_realtime_events'
  FROM public_relations v
  WHERE v.name = 'v_realtime_events' AND EXISTS (
    SELECT FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    JOIN own_relations o ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = o.oid
    WHERE r.ev_class = v.oid AND o.name = 'v_realtime_events'
  )
)
SELECT json_build_object(
  'serverVersion', current_setting('server_version_num')::int,
  'database', current_database(),
  'role', current_user,
  'schemaOwner', (SELECT pg_get_userbyid(nspowner) FROM own_schema),
  'ownsSchema', coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM own_schema), false),
  'installed', EXISTS (SELECT FROM own_relations WHERE name = '${versionTables.flagcast}'),
  'ownTables', (SELECT tables FROM made),
  'mayCreateSchema', has_database_privilege(current_database(), 'CREATE'),
  'mayCreateInPublic', coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM public_schema), false),
  'viewColumns', json_build_object(
    '${schemaName}', (
      SELECT coalesce(json_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '[]')
      FROM own_relations o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0
      WHERE o.name = 'v_realtime_events' AND o.relkind = 'v' AND EXISTS (
        SELECT FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
        JOIN own_relations l ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = l.oid
        WHERE r.ev_class = o.oid AND l.name = 'event_log'
      )
    ),
    'public', (
      SELECT coalesce(json_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '[]')
      FROM public_relations v JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
      WHERE v.name = 'v_realtime_events' AND EXISTS (SELECT FROM objects WHERE line = 'view public.v_realtime_events')
    )
  ),
  'ownedTables', (
    SELECT coalesce(json_agg(c.relname), '[]') FROM pg_catalog.pg_class c JOIN public_schema s ON c.relnamespace = s.oid
    WHERE c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')
  ),
  'publicNames', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM public_relations),
  'objects', (SELECT coalesce(json_agg(line ORDER BY place, line), '[]') FROM objects)
)::text AS state`;

/** Reads the catalogue only, and needs no right for it. */
export async function readInstallState(client: pg.ClientBase): Promise<InstallState> {
  // JSON as text does not depend on the type parsers of the client.
  const functions = [...triggerFunctions, ...otherFunctions, ...tableFunctions, 'wake'];
  const { rows } = await client.query<{ state: string }>(stateStatement, [contractTables, functions]);
  const triggers = await readTriggers(client);
  const [row] = rows;
  if (row === undefined) throw new Error('the catalogue query answered no row');
  return { ...(JSON.parse(row.state) as Omit<InstallState, 'triggers'>), triggers };
}

/** The host's tables, with the triggers that they have. */
async function readTriggers(client: pg.ClientBase): Promise<TriggerState[]> {
  const { rows } = await client.query<{ triggers: string }>(triggerStatement, [triggerParameter]);
  return JSON.parse(rows[0]?.triggers ?? '[]') as TriggerState[];
}

/** The objects that the migrations of each folder create, by version, as in InstallState.objects. */
const objectsByVersion: Readonly<
  Record<keyof typeof versionTables, Readonly<Record<number, readonly string[]>>>
> = {
  tables: {
    1: contractTables.map((table) => `table public.${table}`),
    2: [
      ...tableFunctions.map((name) => `function ${schemaName}.${name}()`),
      'trigger create_environments on public.projects',
      'trigger create_feature_params on public.environments',
      'trigger create_feature_params on public.features',
      'trigger refuse_second_open_change on public.pending_change_entities',
    ],
  },
  flagcast: {
    3: [`table ${schemaName}.${guardTable}`],
    4: [`table ${schemaName}.${roleTable}`],
    5: ownTables.map((table) => `table ${schemaName}.${table}`),
    6: [
      ...[...triggerFunctions, ...otherFunctions].map((name) => `function ${schemaName}.${name}()`),
      `view ${schemaName}.v_realtime_events`,
    ],
  },
  public: { 2: ['view public.v_realtime_events'] },
};

/** The objects that the migrations of `track` after version `above`, up to version `upTo`, create. */
export function objectsOf(track: keyof typeof versionTables, above: number, upTo: number): string[] {
  const made = Object.entries(objectsByVersion[track]).flatMap(([version, objects]) =>
    Number(version) > above && Number(version) <= upTo ? objects : [],
  );
  return [...new Set(made)];
}

/** The trigger on a table of the host, as in InstallState.objects. */
export function triggerObject(table: string): string {
  return `trigger ${triggerName} on public.${table}`;
}

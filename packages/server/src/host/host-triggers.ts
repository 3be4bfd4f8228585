/** A trigger that `install` makes on a table of the host. */
export interface HostTrigger {
  /** In schema public. */
  readonly table: string;
  readonly events: string;
  /** In schema flagcast. */
  readonly function: string;
  /** The table of the host that the function reads with the rights of its owner. */
  readonly reads?: string;
  /** Whether a database without the table has nothing to attach to; else the trigger is left out. */
  readonly required: boolean;
}

/** The name of each of them. */
export const triggerName = 'flagcast_log';

/** All of them AFTER ... FOR EACH ROW, without column lists and conditions, which would pin the host's columns. */
export const hostTriggers: readonly HostTrigger[] = [
  { table: 'audit_log', events: 'INSERT', function: 'log_audit', required: true },
  {
    table: 'pending_change_entities',
    events: 'INSERT',
    function: 'log_request',
    reads: 'pending_changes',
    required: true,
  },
  {
    table: 'pending_changes',
    events: 'UPDATE OR DELETE',
    function: 'log_decision',
    reads: 'pending_change_entities',
    required: true,
  },
  { table: 'environments', events: 'UPDATE OR DELETE', function: 'log_channel', required: true },
  { table: 'projects', events: 'UPDATE OR DELETE', function: 'log_channel', required: false },
  { table: 'memberships', events: 'INSERT OR UPDATE OR DELETE', function: 'log_rights', required: false },
  {
    table: 'role_permissions',
    events: 'INSERT OR UPDATE OR DELETE',
    function: 'log_rights',
    required: false,
  },
  { table: 'users', events: 'UPDATE OR DELETE', function: 'log_rights', required: false },
];

/** The columns that the trigger functions read, by table. */
const loggedColumns: Readonly<Record<string, readonly string[]>> = {
  environments: ['id', 'key', 'project_id'],
  audit_log: [
    ...['id', 'feature_id', 'entity', 'entity_id', 'actor', 'username', 'action'],
    ...['project_id', 'environment_id', 'created_at'],
  ],
  pending_changes: [
    ...['id', 'project_id', 'environment_id', 'requested_by', 'change', 'status'],
    ...['approved_by', 'rejected_by'],
  ],
  pending_change_entities: ['pending_change_id', 'entity', 'entity_id', 'created_at'],
};

/** A trigger as it is in the database. */
export interface TriggerState {
  readonly table: string;
  /** Null where the table does not exist. */
  readonly relation: string | null;
  /** The partitions, or tables that inherit from it, that the trigger is missing or disabled on, by name. */
  readonly partitions: readonly string[];
  /** `tgenabled`: O (origin), A (always), R (replica), D (disabled); null where there is no trigger. */
  readonly enabled: string | null;
  /** The owner of the function, if it may not read the table that the function reads; else null. */
  readonly blindOwner: string | null;
  /** Columns that the trigger function reads and the table does not have. */
  readonly missingColumns: readonly string[];
  /** Changes whenever the trigger is created, disabled or enabled. */
  readonly version: string;
}

/**
 * The state of each trigger of `hostTriggers`, as JSON text, in their order. Reads the catalogue only, and needs
 * no right for it: to_regclass would need USAGE on the schema. `$1` is `triggerParameter`.
 *
 * A table can have rows in its partitions and in tables that inherit from it. PostgreSQL creates a trigger on a partition
 * in the transaction that makes it one, which says nothing about earlier events: only later changes belong to the version.
 */
export const triggerStatement = `
SELECT coalesce(json_agg(json_build_object(
  'table', w."table",
  'relation', c.oid::text,
  'enabled', t.tgenabled,
  'version', concat_ws('/', c.oid, t.oid, t.xmin, t.tgenabled, children.version, nullif(children.unlogged::text, '[]'),
    blind.owner),
  'partitions', children.unlogged,
  'blindOwner', blind.owner,
  'missingColumns', (
    SELECT coalesce(json_agg(wanted), '[]') FROM jsonb_array_elements_text(w.columns) wanted
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = wanted AND NOT a.attisdropped
    )
  )
) ORDER BY w.place), '[]')::text AS triggers
FROM jsonb_to_recordset($1::jsonb) AS w (place int, "table" text, "function" text, reads text, columns jsonb)
LEFT JOIN pg_class c ON c.relname = w."table" AND c.relkind IN ('r', 'p')
  AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
LEFT JOIN pg_proc f ON f.proname = w."function" AND f.pronargs = 0
  AND f.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'flagcast')
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = f.oid AND NOT t.tgisinternal
LEFT JOIN LATERAL (
  SELECT pg_get_userbyid(f.proowner) AS owner FROM pg_class r
  WHERE r.relnamespace = c.relnamespace AND r.relname = w.reads AND NOT (
    has_table_privilege(f.proowner, r.oid, 'SELECT') AND has_schema_privilege(f.proowner, r.relnamespace, 'USAGE')
  )
) AS blind ON true
CROSS JOIN LATERAL (
  WITH RECURSIVE tree AS (
    SELECT i.inhrelid AS oid, i.xmin AS made FROM pg_inherits i WHERE c.relhassubclass AND i.inhparent = c.oid
    UNION
    SELECT i.inhrelid, i.xmin FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
  )
  SELECT coalesce(json_agg(leaf.oid::regclass::text ORDER BY leaf.oid) FILTER (WHERE own.oid IS NULL), '[]') AS unlogged,
    (array_agg(own.xmin::text ORDER BY age(own.xmin)) FILTER (WHERE own.xmin <> tree.made))[1] AS version
  FROM tree JOIN pg_class leaf ON leaf.oid = tree.oid AND leaf.relkind <> 'p' AND leaf.relpersistence <> 't'
  LEFT JOIN pg_trigger own ON own.tgrelid = leaf.oid AND own.tgfoid = f.oid AND own.tgenabled IN ('O', 'A')
) AS children`;

/** The parameter of `triggerStatement`. */
export const triggerParameter = JSON.stringify(
  hostTriggers.map(({ table, function: name, reads }, place) => ({
    place,
    table,
    function: name,
    reads,
    columns: loggedColumns[table] ?? [],
  })),
);

/** The first problem of the triggers, in one line; null if events are logged. */
export function triggerProblem(triggers: readonly TriggerState[]): string | null {
  for (const { table, relation, enabled, partitions, blindOwner, missingColumns } of triggers) {
    const found = hostTriggers.find((trigger) => trigger.table === table);
    const name = `public.${table}`;
    if (relation === null) {
      if (found?.required === true) return `the table ${name} does not exist`;
    } else if (enabled === null) {
      return `the table ${name} does not have the trigger ${triggerName} (was the table replaced?)`;
    } else if (enabled !== 'O' && enabled !== 'A') {
      return `the trigger ${triggerName} on ${name} is disabled`;
    } else if (partitions.length > 0) {
      return `the table ${partitions[0] ?? ''}, which has rows of ${name}, does not have the trigger ${triggerName}, or it is disabled`;
    } else if (blindOwner !== null) {
      return `role ${blindOwner}, which owns the trigger function of ${name}, may not read public.${found?.reads ?? ''}`;
    } else if (missingColumns.length > 0) {
      return `the table ${name} has no column ${missingColumns.join(', ')}, which the trigger ${triggerName} reads`;
    }
  }
  return null;
}

import pg from 'pg';

/** A privilege that the server's role needs. */
interface Grant {
  /** How flagcast.granted_roles records it, e.g. `table public.features`, or `write table public.features`. */
  readonly name: string;
  /** E.g. `public.features`. */
  readonly object: string;
  /** The text between GRANT and TO, or REVOKE and FROM. */
  readonly right: string;
  /** What the server uses it for. */
  readonly purpose: string;
  /** `extra`: the server works without it. `write`: only for changes. */
  readonly need: 'serve' | 'extra' | 'write';
}

/** A privilege, and its state in a database. */
export interface GrantState extends Grant {
  /** Whether its object exists. */
  readonly exists: boolean;
  /** Whether the role has it, also as a member of another role. */
  readonly held: boolean;
  /** Whether the session's role may grant and revoke it. */
  readonly grantable: boolean;
}

interface NeededOptions {
  readonly database: string;
  /** Whether install created the tables. */
  readonly ownTables: boolean;
  /** Whether tokens identify users by their e-mail address. Default false. */
  readonly byEmail?: boolean;
  /** Whether the server accepts changes. Default false. */
  readonly writes?: boolean;
}

/** A right, what the server uses it for, and whether it needs it. Default `serve`. */
type GrantRow = readonly [right: string, purpose: string, need?: Grant['need']];

const featureState = 'the state of a feature in events and snapshots';
const requests = 'open requests in snapshots';
const access = 'access to projects';
const lists = 'the rules, variants, schedules and tags of features';
const tags = `which features are guarded by their tag; ${lists}`;
const approvers = "who may approve in Togglr's database";

/** Every privilege that a role for `flagcast serve` needs, in the order in which they are granted. */
function neededGrants({ database, ownTables, byEmail = false, writes = false }: NeededOptions): GrantRow[] {
  // Flagcast's sign-in accepts hashes of its own scheme only.
  const [password, signIn] = ownTables ? [', password_hash', '; sign-in'] : ['', ''];
  const reads: readonly GrantRow[] = [
    [`CONNECT ON DATABASE ${pg.escapeIdentifier(database)}`, 'to connect'],
    ['USAGE ON SCHEMA flagcast', 'all reads'],
    ['SELECT ON TABLE flagcast.event_log', 'the events'],
    ['SELECT ON TABLE flagcast.request_steps', 'the steps of requests', 'extra'],
    ['SELECT ON TABLE flagcast.log_state', 'how far the event log reaches'],
    ['EXECUTE ON FUNCTION flagcast.prune_event_log(interval, integer)', 'deletes old rows of the event log'],
    [
      'EXECUTE ON FUNCTION flagcast.adopt_event_log()',
      'starts a new event log after a restored dump or pg_upgrade',
    ],
    ['SELECT ON TABLE flagcast.v_realtime_events', 'the events, for manual queries', 'extra'],
    ['SELECT ON TABLE flagcast.guarded_environments', 'environments whose changes need approval'],
    [
      'SELECT ON TABLE flagcast.schema_version',
      'flagcast doctor: whether the installation is up to date',
      'extra',
    ],
    ['USAGE ON SCHEMA public', 'all reads'],
    ['SELECT ON TABLE public.projects', 'channels, and access to them'],
    ['SELECT ON TABLE public.environments', 'channels'],
    ['SELECT ON TABLE public.features', featureState],
    ['SELECT ON TABLE public.feature_params', featureState],
    ['SELECT ON TABLE public.pending_changes', requests],
    ['SELECT ON TABLE public.pending_change_entities', requests],
    ['SELECT ON TABLE public.audit_log', 'the history in the console'],
    ['SELECT ON TABLE public.memberships', access],
    ['SELECT ON TABLE public.role_permissions', access],
    ['SELECT ON TABLE public.permissions', access],
    [
      `SELECT (id, username, is_active, is_superuser${password}) ON TABLE public.users`,
      `the user of a token${signIn}`,
    ],
    // Tables that the server reads if the host has them.
    ['SELECT ON TABLE public.tags', tags, 'extra'],
    ['SELECT ON TABLE public.feature_tags', tags, 'extra'],
    ['SELECT ON TABLE public.roles', approvers, 'extra'],
    ['SELECT ON TABLE public.project_approvers', approvers, 'extra'],
    ['SELECT ON TABLE public.rules', lists, 'extra'],
    ['SELECT ON TABLE public.segments', lists, 'extra'],
    ['SELECT ON TABLE public.flag_variants', lists, 'extra'],
    ['SELECT ON TABLE public.feature_schedules', lists, 'extra'],
  ];
  const email = 'the user of a token, by the e-mail address';
  return [
    ...reads,
    ...(byEmail ? [['SELECT (email) ON TABLE public.users', email] as const] : []),
    ...(writes ? writeGrants : []),
  ];
}

/** The privileges for changes through the console and the REST API, in addition to those for reads. */
const writeGrants: readonly GrantRow[] = [
  ['INSERT, UPDATE, DELETE ON TABLE public.features', 'changes', 'write'],
  ['INSERT, UPDATE, DELETE ON TABLE public.feature_params', 'changes', 'write'],
  ['INSERT, UPDATE ON TABLE public.pending_changes', 'changes', 'write'],
  ['INSERT, UPDATE ON TABLE public.pending_change_entities', 'changes', 'write'],
  ['INSERT ON TABLE public.audit_log', 'changes', 'write'],
  ['INSERT, DELETE ON TABLE flagcast.guarded_environments', 'changes', 'write'],
  ['USAGE ON SEQUENCE public.audit_log_id_seq', 'changes', 'write'],
  ['INSERT, UPDATE, DELETE ON TABLE public.rules', 'approvals of changes of rules', 'write'],
  ['INSERT, UPDATE, DELETE ON TABLE public.feature_schedules', 'approvals of changes of schedules', 'write'],
  ['SELECT (password_hash, two_fa_enabled) ON TABLE public.users', "approvals in Togglr's database", 'write'],
];

/** The grant with its object, as `stateStatement` looks it up. */
function parseGrant([right, purpose, need = 'serve']: GrantRow): Grant & Readonly<Record<string, unknown>> {
  const pattern = /^([A-Z, ]+?)(?: \((.*)\))? ON (\w+) (?:(\w+)\.)?(.*)$/;
  const [, privileges = '', columns, type = '', schema, relation = ''] = pattern.exec(right) ?? [];
  const kind = columns === undefined ? type.toLowerCase() : 'columns';
  const place = schema === undefined ? { schema: relation } : { schema, relation };
  const object = Object.values(place).join('.');
  const name = kind === 'database' ? kind : `${kind} ${object}`;
  return {
    name: need === 'write' ? `write ${name}` : name,
    object,
    right,
    purpose,
    need,
    kind,
    ...place,
    columns: columns?.split(', '),
    privileges: privileges.split(', '),
  };
}

/**
 * `$1` the grants, `$2` the role (null: a role that does not exist yet, which has the privileges of PUBLIC). The sequence
 * of an identity column needs no privilege.
 */
const stateStatement = `
SELECT json_agg(json_build_object(
  'exists', CASE s.kind
    WHEN 'schema' THEN n.oid IS NOT NULL
    WHEN 'table' THEN c.oid IS NOT NULL
    WHEN 'function' THEN f.oid IS NOT NULL
    WHEN 'sequence' THEN c.oid IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
    WHEN 'columns' THEN a.names @> s.columns
    ELSE true
  END,
  'held', coalesce(held, false),
  'grantable', coalesce(grantable, false)
) ORDER BY s.place)::text AS states
FROM ROWS FROM (jsonb_to_recordset($1::jsonb)
  AS (kind text, "schema" text, relation text, columns text[], privileges text[])) WITH ORDINALITY
  AS s (kind, "schema", relation, columns, privileges, place)
LEFT JOIN pg_namespace n ON n.nspname = s.schema
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.relation
LEFT JOIN pg_proc f ON f.pronamespace = n.oid AND f.proname || '(' || oidvectortypes(f.proargtypes) || ')' = s.relation
CROSS JOIN LATERAL (
  SELECT array_agg(attname::text) AS names FROM pg_attribute WHERE attrelid = c.oid AND attname = ANY (s.columns) AND NOT attisdropped
) AS a
CROSS JOIN LATERAL (
  SELECT bool_and(has_it) FILTER (WHERE who.option = '') AS held, bool_and(has_it) FILTER (WHERE who.option <> '') AS grantable
  FROM (VALUES (coalesce($2::name, 'public'), ''), (current_user, ' WITH GRANT OPTION')) AS who (name, option)
  CROSS JOIN LATERAL (SELECT p || who.option FROM unnest(s.privileges) p) AS q (privilege)
  CROSS JOIN LATERAL (SELECT CASE s.kind
    WHEN 'database' THEN has_database_privilege(who.name, current_database(), privilege)
    WHEN 'schema' THEN has_schema_privilege(who.name, n.oid, privilege)
    WHEN 'table' THEN has_table_privilege(who.name, c.oid, privilege)
    WHEN 'sequence' THEN has_sequence_privilege(who.name, c.oid, privilege)
    WHEN 'columns' THEN (SELECT bool_and(has_column_privilege(who.name, c.oid, col, privilege)) FROM unnest(a.names) col)
    WHEN 'function' THEN has_function_privilege(who.name, f.oid, privilege)
  END) AS r (has_it)
) AS privileges`;

/**
 * The state of every privilege that a role for the server needs, for `role` (null: a role that does not exist yet).
 * Reads only the catalogue, for which no privilege is needed.
 */
export async function readGrants(
  client: pg.ClientBase,
  options: NeededOptions & { readonly role: string | null },
): Promise<GrantState[]> {
  const needed = neededGrants(options).map(parseGrant);
  const { rows } = await client.query<{ states: string }>(stateStatement, [
    JSON.stringify(needed),
    options.role,
  ]);
  const states = JSON.parse(rows[0]?.states ?? '[]') as Pick<GrantState, 'exists' | 'held' | 'grantable'>[];
  return states.map((state, index) => ({ ...needed[index], ...state }) as GrantState);
}

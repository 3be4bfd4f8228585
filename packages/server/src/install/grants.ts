import pg from 'pg';
import { schemaName } from './sql-files.js';

/** A privilege that the server's role needs. */
interface Grant {
  /** How flagcast.granted_roles records it, e.g. `table public.features`. */
  readonly name: string;
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

/** A grant with its object, as `stateStatement` looks it up. */
interface NeededGrant extends Grant {
  readonly kind: string;
  readonly schema: string | undefined;
  readonly relation: string | undefined;
  readonly columns: readonly string[] | undefined;
  readonly privileges: readonly string[];
}

interface GrantOptions {
  /** Default `serve`. */
  readonly need?: Grant['need'];
  /** Default: SELECT on tables, EXECUTE on functions, else USAGE. */
  readonly privileges?: readonly string[];
  readonly columns?: readonly string[];
}

/** The grant with a name such as `table public.features`, `function flagcast.f(integer)`, `columns public.users`. */
function grant(name: string, purpose: string, options: GrantOptions = {}): NeededGrant {
  const { need = 'serve', columns } = options;
  const [, kind = '', schema, relation] = /(\w+) (\w+)(?:\.(\w+(?:\(.*\))?))?/.exec(name) ?? [];
  const privileges = options.privileges ?? [
    { table: 'SELECT', columns: 'SELECT', function: 'EXECUTE' }[kind] ?? 'USAGE',
  ];
  const object = relation === undefined ? schema : `${schema}.${relation}`;
  const right =
    columns === undefined
      ? `${privileges.join(', ')} ON ${kind.toUpperCase()} ${object}`
      : `SELECT (${columns.join(', ')}) ON TABLE ${object}`;
  return { name, right, purpose, need, kind, schema, relation, columns, privileges };
}

const state = 'the state of a feature in events and snapshots';
const requests = 'open requests in snapshots';
const access = 'access to projects';
const lists = 'the rules, variants, schedules and tags of features';
const tags = `which features are guarded by their tag; ${lists}`;
const approvers = "who may approve in Togglr's database";
const extra: GrantOptions = { need: 'extra' };

/** The privileges for changes through the console and the REST API, in addition to those for reads. */
const writeGrants: readonly NeededGrant[] = [
  ...Object.entries({
    'public.features': ['INSERT', 'UPDATE', 'DELETE'],
    'public.feature_params': ['INSERT', 'UPDATE', 'DELETE'],
    'public.pending_changes': ['INSERT', 'UPDATE'],
    'public.pending_change_entities': ['INSERT', 'UPDATE'],
    'public.audit_log': ['INSERT'],
    [`${schemaName}.guarded_environments`]: ['INSERT', 'DELETE'],
  }).map(([table, privileges]) => ({
    ...grant(`table ${table}`, 'changes', { need: 'write', privileges }),
    name: `changes of table ${table}`,
  })),
  grant('sequence public.audit_log_id_seq', 'changes', { need: 'write' }),
  grant('columns public.users (password_hash, two_fa_enabled)', "approvals in Togglr's database", {
    need: 'write',
    columns: ['password_hash', 'two_fa_enabled'],
  }),
];

/** Every privilege that a role for `flagcast serve` needs, in the order in which they are granted. */
function neededGrants({
  database,
  ownTables,
  byEmail = false,
  writes = false,
}: NeededOptions): NeededGrant[] {
  // Flagcast's sign-in accepts hashes of its own scheme only.
  const columns = ['id', 'username', 'is_active', 'is_superuser', ...(ownTables ? ['password_hash'] : [])];
  const email = 'the user of a token, by the e-mail address';
  return [
    {
      ...grant('database', 'to connect', { privileges: ['CONNECT'] }),
      right: `CONNECT ON DATABASE ${pg.escapeIdentifier(database)}`,
      kind: 'database',
    },
    grant(`schema ${schemaName}`, 'all reads'),
    grant(`table ${schemaName}.event_log`, 'the events'),
    grant(`table ${schemaName}.request_steps`, 'the steps of requests', extra),
    grant(`table ${schemaName}.log_state`, 'how far the event log reaches'),
    grant(`function ${schemaName}.prune_event_log(interval, integer)`, 'deletes old rows of the event log'),
    grant(
      `function ${schemaName}.adopt_event_log()`,
      'starts a new event log after a restored dump or pg_upgrade',
    ),
    grant(`table ${schemaName}.v_realtime_events`, 'the events, for manual queries', extra),
    grant(`table ${schemaName}.guarded_environments`, 'environments whose changes need approval'),
    grant(
      `table ${schemaName}.schema_version`,
      'flagcast doctor: whether the installation is up to date',
      extra,
    ),
    grant('schema public', 'all reads'),
    grant('table public.projects', 'channels, and access to them'),
    grant('table public.environments', 'channels'),
    grant('table public.features', state),
    grant('table public.feature_params', state),
    grant('table public.pending_changes', requests),
    grant('table public.pending_change_entities', requests),
    grant('table public.audit_log', 'the history in the console'),
    grant('table public.memberships', access),
    grant('table public.role_permissions', access),
    grant('table public.permissions', access),
    grant('columns public.users', `the user of a token${ownTables ? '; sign-in' : ''}`, { columns }),
    // Tables that the server reads if the host has them.
    grant('table public.tags', tags, extra),
    grant('table public.feature_tags', tags, extra),
    grant('table public.roles', approvers, extra),
    grant('table public.project_approvers', approvers, extra),
    ...['rules', 'segments', 'flag_variants', 'feature_schedules'].map((table) =>
      grant(`table public.${table}`, lists, extra),
    ),
    ...(byEmail ? [grant('columns public.users (email)', email, { columns: ['email'] })] : []),
    ...(writes ? writeGrants : []),
  ];
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
  const needed = neededGrants(options);
  const { rows } = await client.query<{ states: string }>(stateStatement, [
    JSON.stringify(needed),
    options.role,
  ]);
  const states = JSON.parse(rows[0]?.states ?? '[]') as Pick<GrantState, 'exists' | 'held' | 'grantable'>[];
  return needed.map(({ name, right, purpose, need }, index) => ({
    ...{ name, right, purpose, need },
    ...(states[index] ?? { exists: false, held: false, grantable: false }),
  }));
}

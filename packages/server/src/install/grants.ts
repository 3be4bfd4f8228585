import pg from 'pg';
import { schemaName, versionTables } from './objects.js';

/** A right that the server's role needs. */
interface Grant {
  /** How the database records it, e.g. `table public.features`. */
  readonly name: string;
  /** The text between GRANT and TO, or REVOKE and FROM. */
  readonly right: string;
  /** What the server uses it for. */
  readonly purpose: string;
  /** `extra`: the server works without it. `write`: only for a server that takes changes. */
  readonly need: 'serve' | 'extra' | 'write';
}

/** A right, and its state in a database. */
export interface GrantState extends Grant {
  /** Whether its object exists. */
  readonly exists: boolean;
  /** Whether the role has it, also as a member of another role. */
  readonly held: boolean;
  /** Whether the session's role may grant it. */
  readonly grantable: boolean;
}

interface NeededOptions {
  readonly database: string;
  /** Whether install made the tables. */
  readonly ownTables: boolean;
  /** Whether tokens name users by their e-mail address. Default false. */
  readonly byEmail?: boolean;
  /** Whether the server takes changes. Default false. */
  readonly writes?: boolean;
}

interface Subject {
  readonly kind: 'database' | 'schema' | 'table' | 'columns' | 'sequence' | 'function';
  readonly schema?: string;
  /** Of a function its name with the types of its arguments, e.g. `f(interval, integer)`. */
  readonly relation?: string;
  readonly columns?: readonly string[];
  /** Of a table. Default: SELECT. */
  readonly privileges?: readonly string[];
}

/** The tables of the host that the server reads, and what for. */
const servedTables: Readonly<Record<string, string>> = {
  projects: 'channels, and access to them',
  environments: 'channels',
  features: 'the state of a feature in events and snapshots',
  feature_params: 'the state of a feature in events and snapshots',
  pending_changes: 'open requests in snapshots',
  pending_change_entities: 'open requests in snapshots',
  audit_log: 'the history in the console',
  memberships: 'access to projects',
  role_permissions: 'access to projects',
  permissions: 'access to projects',
};

/** Shown with a feature where the host has them. */
const partTables = ['rules', 'feature_schedules'];

/** Read where the host has them, for changes through Flagcast's API. */
const guardTables: Readonly<Record<string, string>> = {
  tags: 'which features are guarded by their tag',
  feature_tags: 'which features are guarded by their tag',
  roles: "who may approve in Togglr's database",
  project_approvers: "who may approve in Togglr's database",
};

/** The columns of users that are read; not the e-mail address. */
const userColumns = ['id', 'username', 'is_active', 'is_superuser'];

/** What changes through the console and the REST API write. */
const writtenTables: readonly (readonly [schema: string, table: string, privileges: readonly string[]])[] = [
  ['public', 'features', ['INSERT', 'UPDATE', 'DELETE']],
  ['public', 'feature_params', ['INSERT', 'UPDATE', 'DELETE']],
  ['public', 'pending_changes', ['INSERT', 'UPDATE']],
  ['public', 'pending_change_entities', ['INSERT', 'UPDATE']],
  ['public', 'audit_log', ['INSERT']],
  [schemaName, 'guarded_environments', ['INSERT', 'DELETE']],
];

interface NeededGrant {
  readonly grant: Grant;
  readonly subject: Subject;
}

const usersGrant = (columns: readonly string[], purpose: string, need: Grant['need']): NeededGrant => ({
  grant: {
    name: `columns public.users (${columns.join(', ')})`,
    right: `SELECT (${columns.join(', ')}) ON TABLE public.users`,
    purpose,
    need,
  },
  subject: { kind: 'columns', schema: 'public', relation: 'users', columns },
});

/** The rights that a server needs for changes, beside those for reads. */
function writeGrants(): NeededGrant[] {
  const purpose = 'changes';
  const sequence = 'audit_log_id_seq';
  return [
    ...writtenTables.map(([schema, relation, privileges]): NeededGrant => ({
      grant: {
        name: `changes of table ${schema}.${relation}`,
        right: `${privileges.join(', ')} ON TABLE ${schema}.${relation}`,
        purpose,
        need: 'write',
      },
      subject: { kind: 'table', schema, relation, privileges },
    })),
    {
      grant: {
        name: `sequence public.${sequence}`,
        right: `USAGE ON SEQUENCE public.${sequence}`,
        purpose,
        need: 'write',
      },
      subject: { kind: 'sequence', schema: 'public', relation: sequence },
    },
    usersGrant(['password_hash', 'two_fa_enabled'], "approvals in Togglr's database", 'write'),
  ];
}

/** Every right that a role for `flagcast serve` needs, in the order in which they are given. */
function neededGrants({
  database,
  ownTables,
  byEmail = false,
  writes = false,
}: NeededOptions): NeededGrant[] {
  const table = (
    schema: string,
    relation: string,
    purpose: string,
    need: Grant['need'] = 'serve',
  ): { grant: Grant; subject: Subject } => ({
    grant: {
      name: `table ${schema}.${relation}`,
      right: `SELECT ON TABLE ${schema}.${relation}`,
      purpose,
      need,
    },
    subject: { kind: 'table', schema, relation },
  });
  const schema = (name: string): { grant: Grant; subject: Subject } => ({
    grant: { name: `schema ${name}`, right: `USAGE ON SCHEMA ${name}`, purpose: 'all reads', need: 'serve' },
    subject: { kind: 'schema', schema: name },
  });
  const routine = (signature: string, purpose: string): { grant: Grant; subject: Subject } => ({
    grant: {
      name: `function ${schemaName}.${signature}`,
      right: `EXECUTE ON FUNCTION ${schemaName}.${signature}`,
      purpose,
      need: 'serve',
    },
    subject: { kind: 'function', schema: schemaName, relation: signature },
  });
  // Flagcast's sign-in accepts hashes of its own scheme only.
  const columns = ownTables ? [...userColumns, 'password_hash'] : userColumns;
  return [
    {
      grant: {
        name: 'database',
        right: `CONNECT ON DATABASE ${pg.escapeIdentifier(database)}`,
        purpose: 'to connect',
        need: 'serve',
      },
      subject: { kind: 'database' },
    },
    schema(schemaName),
    table(schemaName, 'event_log', 'the events'),
    table(schemaName, 'log_state', 'how far the event log reaches'),
    routine('prune_event_log(interval, integer)', 'deletes old rows of the event log'),
    routine('adopt_event_log()', 'starts a new event log after a restored dump or pg_upgrade'),
    table(schemaName, 'v_realtime_events', 'the events, for queries by hand', 'extra'),
    table(schemaName, 'guarded_environments', 'environments that wait for approval'),
    table(
      schemaName,
      versionTables.flagcast,
      'flagcast doctor: whether the installation is up to date',
      'extra',
    ),
    schema('public'),
    ...Object.entries(servedTables).map(([name, purpose]) => table('public', name, purpose)),
    {
      grant: {
        name: 'columns public.users',
        right: `SELECT (${columns.join(', ')}) ON TABLE public.users`,
        purpose: `the user of a token${ownTables ? '; sign-in' : ''}`,
        need: 'serve',
      },
      subject: { kind: 'columns', schema: 'public', relation: 'users', columns },
    },
    ...Object.entries(guardTables).map(([name, purpose]) => table('public', name, purpose, 'extra')),
    ...partTables.map((name) => table('public', name, 'the parts of a feature', 'extra')),
    ...(byEmail ? [usersGrant(['email'], 'the user of a token, by the e-mail address', 'serve')] : []),
    ...(writes ? writeGrants() : []),
  ];
}

/** `$1` the subjects, `$2` the role (null: one that does not exist yet, which has the rights of PUBLIC). */
const stateStatement = `
SELECT coalesce(json_agg(json_build_object(
  'name', s.name,
  'exists', CASE s.kind
    WHEN 'schema' THEN n.oid IS NOT NULL
    WHEN 'table' THEN c.oid IS NOT NULL
    WHEN 'function' THEN f.oid IS NOT NULL
    -- That of an identity column needs no right of its own.
    WHEN 'sequence' THEN c.oid IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
    WHEN 'columns' THEN (SELECT count(*) = cardinality(s.columns) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attname = ANY (s.columns) AND NOT a.attisdropped)
    ELSE true
  END,
  'held', CASE s.kind
    WHEN 'database' THEN has_database_privilege(who.name, current_database(), 'CONNECT')
    WHEN 'schema' THEN has_schema_privilege(who.name, n.oid, 'USAGE')
    WHEN 'table' THEN (SELECT bool_and(has_table_privilege(who.name, c.oid, p)) FROM unnest(coalesce(s.privileges, '{SELECT}')) p)
    WHEN 'sequence' THEN has_sequence_privilege(who.name, c.oid, 'USAGE')
    WHEN 'columns' THEN (SELECT bool_and(has_column_privilege(who.name, c.oid, a.attnum, 'SELECT')) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attname = ANY (s.columns) AND NOT a.attisdropped)
    ELSE has_function_privilege(who.name, f.oid, 'EXECUTE')
  END,
  'grantable', CASE s.kind
    WHEN 'database' THEN has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION')
    WHEN 'schema' THEN has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
    WHEN 'table' THEN (SELECT bool_and(has_table_privilege(c.oid, p || ' WITH GRANT OPTION')) FROM unnest(coalesce(s.privileges, '{SELECT}')) p)
    WHEN 'sequence' THEN has_sequence_privilege(c.oid, 'USAGE WITH GRANT OPTION')
    WHEN 'columns' THEN (SELECT bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT WITH GRANT OPTION')) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attname = ANY (s.columns) AND NOT a.attisdropped)
    ELSE has_function_privilege(f.oid, 'EXECUTE WITH GRANT OPTION')
  END
)), '[]')::text AS states
FROM jsonb_to_recordset($1::jsonb) AS s (name text, kind text, "schema" text, relation text, columns text[], privileges text[])
CROSS JOIN (SELECT coalesce($2::text, 'public')::name AS name) AS who
LEFT JOIN pg_namespace n ON n.nspname = s.schema
LEFT JOIN pg_class c ON s.kind <> 'function' AND c.relnamespace = n.oid AND c.relname = s.relation
LEFT JOIN pg_proc f ON s.kind = 'function' AND f.pronamespace = n.oid
  AND f.proname || '(' || oidvectortypes(f.proargtypes) || ')' = s.relation`;

/**
 * The state of every right that a role for the server needs, for `role` (null: one that does not exist yet). Reads the
 * catalogue only, and needs no right for it.
 */
export async function readGrants(
  client: pg.ClientBase,
  options: NeededOptions & { readonly role: string | null },
): Promise<GrantState[]> {
  const needed = neededGrants(options);
  const subjects = needed.map(({ grant, subject }) => ({ name: grant.name, ...subject }));
  const { rows } = await client.query<{ states: string }>(stateStatement, [
    JSON.stringify(subjects),
    options.role,
  ]);
  const states = JSON.parse(rows[0]?.states ?? '[]') as {
    name: string;
    exists: boolean;
    held: boolean | null;
    grantable: boolean | null;
  }[];
  return needed.map(({ grant }) => {
    const state = states.find(({ name }) => name === grant.name);
    return {
      ...grant,
      exists: state?.exists ?? false,
      held: state?.held ?? false,
      grantable: state?.grantable ?? false,
    };
  });
}

import pg from 'pg';
import { hostTriggers, triggerName, type HostTrigger } from '../host/host-triggers.js';
import { openingStatements } from './install-lock.js';
import { inOrder, legacyViews, logObjects, missingObjects, readInstallState } from './install-state.js';
import type { InstallState } from './install-state.js';
import {
  InstallError,
  refuseExistingTables,
  refuseForeignSchema,
  refuseForeignTriggers,
  refuseMissingRights,
  refuseUnfitTables,
} from './refusals.js';
import { planRoles, type InstallPlan } from './role.js';
import { recordStatement, schemaName } from './sql-files.js';

export interface InstallOptions {
  /** Also create the contract tables and `public.v_realtime_events`, in a database without them. Default false. */
  readonly tables?: boolean;
  /** Create only the event log, without triggers, for a database with other tables. Default: as in the last install. */
  readonly logOnly?: boolean;
  /** Create this role for the server, or grant it the privileges that it lacks. Default none. */
  readonly role?: string | undefined;
  /** Also grant `role` the privileges for changes (FLAGCAST_WRITES=on). Default: if it was granted them before. */
  readonly writes?: boolean;
}

/** The oldest PostgreSQL that is supported, as `server_version_num`. */
const oldestServerVersion = 140_000;

/**
 * Which build of Flagcast installed the schema: this one, one that this build replaces (`other`), or a `newer` one;
 * `unknown` without a record.
 */
type Build = 'unknown' | 'other' | 'this' | 'newer';

/** Reads the version table, if Flagcast is installed. */
export async function readBuild(
  client: pg.ClientBase,
  { installed, sql: { tables, functions } }: InstallState,
): Promise<{ readonly build: Build; readonly version: number; readonly newest: number }> {
  const newest = functions.version;
  if (!installed) return { build: 'unknown', version: 0, newest };
  const { rows } = await client.query<{ version: string; md5: string | null }>(
    `SELECT version::text AS version, md5 FROM ${schemaName}.schema_version WHERE version > 0`,
  );
  const applied = new Map(rows.map((row) => [Number(row.version), row.md5]));
  const version = Math.max(0, ...applied.keys());
  let build: Build = 'other';
  if (version === 0) build = 'unknown';
  else if (version > newest) build = 'newer';
  else if ([tables, functions].every((file) => applied.get(file.version) === file.md5)) build = 'this';
  return { build, version, newest };
}

/** What an installation has to become. */
interface Target {
  /** Whether this install creates the contract tables. */
  readonly makesTables: boolean;
  /** Whether the contract tables are install's, from now on. */
  readonly withTables: boolean;
  readonly logOnly: boolean;
  /** The triggers for the host's tables. */
  readonly triggers: readonly HostTrigger[];
}

/**
 * Reads the database and plans the missing statements. Changes nothing, and takes no transaction id in a READ ONLY
 * transaction. Throws InstallError if the installation is not possible.
 *
 * A new installation, an upgrade and a repair run the same files: they create what is missing and replace the rest.
 */
export async function makePlan(client: pg.ClientBase, options: InstallOptions): Promise<InstallPlan> {
  const state = await readInstallState(client);
  refuseForeignSchema(state);
  if (state.serverVersion < oldestServerVersion) {
    throw new InstallError('Flagcast needs PostgreSQL 14 or newer.');
  }
  const makesTables = options.tables === true && !state.ownTables;
  if (makesTables) refuseExistingTables(state);
  const withTables = makesTables || state.ownTables;
  refuseMissingRights(state, withTables);
  const wasLogOnly = await isLogOnly(client, state);
  const logOnly = !withTables && (options.logOnly ?? wasLogOnly);
  if (!makesTables && !logOnly) refuseUnfitTables(state);
  const { build } = await readBuild(client, state);
  if (build === 'newer') {
    throw new InstallError(
      'This database was installed by a newer Flagcast: use that version, or a newer one.',
    );
  }
  const isComplete =
    build === 'this' &&
    !makesTables &&
    logOnly === wasLogOnly &&
    missingObjects(state).length === 0 &&
    (logOnly || !triggersAreWrong(state));
  const granting = { state, withTables, role: options.role, writes: options.writes === true };
  if (isComplete) return await planRoles(client, { ...granting, made: null });

  const triggers = hostTriggers.filter(
    ({ table }) => !logOnly && (makesTables || table in state.publicTables),
  );
  const target: Target = { makesTables, withTables, logOnly, triggers };
  const made = [
    `schema ${schemaName}`,
    ...(makesTables ? state.sql.contractObjects : []),
    ...logObjects(state, withTables),
    ...triggers.map(({ table }) => triggerObject(table)),
  ].filter((object) => !state.objects.includes(object) || legacyViews(state).includes(object));
  if (state.installed) refuseForeignTriggers(state);
  const roles = await planRoles(client, { ...granting, made });
  return {
    creates: [...inOrder(made), ...roles.creates],
    grants: roles.grants,
    statements: [...objectStatements(state, target), ...roles.statements],
    notes: [
      ...ownerNotes(state, target),
      ...(made.includes(`table ${schemaName}.event_log`) ? logNotes(state) : []),
      ...roles.notes,
    ],
  };
}

/**
 * Drops what holds no data and cannot be replaced (the views of Flagcast 0.1, trigger functions with their triggers), then
 * creates what is missing. The event log, guards and roles stay.
 */
function objectStatements(state: InstallState, target: Target): string[] {
  const { tables, functions, view, contract, triggerFunctions } = state.sql;
  const contractTables = [
    ...contract.map(({ text }) => `${text}\n`),
    // It marks the contract tables as created by install.
    `CREATE TABLE ${schemaName}.tables_version (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);`,
    recordStatement('tables_version', contract),
  ];
  return [
    ...(state.schemaOwner === null ? [`CREATE SCHEMA ${schemaName};`] : []),
    ...legacyViews(state).map((view) => `DROP ${view.replace('view', 'VIEW')};`),
    ...(state.installed ? dropStatements(triggerFunctions) : []),
    ...(state.objects.includes(`table ${schemaName}.public_version`)
      ? [`DROP TABLE ${schemaName}.public_version;`]
      : []),
    `${tables.text}\n`,
    ...(target.makesTables ? contractTables : []),
    `${functions.text}\n`,
    `UPDATE ${schemaName}.log_state SET host_triggers = ${!target.logOnly};`,
    ...triggerStatements(state, target),
    ...(target.withTables ? [`${view.text}\n`] : []),
    recordStatement('schema_version', [tables, functions]),
  ];
}

/**
 * The drops lock the tables of the triggers. Queries lock a request before its entities; install does, too, because otherwise
 * both would wait for each other.
 */
function dropStatements(triggerFunctions: readonly string[]): string[] {
  return triggerFunctions.map((name) => `DROP FUNCTION IF EXISTS ${name}() CASCADE;`).toReversed();
}

/** Whether the last install was one with --log-only. */
async function isLogOnly(client: pg.ClientBase, state: InstallState): Promise<boolean> {
  if (!state.objects.includes(`table ${schemaName}.log_state`)) return false;
  const { rowCount } = await client.query(`SELECT FROM ${schemaName}.log_state WHERE NOT host_triggers`);
  return rowCount === 1;
}

/** The plan as a script for psql, exactly as `install` runs it. */
export function scriptOf(plan: InstallPlan): string {
  return [
    'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;',
    ...openingStatements(),
    '',
    ...plan.statements,
    '',
    'COMMIT;',
  ].join('\n');
}

/** A trigger on a table of the host, as in InstallState.objects. */
const triggerObject = (table: string): string => `trigger ${triggerName} on public.${table}`;

/** Whether a trigger is missing, disabled, on another table, or not ENABLE ALWAYS although the role could set it. */
function triggersAreWrong({ objects, triggers, publicTables }: InstallState): boolean {
  const isMisplaced = objects.some(
    (object) =>
      object.startsWith(`trigger ${triggerName} on `) &&
      !triggers.some(({ table }) => object === triggerObject(table)),
  );
  const isWrong = triggers.some(({ table, enabled, partitions }) => {
    const isEnabled = enabled === 'A' || (enabled === 'O' && publicTables[table]?.owned === false);
    return table in publicTables && (!isEnabled || partitions.length > 0);
  });
  return isMisplaced || isWrong;
}

const ownsTable = (state: InstallState, { makesTables }: Target, table: string): boolean =>
  makesTables || state.publicTables[table]?.owned === true;

/** Creates the triggers on the host's tables. Only the owner of a table may let logical replication fire its trigger. */
function triggerStatements(state: InstallState, target: Target): string[] {
  return target.triggers.flatMap(({ table, events, function: name }) => {
    const tables = [
      { name: `public.${table}`, owned: ownsTable(state, target, table) },
      ...(state.publicTables[table]?.children ?? []),
    ];
    return tables.flatMap((each) => [
      `CREATE TRIGGER ${triggerName} AFTER ${events} ON ${each.name} FOR EACH ROW EXECUTE FUNCTION ${schemaName}.${name}();`,
      ...(each.owned ? [`ALTER TABLE ${each.name} ENABLE ALWAYS TRIGGER ${triggerName};`] : []),
    ]);
  });
}

function ownerNotes(state: InstallState, target: Target): string[] {
  const tables = target.triggers
    .filter(({ table }) => !ownsTable(state, target, table))
    .map(({ table }) => `public.${table}`);
  if (tables.length === 0) return [];
  return [
    `Role ${state.role} does not own ${tables.join(', ')}: rows that logical replication writes there are not logged. If this database is a subscriber, run install as the owner.`,
  ];
}

/** A new event log affects publications, and pg_dump, which fails at the first table that its role may not read. */
function logNotes({ publications, publicTables }: InstallState): string[] {
  const owners = hostTriggers.flatMap(({ table, required }) => {
    const found = publicTables[table];
    return required && found?.ownerIsMember === false ? [found.owner] : [];
  });
  return [
    ...publications.map(
      (name) =>
        `Publication ${name} publishes all tables. Also run install on its subscribers: without schema ${schemaName} their replication stops with an error at the next event.`,
    ),
    ...[...new Set(owners)].toSorted().map((name) => {
      const grantee = pg.escapeIdentifier(name);
      return `Role ${name} owns tables and may not read schema ${schemaName}: pg_dump as ${name} fails. To allow it: GRANT USAGE ON SCHEMA ${schemaName} TO ${grantee}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schemaName} TO ${grantee}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schemaName} TO ${grantee};`;
    }),
  ];
}

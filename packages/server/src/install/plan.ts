import pg from 'pg';
import { hostTriggers, triggerName, type HostTrigger } from '../host/host-triggers.js';
import { contractStatements, readBuild, readLogFiles, recordStatement } from './build.js';
import { InstallError } from './install-error.js';
import { openingStatements } from './install-lock.js';
import {
  contractObjects,
  inOrder,
  logObjects,
  missingObjects,
  readInstallState,
  schemaName,
  triggerFunctions,
  triggerObject,
  viewOf,
  viewsToDrop,
  type InstallState,
} from './objects.js';
import {
  refuseExistingTables,
  refuseForeignSchema,
  refuseForeignTriggers,
  refuseMissingRights,
  refuseUnfitTables,
} from './refusals.js';
import { planRoles, type InstallPlan } from './role.js';

export interface InstallOptions {
  /** Also create the contract tables and `public.v_realtime_events`, in a database without them. Default false. */
  readonly tables?: boolean;
  /** Create only the event log, without triggers, for a database with other tables. Default: as in the last install. */
  readonly logOnly?: boolean;
  /** Create this role for the server, or grant it the privileges that it lacks. Default none. */
  readonly role?: string | undefined;
}

/** The oldest PostgreSQL that is supported, as `server_version_num`. */
const oldestServerVersion = 140_000;

interface Mode {
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
    throw new InstallError('unsupported-version', 'Flagcast needs PostgreSQL 14 or newer.');
  }
  const makesTables = options.tables === true && !state.ownTables;
  if (makesTables) refuseExistingTables(state);
  const withTables = makesTables || state.ownTables;
  refuseMissingRights(state, withTables);
  const wasLogOnly = await isLogOnly(client, state);
  const logOnly = !withTables && (options.logOnly ?? wasLogOnly);
  if (!makesTables && !logOnly) refuseUnfitTables(state);
  const { build } = await readBuild(client, state.installed);
  if (build === 'newer') {
    throw new InstallError(
      'other-build',
      'This database was installed by a newer Flagcast: use that version, or a newer one.',
    );
  }

  const triggers = hostTriggers.filter(
    ({ table }) => !logOnly && (makesTables || table in state.publicTables),
  );
  const isComplete =
    build === 'this' &&
    !makesTables &&
    logOnly === wasLogOnly &&
    missingObjects(state).length === 0 &&
    (logOnly || !triggersAreWrong(state));
  const granting = { state, withTables, role: options.role };
  if (isComplete) return await planRoles(client, { ...granting, replaces: null });
  const mode = { makesTables, withTables, logOnly, triggers };
  const planned = [
    ...(state.schemaOwner === null ? [`schema ${schemaName}`] : []),
    ...(makesTables ? contractObjects : []),
    ...logObjects(withTables),
    ...triggers.map(({ table }) => triggerObject(table)),
  ];
  const views = viewsToDrop(state);
  const dropped = views.map(viewOf);
  const made = planned.filter((object) => !state.objects.includes(object) || dropped.includes(object));
  const statements = await objectStatements(client, state, mode);
  const roles = await planRoles(client, { ...granting, replaces: { made, views } });
  return {
    creates: [...inOrder(made), ...roles.creates],
    grants: roles.grants,
    statements: [...statements, ...roles.statements],
    notes: [
      ...ownerNotes(state, mode),
      ...(made.includes(`table ${schemaName}.event_log`) ? logNotes(state) : []),
      ...roles.notes,
    ],
  };
}

/**
 * Drops what holds no data and cannot be replaced (trigger functions with their triggers, views with other columns),
 * then creates what is missing. The event log, guards and roles stay.
 */
async function objectStatements(client: pg.ClientBase, state: InstallState, mode: Mode): Promise<string[]> {
  if (state.installed) await refuseForeignTriggers(client);
  const { tables, functions, view } = await readLogFiles();
  return [
    ...(state.schemaOwner === null ? [`CREATE SCHEMA ${schemaName};`] : []),
    ...viewsToDrop(state).map((schema) => `DROP VIEW ${schema}.v_realtime_events;`),
    ...(state.installed
      ? [
          ...triggerFunctions.map((name) => `DROP FUNCTION IF EXISTS ${schemaName}.${name}() CASCADE;`),
          // Written by earlier builds.
          `DROP TABLE IF EXISTS ${schemaName}.public_version;`,
        ]
      : []),
    `${tables.text}\n`,
    ...(mode.makesTables ? await contractStatements() : []),
    `${functions.text}\n`,
    `UPDATE ${schemaName}.log_state SET host_triggers = ${!mode.logOnly};`,
    ...triggerStatements(state, mode),
    ...(mode.withTables ? [`${view.text}\n`] : []),
    recordStatement('schema_version', [tables, functions]),
  ];
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

const ownsTable = (state: InstallState, { makesTables }: Mode, table: string): boolean =>
  makesTables || state.publicTables[table]?.owned === true;

/** Creates the triggers on the host's tables. Only the owner of a table may let logical replication fire its trigger. */
function triggerStatements(state: InstallState, mode: Mode): string[] {
  return mode.triggers.flatMap(({ table, events, function: name }) => [
    `CREATE TRIGGER ${triggerName} AFTER ${events} ON public.${table} FOR EACH ROW EXECUTE FUNCTION ${schemaName}.${name}();`,
    ...(ownsTable(state, mode, table)
      ? [`ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER ${triggerName};`]
      : []),
  ]);
}

function ownerNotes(state: InstallState, mode: Mode): string[] {
  const tables = mode.triggers.map(({ table }) => table).filter((table) => !ownsTable(state, mode, table));
  if (tables.length === 0) return [];
  return [
    `Role ${state.role} does not own ${tables.map((table) => `public.${table}`).join(', ')}: rows that logical replication writes there are not logged. If this database is a subscriber, run install as the owner.`,
  ];
}

/** A new event log affects publications, and pg_dump, which fails at the first table that its role may not read. */
function logNotes({ publications, publicTables }: InstallState): string[] {
  const owners = new Set<string>();
  for (const { table, required } of hostTriggers) {
    const found = publicTables[table];
    if (required && found?.ownerIsMember === false) owners.add(found.owner);
  }
  return [
    ...publications.map(
      (name) =>
        `Publication ${name} publishes all tables. Also run install on its subscribers: without schema ${schemaName} their replication stops with an error at the next event.`,
    ),
    ...[...owners].toSorted().map((name) => {
      const grantee = pg.escapeIdentifier(name);
      return `Role ${name} owns tables and may not read schema ${schemaName}: pg_dump as ${name} fails. To allow it: GRANT USAGE ON SCHEMA ${schemaName} TO ${grantee}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schemaName} TO ${grantee}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schemaName} TO ${grantee};`;
    }),
  ];
}

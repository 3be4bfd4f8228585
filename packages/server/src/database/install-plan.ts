import type pg from 'pg';
import { InstallError } from './install-error.js';
import { openingStatements } from './install-lock.js';
import {
  compareBuild,
  loadMigrations,
  migrationStatements,
  readApplied,
  refuseOtherBuild,
  versionOf,
  type Track,
} from './install-migrations.js';
import {
  lastLegacyVersion,
  objectsOf,
  readInstallState,
  schemaName,
  triggerFunctions,
  versionTables,
  viewColumns,
  type InstallState,
} from './install-objects.js';
import {
  refuseExistingTables,
  refuseForeignSchema,
  refuseMissingRights,
  refuseUnfitTables,
} from './install-refusals.js';
import { planRole, readGrantedRoles, type RolePlan } from './install-role.js';
import { planTriggers, refuseForeignTriggers, triggersAreWrong } from './install-triggers.js';

export interface InstallOptions {
  /** Also make the contract tables and `public.v_realtime_events`, in a database without them. Default false. */
  readonly tables?: boolean;
  /** Only the event log, without triggers, for a database whose tables have another form. Default false. */
  readonly logOnly?: boolean;
  /** A role for the server: made where it is missing, and given what the server reads, no more. Default none. */
  readonly role?: string | undefined;
}

/** Everything that an installation would do. */
export interface InstallPlan {
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly creates: readonly string[];
  /** One line for each right, e.g. `SELECT ON TABLE public.features TO "reader"`. */
  readonly grants: readonly string[];
  /** The SQL, without the transaction around it; empty where there is nothing to do. */
  readonly statements: readonly string[];
  /** What whoever installs should know, a line each. */
  readonly notes: readonly string[];
}

const ownView = `view ${schemaName}.v_realtime_events`;

/** Oldest PostgreSQL that we run on, as `server_version_num`. */
const oldestServerVersion = 140_000;

/**
 * Looks at the database and works out what is missing. Changes nothing: in a READ ONLY transaction of
 * `client` it does not even take a transaction id. Throws InstallError where it cannot be done.
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
  const logOnly = !withTables && (options.logOnly ?? (await isLogOnly(client, state)));
  if (!makesTables && !logOnly) await refuseUnfitTables(client, state);

  const version = versionOf(await readApplied(client, 'flagcast'));
  const isLegacy = version > 0 && version <= lastLegacyVersion;
  const repair = !isLegacy && state.installed && (await missesSomething(client, state, logOnly));
  const tables = withTables ? await planTrack(client, 'tables', false) : nothing;
  const dropping = repair || isLegacy ? await dropStatements(client, state, isLegacy) : [];
  const log = await planTrack(client, 'flagcast', repair);
  const triggers =
    log.statements.length > 0 && !logOnly
      ? planTriggers(state, makesTables)
      : { objects: [], statements: [], notes: [] };
  const publicView = withTables ? await planTrack(client, 'public', repair) : nothing;
  const made = [tables, log, triggers, publicView].flatMap(({ objects }) => objects);
  const roles = [
    ...(repair || isLegacy ? [await planKeptGrants(client, state)] : []),
    ...(await planRoles(client, { ...options, state, withTables, made })),
  ];
  const newObjects = [...(state.schemaOwner === null ? [`schema ${schemaName}`] : []), ...made];
  return {
    creates: [
      ...inOrder(
        newObjects.filter(
          (object) => !state.objects.includes(object) || (object === ownView && lacksColumns(state)),
        ),
      ),
      ...roles.flatMap(({ creates }) => creates),
    ],
    grants: roles.flatMap(({ grants }) => grants),
    statements: [
      ...(state.schemaOwner === null ? [`CREATE SCHEMA ${schemaName};`] : []),
      ...tables.statements,
      ...dropping,
      ...log.statements,
      ...(logOnly && log.statements.length > 0
        ? [`UPDATE ${schemaName}.log_state SET host_triggers = false;`]
        : []),
      ...triggers.statements,
      ...publicView.statements,
      ...roles.flatMap(({ statements }) => statements),
    ],
    notes: [...triggers.notes, ...roles.flatMap(({ notes }) => notes)],
  };
}

/** Whether an earlier install made the log only. */
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

interface TrackPlan {
  readonly objects: readonly string[];
  readonly statements: readonly string[];
}

const nothing: TrackPlan = { objects: [], statements: [] };

async function planTrack(client: pg.ClientBase, track: Track, anew: boolean): Promise<TrackPlan> {
  const migrations = await loadMigrations(track);
  const applied = await readApplied(client, track);
  refuseOtherBuild(track, migrations, applied);
  if (!anew && compareBuild(migrations, applied) === 'same') return nothing;
  const from = anew ? 0 : versionOf(applied);
  const newest = migrations.at(-1)?.version ?? 0;
  return {
    objects: objectsOf(track, from, newest),
    statements: migrationStatements(
      track,
      migrations.filter(({ version }) => version > from),
      applied,
    ),
  };
}

/** Whether something is missing that the installation, as old as it may be, once had. */
async function missesSomething(
  client: pg.ClientBase,
  state: InstallState,
  logOnly: boolean,
): Promise<boolean> {
  const version = versionOf(await readApplied(client, 'flagcast'));
  const publicVersion = state.ownTables ? versionOf(await readApplied(client, 'public')) : 0;
  const expected = [...objectsOf('flagcast', 0, version), ...objectsOf('public', 0, publicVersion)];
  return (
    expected.some((object) => !state.objects.includes(object)) ||
    lacksColumns(state) ||
    (!logOnly && triggersAreWrong(state))
  );
}

/** Our view was replaced by another one. */
function lacksColumns(state: InstallState): boolean {
  return viewColumns.some((column) => !state.viewColumns.includes(column));
}

/**
 * Drops the public view, the triggers with their functions and the view, and their bookkeeping. They hold no
 * data. The event log, guards and roles stay.
 */
async function dropStatements(
  client: pg.ClientBase,
  state: InstallState,
  isLegacy: boolean,
): Promise<string[]> {
  await refuseForeignTriggers(client);
  const functions = isLegacy ? ['wake'] : triggerFunctions;
  return [
    ...(state.objects.includes('view public.v_realtime_events')
      ? ['DROP VIEW public.v_realtime_events;']
      : []),
    ...functions.map((name) => `DROP FUNCTION IF EXISTS ${schemaName}.${name}() CASCADE;`),
    `DROP VIEW IF EXISTS ${schemaName}.v_realtime_events;`,
    ...(isLegacy ? [] : [`DELETE FROM ${schemaName}.${versionTables.flagcast} WHERE version > ${lastLegacyVersion};`]),
    ...(state.ownTables && !isLegacy
      ? [`DELETE FROM ${schemaName}.${versionTables.public} WHERE version > 1;`]
      : []),
  ];
}

/** The role that was asked for, and those of before, whose rights on what is made anew are gone. */
async function planRoles(
  client: pg.ClientBase,
  options: InstallOptions & { state: InstallState; withTables: boolean; made: readonly string[] },
): Promise<RolePlan[]> {
  const { role, state, withTables, made } = options;
  const isAnew = made.some((object) => state.objects.includes(object));
  const before = isAnew ? await readGrantedRoles(client, state) : [];
  const plans = [];
  for (const { name } of before) {
    if (name !== role) plans.push(await planRole(client, { name, state, withTables, made, makes: false }));
  }
  if (role !== undefined) {
    plans.push(await planRole(client, { name: role, state, withTables, made, makes: true }));
  }
  return plans;
}

/** Rights on the view that were granted by hand: without this they are lost with the view that is dropped. */
async function planKeptGrants(client: pg.ClientBase, state: InstallState): Promise<RolePlan> {
  const recorded = (await readGrantedRoles(client, state)).map(({ name }) => name);
  const { rows } = await client.query<{ right: string; option: string }>(
    `SELECT format('%s ON TABLE ${schemaName}.v_realtime_events TO %s', x.privilege_type,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) AS "right",
      CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL aclexplode(c.relacl) x
    WHERE n.nspname = '${schemaName}' AND c.relname = 'v_realtime_events'
      AND x.grantee <> c.relowner AND pg_get_userbyid(x.grantee) <> ALL ($1::text[])
    ORDER BY 1`,
    [recorded],
  );
  return {
    creates: [],
    grants: rows.map(({ right }) => right),
    statements: rows.map(({ right, option }) => `GRANT ${right}${option};`),
    notes: [],
  };
}

const kinds = ['schema', 'table', 'function', 'trigger', 'view'];

/** As they are told: by kind, then by name, what is in public last. */
function inOrder(objects: readonly string[]): string[] {
  const place = (object: string): number =>
    kinds.indexOf(object.split(' ', 1)[0] ?? '') + (object === 'view public.v_realtime_events' ? 1 : 0);
  return objects.toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}

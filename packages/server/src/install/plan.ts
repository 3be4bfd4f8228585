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
} from './migrations.js';
import {
  lastLegacyVersion,
  objectsOf,
  readInstallState,
  schemaName,
  triggerFunctions,
  versionTables,
  viewColumns,
  type InstallState,
} from './objects.js';
import {
  refuseExistingTables,
  refuseForeignSchema,
  refuseMissingRights,
  refuseUnfitTables,
} from './refusals.js';
import { planRole, readGrantedRoles, type RolePlan } from './role.js';
import {
  backupNotes,
  planOwnTriggers,
  planTriggers,
  publicationNotes,
  refuseForeignTriggers,
  triggersAreWrong,
} from './triggers.js';

export interface InstallOptions {
  /** Also create the contract tables and `public.v_realtime_events`, in a database without them. Default false. */
  readonly tables?: boolean;
  /** Only the event log, without triggers, for a database whose tables have another form. Default: as installed before. */
  readonly logOnly?: boolean;
  /** A role for the server: created where it is missing, and given the rights that the server needs. Default none. */
  readonly role?: string | undefined;
}

/** What an installation would do. */
export interface InstallPlan {
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly creates: readonly string[];
  /** One line for each right, e.g. `SELECT ON TABLE public.features TO "reader"`. */
  readonly grants: readonly string[];
  /** The SQL, without the transaction around it; empty where there is nothing to do. */
  readonly statements: readonly string[];
  /** Notes for the operator, a line each. */
  readonly notes: readonly string[];
}

/** The public view over the event log. */
const lastPublicVersion = 2;

type ViewSchema = keyof typeof viewColumns;

const viewOf = (schema: ViewSchema): string => `view ${schema}.v_realtime_events`;

/** The oldest PostgreSQL that is supported, as `server_version_num`. */
const oldestServerVersion = 140_000;

/**
 * Reads the database and plans what is missing. Changes nothing: in a READ ONLY transaction of `client` it does not
 * take a transaction id. Throws InstallError where the installation is not possible.
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
  const isRepair = !isLegacy && state.installed && (await needsRepair(client, state, logOnly));
  const views = isLegacy || isRepair ? viewsToDrop(state, isLegacy) : [];
  const dropping = isLegacy || isRepair ? await dropStatements(client, state, { isLegacy, views }) : nothing;
  const tables = withTables ? await planTrack(client, 'tables', false) : nothing;
  const log = await planTrack(client, 'flagcast', isRepair);
  const changesLog = log.statements.length > 0;
  const triggers =
    changesLog && !logOnly ? planTriggers(state, makesTables) : { objects: [], statements: [], notes: [] };
  const ownTriggers = changesLog ? planOwnTriggers(withTables) : nothing;
  const publicView = withTables ? await planTrack(client, 'public', isRepair) : nothing;
  const planned = [tables, log, triggers, publicView, ownTriggers].flatMap(({ objects }) => objects);
  const made = planned.filter(
    (object) => !state.objects.includes(object) || dropping.objects.includes(object),
  );
  const roles = [
    ...(isLegacy || isRepair ? [await planKeptGrants(client, state, views)] : []),
    ...(await planRoles(client, { ...options, state, withTables, made })),
  ];
  const newObjects = [...(state.schemaOwner === null ? [`schema ${schemaName}`] : []), ...made];
  return {
    creates: [
      ...inOrder(
        newObjects.filter(
          (object) => !state.objects.includes(object) || views.some((schema) => object === viewOf(schema)),
        ),
      ),
      ...roles.flatMap(({ creates }) => creates),
    ],
    grants: roles.flatMap(({ grants }) => grants),
    statements: [
      ...(state.schemaOwner === null ? [`CREATE SCHEMA ${schemaName};`] : []),
      ...tables.statements,
      ...dropping.statements,
      ...log.statements,
      ...(changesLog ? [`UPDATE ${schemaName}.log_state SET host_triggers = ${!logOnly};`] : []),
      ...triggers.statements,
      ...publicView.statements,
      ...ownTriggers.statements,
      ...roles.flatMap(({ statements }) => statements),
    ],
    notes: [
      ...triggers.notes,
      ...(made.includes(`table ${schemaName}.event_log`)
        ? [...(await publicationNotes(client)), ...(await backupNotes(client))]
        : []),
      ...roles.flatMap(({ notes }) => notes),
    ],
  };
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

interface TrackPlan {
  readonly objects: readonly string[];
  readonly statements: readonly string[];
}

const nothing: TrackPlan = { objects: [], statements: [] };

async function planTrack(client: pg.ClientBase, track: Track, repeats: boolean): Promise<TrackPlan> {
  const migrations = await loadMigrations(track);
  const applied = await readApplied(client, track);
  refuseOtherBuild(track, migrations, applied);
  if (!repeats && compareBuild(migrations, applied) === 'same') return nothing;
  const from = repeats ? 0 : versionOf(applied);
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

/** Whether something is missing, switched off or replaced, or --log-only or --tables changes the kind of installation. */
async function needsRepair(client: pg.ClientBase, state: InstallState, logOnly: boolean): Promise<boolean> {
  const version = versionOf(await readApplied(client, 'flagcast'));
  // A copy of the schema without its rows.
  if (version === 0) return true;
  return (
    missingObjects(state, version).length > 0 ||
    logOnly !== (await isLogOnly(client, state)) ||
    (!logOnly && triggersAreWrong(state))
  );
}

/**
 * The objects that the flagcast migrations up to this version, newer than 0.1, made and that are gone, replaced or
 * switched off. Without the triggers on the host's tables.
 */
export function missingObjects(state: InstallState, version: number): string[] {
  const expected = [
    ...objectsOf('flagcast', 0, version),
    ...(state.ownTables ? objectsOf('public', 0, lastPublicVersion) : []),
    ...planOwnTriggers(state.ownTables).objects,
  ];
  const views: readonly ViewSchema[] = state.ownTables ? [schemaName, 'public'] : [schemaName];
  const altered = views.filter((schema) => isOtherView(state, schema)).map(viewOf);
  return [...new Set([...expected.filter((object) => !state.objects.includes(object)), ...altered])];
}

/** Whether the view was replaced by one with other columns, or one that does not read the event log. */
function isOtherView(state: InstallState, schema: ViewSchema): boolean {
  const found = state.viewColumns[schema];
  const expected = viewColumns[schema];
  return found.length !== expected.length || expected.some((column, index) => column !== found[index]);
}

/** The schemas of those views that cannot be replaced as they are. */
function viewsToDrop(state: InstallState, isLegacy: boolean): ViewSchema[] {
  const isToDrop = (schema: ViewSchema): boolean =>
    state.objects.includes(viewOf(schema)) && (isLegacy || isOtherView(state, schema));
  // The public one reads the other one.
  const dropsOwn = isToDrop(schemaName);
  const dropsPublic = isToDrop('public') || (dropsOwn && state.objects.includes(viewOf('public')));
  const schemas: ViewSchema[] = [];
  if (dropsPublic) schemas.push('public');
  if (dropsOwn) schemas.push(schemaName);
  return schemas;
}

/**
 * Drops what holds no data: the trigger functions with their triggers, these views, and their rows in the version
 * tables. The event log, guards and roles stay.
 */
async function dropStatements(
  client: pg.ClientBase,
  state: InstallState,
  { isLegacy, views }: { readonly isLegacy: boolean; readonly views: readonly ViewSchema[] },
): Promise<TrackPlan> {
  await refuseForeignTriggers(client);
  const functions: readonly string[] = isLegacy ? ['wake'] : triggerFunctions;
  return {
    objects: [
      ...views.map(viewOf),
      ...functions.map((name) => `function ${schemaName}.${name}()`),
      ...state.objects.filter((object) => object.startsWith('trigger flagcast_')),
    ],
    statements: [
      ...views.map((schema) => `DROP VIEW ${schema}.v_realtime_events;`),
      ...functions.map((name) => `DROP FUNCTION IF EXISTS ${schemaName}.${name}() CASCADE;`),
      ...(isLegacy
        ? []
        : [`DELETE FROM ${schemaName}.${versionTables.flagcast} WHERE version > ${lastLegacyVersion};`]),
      ...(state.ownTables && !isLegacy
        ? [`DELETE FROM ${schemaName}.${versionTables.public} WHERE version > 1;`]
        : []),
    ],
  };
}

/** Plans the role of --role, and those of earlier installs, who lose their rights on objects that are created again. */
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

/**
 * Rights that were granted by hand and would be lost: those on views that are dropped, and those of PUBLIC on
 * functions, which the migration revokes.
 */
async function planKeptGrants(
  client: pg.ClientBase,
  state: InstallState,
  views: readonly ViewSchema[],
): Promise<RolePlan> {
  const recorded = (await readGrantedRoles(client, state)).map(({ name }) => name);
  const { rows } = await client.query<{ right: string; option: string }>(
    `SELECT format('%s ON TABLE %I.v_realtime_events TO %s', x.privilege_type, n.nspname,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) AS "right",
      CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL aclexplode(c.relacl) x
    WHERE n.nspname = ANY ($1::text[]) AND c.relname = 'v_realtime_events'
      AND x.grantee <> c.relowner AND pg_get_userbyid(x.grantee) <> ALL ($2::text[])
    UNION ALL
    SELECT format('EXECUTE ON FUNCTION %s TO PUBLIC', p.oid::regprocedure), ''
    FROM pg_catalog.pg_proc p
    CROSS JOIN LATERAL aclexplode(p.proacl) x
    WHERE p.pronamespace = to_regnamespace('${schemaName}') AND p.proname = ANY ($3::text[]) AND x.grantee = 0
    ORDER BY 1`,
    [views, recorded, ['record_event', 'prune_event_log', 'adopt_event_log']],
  );
  return {
    creates: [],
    grants: rows.map(({ right }) => right),
    statements: rows.map(({ right, option }) => `GRANT ${right}${option};`),
    notes: [],
  };
}

const kinds = ['schema', 'table', 'function', 'trigger', 'view'];

/** In the order of the output: by kind, then by name, the public view last. */
function inOrder(objects: readonly string[]): string[] {
  const place = (object: string): number =>
    kinds.indexOf(object.split(' ', 1)[0] ?? '') + (object === 'view public.v_realtime_events' ? 1 : 0);
  return objects.toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}

import type pg from 'pg';
import { asInstaller, type LockWait } from './install-lock.js';
import { publicView, readInstallState, type InstallState } from './install-state.js';
import { makePlan, type InstallOptions } from './plan.js';
import {
  InstallError,
  refuseCallers,
  refuseForeignSchema,
  refuseForeignTriggers,
  toInstallError,
} from './refusals.js';
import { readGrantedRoles, revokeRole, type InstallPlan } from './role.js';
import { schemaName } from './sql-files.js';

/** What `install` did. */
export interface InstallReport {
  /** False if the installation was complete. */
  readonly changed: boolean;
  /** One line for each object and grant, e.g. `created view flagcast.v_realtime_events`. */
  readonly lines: readonly string[];
  /** Notes for the operator, a line each. */
  readonly notes: readonly string[];
}

/** What `uninstall` would drop and revoke. */
export interface UninstallPlan {
  readonly installed: boolean;
  /** Whether install --tables created the contract tables. They would be dropped with all their rows. */
  readonly ownTables: boolean;
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly objects: readonly string[];
  /** The roles that would lose the privileges that install granted; their open sessions would fail. */
  readonly roles: readonly { readonly name: string; readonly made: boolean; readonly sessions: number }[];
  /** The rows of the contract tables; empty if they are the host's. */
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  /** Their sum. */
  readonly rows: number;
}

/** What `uninstall` did: `changed` is false if nothing was installed. */
export type UninstallReport = Omit<InstallReport, 'notes'>;

/** What `install` would do. Changes nothing, and takes no transaction id. Throws InstallError. */
export async function planInstall(client: pg.ClientBase, options: InstallOptions = {}): Promise<InstallPlan> {
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    try {
      await client.query('SET LOCAL search_path = pg_catalog, pg_temp');
      return await makePlan(client, options);
    } finally {
      await client.query('ROLLBACK');
    }
  } catch (error) {
    throw toInstallError(error);
  }
}

/**
 * Installs the event log and the triggers (with `tables` also the contract tables, with `role` a role for the server),
 * upgrades an installation of another build, or repairs a damaged one. Idempotent. Runs in one transaction of `client`,
 * which must not be in one: after an error nothing has changed. With `agreed` it runs only statements of that plan.
 * Throws InstallError.
 */
export async function install(
  client: pg.ClientBase,
  options: InstallOptions & LockWait & { readonly agreed?: InstallPlan } = {},
): Promise<InstallReport> {
  const { agreed } = options;
  return await asInstaller(client, options, async () => {
    const { creates, grants, statements, notes } = await makePlan(client, options);
    if (agreed !== undefined && !statements.every((each) => agreed.statements.includes(each))) {
      throw new InstallError(
        'Nothing was changed, because the database has changed since the plan was shown. Run this again.',
      );
    }
    for (const statement of statements) await client.query(statement);
    const lines = [
      ...creates.map((object) => `created ${object}`),
      ...grants.map((grant) => `granted ${grant}`),
    ];
    return { changed: statements.length > 0, lines, notes };
  });
}

/** What `uninstall` would drop. Changes nothing. Throws InstallError. */
export async function planUninstall(client: pg.ClientBase): Promise<UninstallPlan> {
  try {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    const tables = [];
    for (const table of namesOf(state, /^table (public\..*)/)) {
      const { rows } = await client.query<{ rows: string }>(`SELECT count(*)::text AS rows FROM ${table}`);
      tables.push({ table, rows: Number(rows[0]?.rows) });
    }
    const roles = [];
    for (const { name, made } of await readGrantedRoles(client, state)) {
      const { rowCount } = await client.query('SELECT FROM pg_catalog.pg_stat_activity WHERE usename = $1', [
        name,
      ]);
      roles.push({ name, made, sessions: rowCount ?? 0 });
    }
    const { installed, ownTables, objects } = state;
    const rows = tables.reduce((sum, table) => sum + table.rows, 0);
    return { installed, ownTables, objects, roles, tables, rows };
  } catch (error) {
    throw toInstallError(error);
  }
}

/**
 * Removes exactly what `install` created: triggers, view, schema flagcast with the event log, the privileges of the
 * roles, the roles and, if install --tables created them, the contract tables with all their rows (see planUninstall).
 * If objects of the host depend on it, nothing is dropped, and the error names them. A role that is in use elsewhere
 * is kept, with a line in the report. Idempotent. Runs in one transaction of `client`, which must not be in one. Throws
 * InstallError.
 */
export async function uninstall(client: pg.ClientBase, wait: LockWait = {}): Promise<UninstallReport> {
  return await asInstaller(client, wait, async () => {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    if (!state.installed) return { changed: false, lines: [] };
    const roles = await readGrantedRoles(client, state);
    refuseForeignTriggers(state);
    await refuseCallers(client);
    for (const statement of dropStatements(state)) await client.query(statement);
    const lines = state.objects.map((object) => `dropped ${object}`).toReversed();
    for (const role of roles) lines.push(...(await revokeRole(client, role, state)));
    return { changed: true, lines };
  });
}

/** The names of the objects whose line matches. */
function namesOf({ objects }: InstallState, pattern: RegExp): string[] {
  return objects.flatMap((object) => pattern.exec(object)?.[1] ?? []);
}

/** The statements that drop everything that install created. Only triggers are dropped by CASCADE. */
function dropStatements(state: InstallState): string[] {
  const { objects, sql } = state;
  const functions = namesOf(state, /^function (.*)\(\)$/);
  const isOfTrigger = (name: string): boolean => sql.triggerFunctions.includes(name);
  const publicTables = namesOf(state, /^table (public\..*)/);
  const tables = [...namesOf(state, /^table (flagcast\..*)/), `${schemaName}.schema_version`];
  return [
    ...(objects.includes(publicView) ? ['DROP VIEW public.v_realtime_events'] : []),
    ...functions.filter(isOfTrigger).map((name) => `DROP FUNCTION ${name}() CASCADE`),
    `DROP VIEW IF EXISTS ${schemaName}.v_realtime_events`,
    ...(publicTables.length === 0 ? [] : [`DROP TABLE ${publicTables.join(', ')}`]),
    ...functions.filter((name) => !isOfTrigger(name)).map((name) => `DROP FUNCTION ${name}`),
    ...tables.map((name) => `DROP TABLE ${name}`),
    `DROP TABLE IF EXISTS ${schemaName}.tables_version`,
    `DROP SCHEMA ${schemaName}`,
  ];
}

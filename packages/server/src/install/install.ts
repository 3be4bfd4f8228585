import type pg from 'pg';
import { toInstallError, InstallError } from './install-error.js';
import { asInstaller, type LockWait } from './install-lock.js';
import {
  contractTables,
  otherFunctions,
  ownTables,
  readInstallState,
  schemaName,
  tableFunctions,
  triggerFunctions,
  versionTables,
  type InstallState,
} from './objects.js';
import { makePlan, type InstallOptions, type InstallPlan } from './plan.js';
import { refuseForeignSchema, refuseOthersSchema } from './refusals.js';
import { readGrantedRoles, revokeRole } from './role.js';
import { refuseCallers, refuseForeignTriggers } from './triggers.js';

/** What `install` did. */
export interface InstallReport {
  /** False where everything existed already. */
  readonly changed: boolean;
  /** One line for each object and right, e.g. `created view flagcast.v_realtime_events`. */
  readonly lines: readonly string[];
  /** Notes for the operator, a line each. */
  readonly notes: readonly string[];
}

/** What `uninstall` would drop and revoke, and what would be lost with it. */
export interface UninstallPlan {
  readonly installed: boolean;
  /** Whether install --tables created the contract tables, which would be dropped with all their rows. */
  readonly ownTables: boolean;
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly objects: readonly string[];
  /** The roles that would lose the rights that install granted; open sessions of such a role fail then. */
  readonly roles: readonly { readonly name: string; readonly made: boolean; readonly sessions: number }[];
  /** The rows of the contract tables; empty where they are the host's. */
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  /** Their sum. */
  readonly rows: number;
}

/** What `uninstall` did. */
export interface UninstallReport {
  /** False where nothing was installed. */
  readonly changed: boolean;
  /** One line for each object, e.g. `dropped view flagcast.v_realtime_events`. */
  readonly lines: readonly string[];
}

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
 * upgrades an older installation, or repairs one of which something was dropped. Idempotent. Runs in one transaction
 * of `client`, which must not be in one: after an error nothing has changed. With `agreed` only statements of that
 * plan are run. Throws InstallError.
 */
export async function install(
  client: pg.ClientBase,
  options: InstallOptions & LockWait & { readonly agreed?: InstallPlan } = {},
): Promise<InstallReport> {
  return await asInstaller(client, options, async () => {
    const plan = await makePlan(client, options);
    refuseUnagreed(plan, options.agreed);
    for (const statement of plan.statements) await client.query(statement);
    return {
      changed: plan.statements.length > 0,
      lines: [
        ...plan.creates.map((object) => `created ${object}`),
        ...plan.grants.map((grant) => `granted ${grant}`),
      ],
      notes: plan.notes,
    };
  });
}

function refuseUnagreed(plan: InstallPlan, agreed: InstallPlan | undefined): void {
  if (agreed === undefined || plan.statements.every((each) => agreed.statements.includes(each))) return;
  throw new InstallError(
    'plan-changed',
    'Nothing was changed, because the database has changed since the plan was shown. Run this again.',
  );
}

/** What `uninstall` would drop. Changes nothing. Throws InstallError. */
export async function planUninstall(client: pg.ClientBase): Promise<UninstallPlan> {
  try {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    if (state.installed) refuseOthersSchema(state);
    const tables = [];
    for (const table of existingOwnTables(state)) {
      const { rows } = await client.query<{ rows: string }>(
        `SELECT count(*)::text AS rows FROM public.${table}`,
      );
      tables.push({ table: `public.${table}`, rows: Number(rows[0]?.rows) });
    }
    const roles = [];
    for (const { name, made } of await readGrantedRoles(client, state)) {
      const { rowCount } = await client.query('SELECT FROM pg_catalog.pg_stat_activity WHERE usename = $1', [
        name,
      ]);
      roles.push({ name, made, sessions: rowCount ?? 0 });
    }
    return {
      installed: state.installed,
      ownTables: state.ownTables,
      objects: state.objects,
      roles,
      tables,
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    };
  } catch (error) {
    throw toInstallError(error);
  }
}

/**
 * Removes exactly what `install` created: triggers, view, schema flagcast with the event log, the rights of the roles,
 * the roles and, if install --tables created them, the contract tables with all their rows (see planUninstall). Where
 * objects of the host depend on it, nothing is dropped, and the error names them. A role that is in use elsewhere
 * stays, and a line says so. Idempotent. Runs in one transaction of `client`, which must not be in one. Throws
 * InstallError.
 */
export async function uninstall(client: pg.ClientBase, patience: LockWait = {}): Promise<UninstallReport> {
  return await asInstaller(client, patience, async () => {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    if (!state.installed) return { changed: false, lines: [] };
    refuseOthersSchema(state);
    const roles = await readGrantedRoles(client, state);
    await refuseForeignTriggers(client);
    await refuseCallers(client);
    if (state.objects.includes('view public.v_realtime_events')) {
      await client.query('DROP VIEW public.v_realtime_events');
    }
    for (const name of [...triggerFunctions, 'wake']) {
      await client.query(`DROP FUNCTION IF EXISTS ${schemaName}.${name}() CASCADE`);
    }
    await client.query(`DROP VIEW IF EXISTS ${schemaName}.v_realtime_events`);
    for (const name of otherFunctions) {
      await client.query(`DROP FUNCTION IF EXISTS ${schemaName}.${name}`);
    }
    const tables = existingOwnTables(state);
    if (tables.length > 0) {
      await client.query(`DROP TABLE ${tables.map((table) => `public.${table}`).join(', ')}`);
    }
    for (const name of tableFunctions) await client.query(`DROP FUNCTION IF EXISTS ${schemaName}.${name}()`);
    for (const name of [...ownTables, ...Object.values(versionTables)]) {
      await client.query(`DROP TABLE IF EXISTS ${schemaName}.${name}`);
    }
    await client.query(`DROP SCHEMA ${schemaName}`);
    const lines = state.objects.map((object) => `dropped ${object}`).reverse();
    for (const role of roles) lines.push(...(await revokeRole(client, role, state)));
    return { changed: true, lines };
  });
}

function existingOwnTables(state: InstallState): string[] {
  return contractTables.filter((table) => state.objects.includes(`table public.${table}`));
}

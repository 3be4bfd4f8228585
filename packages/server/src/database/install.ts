import type pg from 'pg';
import { InstallError, toInstallError } from './install-error.js';
import { migrate } from './install-migrations.js';
import {
  attachColumns,
  contractTables,
  expectedObjects,
  guardTable,
  readInstallState,
  schemaName,
  tableFunctions,
  versionTables,
  wakeTables,
  type InstallState,
} from './install-objects.js';
import { inTransaction } from './transaction.js';

export interface InstallOptions {
  /** Also make the contract tables and `public.v_realtime_events`, in a database without them. Default false. */
  readonly tables?: boolean;
}

/** What `install` did. */
export interface InstallReport {
  /** False where everything was there already. */
  readonly changed: boolean;
  /** One line for each object, e.g. `created view flagcast.v_realtime_events`. */
  readonly lines: readonly string[];
}

/** What `uninstall` would take back, and what would be lost with it. */
export interface UninstallPlan {
  readonly installed: boolean;
  /** Whether the contract tables are ours and would be dropped with all their rows. */
  readonly ownTables: boolean;
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly objects: readonly string[];
  /** The rows of our tables; empty where the tables are the host's. */
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

/** Oldest PostgreSQL that we run on, as `server_version_num`. */
const oldestServerVersion = 140_000;

/** Any two numbers that no host is likely to use: they name the lock that installers take turns with. */
const installerLock = [1_179_404_103, 1];

/**
 * One transaction in which installers take turns, waits for locks are short (a waiting ALTER
 * blocks the host's own queries behind it) and names resolve in pg_catalog only.
 */
async function asInstaller<Result>(client: pg.ClientBase, work: () => Promise<Result>): Promise<Result> {
  try {
    return await inTransaction(client, async () => {
      await client.query("SET LOCAL lock_timeout = '3s'");
      await client.query('SET LOCAL search_path = pg_catalog, pg_temp');
      await client.query('SELECT pg_advisory_xact_lock($1, $2)', installerLock);
      return await work();
    });
  } catch (error) {
    throw toInstallError(error);
  }
}

/**
 * Installs the view and the triggers (and with `tables` the contract tables), or brings an older
 * installation up to date, or repairs one of which something was dropped. Again and again without
 * harm. All in one transaction of `client`, which must not be in one: on any error nothing has
 * changed. Throws InstallError.
 */
export async function install(client: pg.ClientBase, options: InstallOptions = {}): Promise<InstallReport> {
  return await asInstaller(client, async () => {
    const before = await readInstallState(client);
    refuseForeignSchema(before);
    if (before.serverVersion < oldestServerVersion) {
      throw new InstallError('unsupported-version', 'Flagcast needs PostgreSQL 14 or newer.');
    }
    if (options.tables === true && !before.ownTables) refuseExistingTables(before);
    const withTables = options.tables === true || before.ownTables;
    refuseMissingRights(before, withTables);
    const madeTables = withTables && (await migrate(client, 'tables'));
    await refuseUnfitTables(client, before);
    const missing = expectedObjects(withTables).filter((object) => !before.objects.includes(object));
    // The view and the triggers hold no data: where one is gone, all are made anew. The guards stay.
    if (before.installed && missing.length > 0) await dropDerived(client, before);
    const madeView = await migrate(client, 'flagcast');
    const madePublicView = withTables && (await migrate(client, 'public'));
    const after = await readInstallState(client);
    const lines = after.objects
      .filter((object) => !before.objects.includes(object))
      .map((object) => `created ${object}`);
    return { changed: madeTables || madeView || madePublicView, lines };
  });
}

/** What `uninstall` would drop. Changes nothing. Throws InstallError. */
export async function planUninstall(client: pg.ClientBase): Promise<UninstallPlan> {
  try {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    const tables = [];
    for (const table of existingOwnTables(state)) {
      const { rows } = await client.query<{ rows: string }>(
        `SELECT count(*)::text AS rows FROM public.${table}`,
      );
      tables.push({ table: `public.${table}`, rows: Number(rows[0]?.rows) });
    }
    return {
      installed: state.installed,
      ownTables: state.ownTables,
      objects: state.objects,
      tables,
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    };
  } catch (error) {
    throw toInstallError(error);
  }
}

/**
 * Takes back exactly what `install` made: triggers, view, schema flagcast and, only if we made
 * them, the contract tables with all their rows (see planUninstall). What others built on ours is
 * never dropped with it: then nothing is, and the error names it. Harmless where nothing is
 * installed. One transaction of `client`, which must not be in one. Throws InstallError.
 */
export async function uninstall(client: pg.ClientBase): Promise<UninstallReport> {
  return await asInstaller(client, async () => {
    const state = await readInstallState(client);
    refuseForeignSchema(state);
    if (!state.installed) return { changed: false, lines: [] };
    refuseOthersSchema(state);
    await dropDerived(client, state);
    const tables = existingOwnTables(state);
    if (tables.length > 0) {
      await client.query(`DROP TABLE ${tables.map((table) => `public.${table}`).join(', ')}`);
    }
    for (const name of tableFunctions) await client.query(`DROP FUNCTION IF EXISTS ${schemaName}.${name}()`);
    for (const name of [guardTable, ...Object.values(versionTables)]) {
      await client.query(`DROP TABLE IF EXISTS ${schemaName}.${name}`);
    }
    await client.query(`DROP SCHEMA ${schemaName}`);
    return { changed: true, lines: state.objects.map((object) => `dropped ${object}`).reverse() };
  });
}

/** Drops the public view, the triggers with their function and the view, and forgets their migrations. */
async function dropDerived(client: pg.ClientBase, state: InstallState): Promise<void> {
  if (state.objects.includes('view public.v_realtime_events')) {
    await client.query('DROP VIEW public.v_realtime_events');
  }
  await dropWake(client);
  await client.query(`DROP VIEW IF EXISTS ${schemaName}.v_realtime_events`);
  await client.query(`DELETE FROM ${schemaName}.${versionTables.flagcast} WHERE version > 0`);
  if (state.ownTables) {
    await client.query(`DELETE FROM ${schemaName}.${versionTables.public} WHERE version > 0`);
  }
}

/**
 * Drops the function of the triggers, and with it the triggers. DROP TRIGGER would ask for the
 * ownership of the host's tables, which whoever installed with the right TRIGGER does not have.
 * CASCADE reaches only what has been looked at before: our three triggers.
 */
async function dropWake(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ object: string; ours: string }>(
    `SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object,
      (t.tgname = 'flagcast_wake' AND n.nspname = 'public' AND c.relname = ANY ($1::text[]))::text AS ours
    FROM pg_depend d
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    LEFT JOIN pg_class c ON c.oid = t.tgrelid
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.refclassid = 'pg_proc'::regclass
      AND d.refobjid = to_regprocedure('${schemaName}.wake()') AND d.deptype = 'n'`,
    [wakeTables],
  );
  const foreign = rows.filter((row) => row.ours !== 'true').map((row) => row.object);
  if (foreign.length > 0) {
    throw new InstallError(
      'dependent',
      `Nothing was changed, because other objects depend on Flagcast's: ${foreign.join('; ')} (on function ${schemaName}.wake()). Drop those first, then try again.`,
    );
  }
  await client.query(`DROP FUNCTION IF EXISTS ${schemaName}.wake() CASCADE`);
}

function existingOwnTables(state: InstallState): string[] {
  return contractTables.filter((table) => state.objects.includes(`table public.${table}`));
}

function refuseForeignSchema(state: InstallState): void {
  if (state.schemaOwner === null || state.installed) return;
  throw new InstallError(
    'foreign-schema',
    `Database ${state.database} has a schema ${schemaName} that Flagcast did not make (it has no table ${versionTables.flagcast}). Rename or drop it, then try again.`,
  );
}

function refuseOthersSchema(state: InstallState): void {
  if (state.ownsSchema) return;
  throw new InstallError(
    'right-missing',
    `Flagcast was installed by role ${String(state.schemaOwner)}, and role ${state.role} may not act for it. Connect as ${String(state.schemaOwner)}.`,
  );
}

function refuseExistingTables(state: InstallState): void {
  if (state.publicNames.length === 0) return;
  const names = state.publicNames.map((name) => `public.${name}`).join(', ');
  throw new InstallError(
    'tables-present',
    `Database ${state.database} already has ${names}, which Flagcast did not make. To attach to these tables run install without --tables; to get tables of our own use an empty database.`,
  );
}

function refuseMissingRights(state: InstallState, withTables: boolean): void {
  if (state.installed) {
    refuseOthersSchema(state);
    return;
  }
  if (!state.mayCreateSchema) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not make schema ${schemaName}. As the owner of the database: GRANT CREATE ON DATABASE "${state.database}" TO "${state.role}".`,
    );
  }
  if (withTables && !state.mayCreateInPublic) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not make tables in schema public. As its owner: GRANT CREATE ON SCHEMA public TO "${state.role}".`,
    );
  }
}

/** The tables to attach to: there, with the columns that the view reads, and open to this role. */
async function refuseUnfitTables(client: pg.ClientBase, state: InstallState): Promise<void> {
  const { rows } = await client.query<{
    table: string;
    missing: string;
    unreadable: string;
    untriggerable: string;
  }>(
    `SELECT wanted.name AS "table",
      coalesce(array_to_string(ARRAY(
        SELECT column_name FROM jsonb_array_elements_text(wanted.columns) column_name
        WHERE NOT EXISTS (
          SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = column_name AND NOT a.attisdropped
        )
      ), ', '), '') AS missing,
      coalesce(NOT has_table_privilege(c.oid, 'SELECT'), false)::text AS unreadable,
      coalesce(wanted.name = ANY ($2::text[]) AND NOT has_table_privilege(c.oid, 'TRIGGER'), false)::text AS untriggerable
    FROM jsonb_each($1::jsonb) AS wanted (name, columns)
    LEFT JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p')
      AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
    ORDER BY wanted.name`,
    [JSON.stringify(attachColumns), wakeTables],
  );
  for (const { table, missing } of rows) {
    if (missing === '') continue;
    const whole = missing.split(', ').length === attachColumns[table]?.length;
    const mend = state.ownTables
      ? 'Flagcast made it, somebody dropped it: bring it back from a backup.'
      : 'Connect to the database that has the feature flags, or use --tables to make the tables in an empty one.';
    throw new InstallError(
      'tables-missing',
      `Database ${state.database} has no ${whole ? `table public.${table}` : `column ${missing} in public.${table}`} to attach to. ${mend}`,
    );
  }
  const rights = rows.flatMap(({ table, unreadable, untriggerable }) => {
    const names = [
      ...(unreadable === 'true' ? ['SELECT'] : []),
      ...(untriggerable === 'true' ? ['TRIGGER'] : []),
    ];
    return names.length === 0 ? [] : [`GRANT ${names.join(', ')} ON public.${table} TO "${state.role}"`];
  });
  if (rights.length > 0) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} lacks rights on the tables. As their owner: ${rights.join('; ')}.`,
    );
  }
}

import type pg from 'pg';
import { triggerName } from '../host/host-triggers.js';
import { errorCode } from '../postgres/errors.js';
import type { InstallState } from './install-state.js';
import { schemaName } from './sql-files.js';

/** Nothing was installed or uninstalled. The message is one line: what is wrong, and how to fix it. */
export class InstallError extends Error {
  override readonly name = 'InstallError';
}

/** Whether a lock of another session was not released in time. */
export const isLocked = (error: unknown): boolean => ['55P03', '40P01'].includes(errorCode(error) ?? '');

/** Converts an error of PostgreSQL to an InstallError. Returns an InstallError unchanged. */
export function toInstallError(error: unknown): InstallError {
  if (error instanceof InstallError) return error;
  const oneLine = (text: string, separator: string): string => text.trim().replaceAll(/\s*\n\s*/g, separator);
  const message = oneLine(error instanceof Error ? error.message : String(error), ' ');
  const detail = oneLine((error as { readonly detail?: string }).detail ?? '', '; ');
  const text: Readonly<Record<string, string>> = {
    '42501': `Nothing was changed, because the role lacks a privilege: ${message}. Grant it, or connect as the owner.`,
    '2BP01': dependentMessage(detail === '' ? message : detail),
    '25006':
      'This server accepts no writes: it is a replica, or default_transaction_read_only is on. Connect to the primary.',
  };
  const other = `Nothing was changed, because of an error: ${message}${detail === '' ? '' : ` (${detail})`}`;
  return new InstallError(text[errorCode(error) ?? ''] ?? other, { cause: error });
}

const dependentMessage = (dependents: string): string =>
  `Nothing was changed, because other objects depend on Flagcast's: ${dependents}. Drop them first, then try again.`;

/** Throws InstallError if schema flagcast is not Flagcast's, or its owner is another role. */
export function refuseForeignSchema(state: InstallState): void {
  if (state.schemaOwner === null) return;
  if (!state.installed) {
    throw new InstallError(
      `Database ${state.database} has a schema ${schemaName} that Flagcast did not create (it has no table schema_version). Rename or drop it, then try again.`,
    );
  }
  if (state.ownsSchema) return;
  throw new InstallError(
    `Flagcast was installed by role ${state.schemaOwner}, and role ${state.role} is not a member of it. Connect as ${state.schemaOwner}.`,
  );
}

export function refuseExistingTables(state: InstallState): void {
  if (state.publicNames.length === 0) return;
  const names = state.publicNames.map((name) => `public.${name}`).join(', ');
  throw new InstallError(
    `Database ${state.database} already has ${names}, which Flagcast did not create. To attach to these tables run install without --tables; to create the tables use an empty database.`,
  );
}

export function refuseMissingRights(state: InstallState, withTables: boolean): void {
  if (state.installed) return;
  if (!state.mayCreateSchema) {
    throw new InstallError(
      `Role ${state.role} may not create schema ${schemaName}. As the owner of the database: GRANT CREATE ON DATABASE "${state.database}" TO "${state.role}".`,
    );
  }
  if (withTables && !state.mayCreateInPublic) {
    throw new InstallError(
      `Role ${state.role} may not create tables in schema public. As its owner: GRANT CREATE ON SCHEMA public TO "${state.role}".`,
    );
  }
}

/** Throws InstallError unless the tables exist with the columns that the triggers read, and the role may attach to them. */
export function refuseUnfitTables(state: InstallState): void {
  const unfit = state.triggers.find(({ missingColumns }) => missingColumns.length > 0);
  if (unfit !== undefined) {
    const { table, relation, missingColumns } = unfit;
    const missing =
      relation === null ? `table public.${table}` : `column ${missingColumns.join(', ')} in public.${table}`;
    const fix = state.ownTables
      ? 'install --tables created it, and it was dropped: restore it from a backup.'
      : 'Connect to the database that has the feature flags, or use --tables to create the tables in an empty one, or --log-only for other tables, whose triggers call flagcast.record_event.';
    throw new InstallError(`Database ${state.database} has no ${missing}. ${fix}`);
  }
  const attached = state.triggers.filter(({ relation }) => relation !== null).map(({ table }) => table);
  const grants = attached.toSorted().flatMap((table) => {
    const lacks = state.publicTables[table]?.lacks ?? [];
    return lacks.length === 0 ? [] : [`GRANT ${lacks.join(', ')} ON public.${table} TO "${state.role}"`];
  });
  if (grants.length === 0) return;
  throw new InstallError(
    `Role ${state.role} lacks privileges on the tables. As their owner: ${grants.join('; ')}.`,
  );
}

/**
 * Throws InstallError if triggers of the host call Flagcast's functions. Flagcast's triggers are dropped with their
 * functions by CASCADE, because DROP TRIGGER needs the ownership of the host's table. After this check CASCADE drops
 * only Flagcast's triggers.
 */
export function refuseForeignTriggers({ objects, sql }: InstallState): void {
  const foreign = objects
    .map((object) => object.replace(' (disabled)', ''))
    .filter(
      (object) =>
        object.startsWith('trigger ') &&
        !object.startsWith(`trigger ${triggerName} on `) &&
        !sql.ownObjects.includes(object),
    );
  if (foreign.length === 0) return;
  throw new InstallError(
    dependentMessage(foreign.map((each) => each.replace(' on ', ' on table ')).join('; ')),
  );
}

/**
 * Throws InstallError if functions outside of the schema call flagcast.record_event. PostgreSQL does not track the
 * calls in a function's body, and the host's writes would fail.
 */
export async function refuseCallers(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ caller: string }>(
    `SELECT p.oid::regprocedure::text AS caller FROM pg_proc p
    WHERE p.pronamespace <> to_regnamespace('${schemaName}') AND strpos(lower(p.prosrc), '${schemaName}.record_event') > 0
    ORDER BY 1`,
  );
  if (rows.length === 0) return;
  throw new InstallError(
    `Nothing was changed, because functions call ${schemaName}.record_event: ${rows.map(({ caller }) => caller).join(', ')}. Drop or change them first, then try again.`,
  );
}

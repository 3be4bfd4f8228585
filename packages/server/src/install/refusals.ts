import type pg from 'pg';
import { InstallError } from './install-error.js';
import { hostTriggers, loggedColumns } from '../host/host-triggers.js';
import { schemaName, versionTables, type InstallState } from './objects.js';

export function refuseForeignSchema(state: InstallState): void {
  if (state.schemaOwner === null || state.installed) return;
  throw new InstallError(
    'foreign-schema',
    `Database ${state.database} has a schema ${schemaName} that Flagcast did not make (it has no table ${versionTables.flagcast}). Rename or drop it, then try again.`,
  );
}

export function refuseOthersSchema(state: InstallState): void {
  if (state.ownsSchema) return;
  throw new InstallError(
    'right-missing',
    `Flagcast was installed by role ${String(state.schemaOwner)}, and role ${state.role} is not a member of it. Connect as ${String(state.schemaOwner)}.`,
  );
}

export function refuseExistingTables(state: InstallState): void {
  if (state.publicNames.length === 0) return;
  const names = state.publicNames.map((name) => `public.${name}`).join(', ');
  throw new InstallError(
    'tables-present',
    `Database ${state.database} already has ${names}, which Flagcast did not make. To attach to these tables run install without --tables; to create the tables use an empty database.`,
  );
}

export function refuseMissingRights(state: InstallState, withTables: boolean): void {
  if (state.installed) {
    refuseOthersSchema(state);
    return;
  }
  if (!state.mayCreateSchema) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not create schema ${schemaName}. As the owner of the database: GRANT CREATE ON DATABASE "${state.database}" TO "${state.role}".`,
    );
  }
  if (withTables && !state.mayCreateInPublic) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not create tables in schema public. As its owner: GRANT CREATE ON SCHEMA public TO "${state.role}".`,
    );
  }
}

/** Throws InstallError unless the tables exist, with the columns that the triggers read, and this role has the rights. */
export async function refuseUnfitTables(client: pg.ClientBase, state: InstallState): Promise<void> {
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
      coalesce(NOT has_table_privilege(c.oid, 'TRIGGER'), false)::text AS untriggerable
    FROM jsonb_each($1::jsonb) AS wanted (name, columns)
    LEFT JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p')
      AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
    ORDER BY wanted.name`,
    [JSON.stringify({ ...optionalTables(state), ...loggedColumns })],
  );
  for (const { table, missing } of rows) {
    if (missing === '') continue;
    const whole = missing.split(', ').length === loggedColumns[table]?.length;
    const fix = state.ownTables
      ? 'install --tables created it, and it was dropped: restore it from a backup.'
      : 'Connect to the database that has the feature flags, or use --tables to make the tables in an empty one, or --log-only for tables of another form, whose triggers call flagcast.record_event.';
    throw new InstallError(
      'tables-missing',
      `Database ${state.database} has no ${whole ? `table public.${table}` : `column ${missing} in public.${table}`} to attach to. ${fix}`,
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

/** Tables that get a trigger if they exist. Their columns are read as JSON. */
function optionalTables({ triggers }: InstallState): Record<string, string[]> {
  const existing = hostTriggers.filter(
    ({ table, required }) =>
      !required && triggers.some((found) => found.table === table && found.relation !== null),
  );
  return Object.fromEntries(existing.map(({ table }) => [table, []]));
}

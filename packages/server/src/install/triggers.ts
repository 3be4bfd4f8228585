import type pg from 'pg';
import { hostTriggers, triggerName } from '../host/host-triggers.js';
import { InstallError } from './install-error.js';
import {
  deletionTriggerName,
  localTables,
  schemaName,
  skipTriggerName,
  triggerFunctions,
  triggerObject,
  type InstallState,
} from './objects.js';

/** The triggers that belong on the host's tables. Those of a table that does not exist are left out. */
function wantedTriggers({ triggers }: InstallState, makesTables: boolean): typeof hostTriggers {
  return hostTriggers.filter(
    ({ table }) => makesTables || triggers.some((found) => found.table === table && found.relation !== null),
  );
}

/** Whether a trigger is missing or switched off, or fires where it does not belong. */
export function triggersAreWrong(state: InstallState): boolean {
  const wanted = wantedTriggers(state, false);
  const expected = new Set(wanted.map(({ table }) => triggerObject(table)));
  const isMisplaced = state.objects.some(
    (object) => object.startsWith(`trigger ${triggerName} on `) && !expected.has(object),
  );
  return (
    isMisplaced ||
    wanted.some(({ table }) => {
      const found = state.triggers.find((trigger) => trigger.table === table);
      const isAlways = found?.enabled === 'A' || !state.ownedTables.includes(table);
      return (
        found === undefined || !isAlways || !/^[AO]$/.test(found.enabled ?? '') || found.partitions.length > 0
      );
    })
  );
}

/** The statements that make the triggers, none of which is there, and the objects and notes that come of it. */
export function planTriggers(
  state: InstallState,
  makesTables: boolean,
): { objects: string[]; statements: string[]; notes: string[] } {
  const wanted = wantedTriggers(state, makesTables);
  const isOwner = (table: string): boolean => makesTables || state.ownedTables.includes(table);
  const foreign = wanted.filter(({ table }) => !isOwner(table)).map(({ table }) => `public.${table}`);
  return {
    objects: wanted.map(({ table }) => triggerObject(table)),
    statements: wanted.flatMap(({ table, events, function: name }) => [
      `CREATE TRIGGER ${triggerName} AFTER ${events} ON public.${table} FOR EACH ROW EXECUTE FUNCTION ${schemaName}.${name}();`,
      // Also for what logical replication applies. Only the owner of the table may say so.
      ...(isOwner(table) ? [`ALTER TABLE public.${table} ENABLE ALWAYS TRIGGER ${triggerName};`] : []),
    ]),
    notes:
      foreign.length === 0
        ? []
        : [
            `Role ${state.role} does not own ${foreign.join(', ')}: rows that logical replication writes there are not logged. If this database is a subscriber, run install as the owner.`,
          ],
  };
}

/**
 * The triggers on Flagcast's own tables: those that keep logical replication from writing what describes this
 * database, and those that record which rows of the event log are gone.
 */
export function planOwnTriggers(withTables: boolean): { objects: string[]; statements: string[] } {
  const tables = localTables(withTables);
  const deletions = [
    { name: `${deletionTriggerName}_delete`, event: 'DELETE', gone: ' REFERENCING OLD TABLE AS gone' },
    { name: `${deletionTriggerName}_truncate`, event: 'TRUNCATE', gone: '' },
  ];
  return {
    objects: [
      ...tables.map((table) => `trigger ${skipTriggerName} on ${schemaName}.${table}`),
      ...deletions.map(({ name }) => `trigger ${name} on ${schemaName}.event_log`),
    ],
    statements: [
      ...tables.flatMap((table) => [
        `CREATE TRIGGER ${skipTriggerName} BEFORE INSERT OR UPDATE OR DELETE ON ${schemaName}.${table} FOR EACH ROW EXECUTE FUNCTION ${schemaName}.skip_replicated();`,
        `ALTER TABLE ${schemaName}.${table} ENABLE REPLICA TRIGGER ${skipTriggerName};`,
      ]),
      ...deletions.map(
        ({ name, event, gone }) =>
          `CREATE TRIGGER ${name} AFTER ${event} ON ${schemaName}.event_log${gone} FOR EACH STATEMENT EXECUTE FUNCTION ${schemaName}.record_deletion();`,
      ),
    ],
  };
}

/**
 * Throws InstallError where triggers of the host call Flagcast's functions. Flagcast's triggers are dropped with their
 * functions, by CASCADE: DROP TRIGGER needs the ownership of the host's table, which a role with the right
 * TRIGGER does not have. After this check CASCADE reaches Flagcast's triggers only.
 */
export async function refuseForeignTriggers(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ object: string }>(
    `SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object
    FROM pg_depend d
    JOIN pg_proc f ON f.oid = d.refobjid AND f.pronamespace = to_regnamespace('${schemaName}')
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    WHERE d.refclassid = 'pg_proc'::regclass AND d.deptype = 'n' AND f.proname = ANY ($1::text[])
      AND coalesce(t.tgname <> ALL ($2::name[]), true)`,
    [
      [...triggerFunctions, 'wake'],
      [
        triggerName,
        skipTriggerName,
        `${deletionTriggerName}_delete`,
        `${deletionTriggerName}_truncate`,
        'flagcast_wake',
      ],
    ],
  );
  if (rows.length === 0) return;
  throw new InstallError(
    'dependent',
    `Nothing was changed, because other objects depend on Flagcast's: ${rows.map(({ object }) => object).join('; ')}. Drop those first, then try again.`,
  );
}

/**
 * Throws InstallError where functions outside of the schema call flagcast.record_event. PostgreSQL does not track
 * what a function's body calls, and the host's writes would fail without it.
 */
export async function refuseCallers(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ caller: string }>(
    `SELECT p.oid::regprocedure::text AS caller FROM pg_proc p
    WHERE p.pronamespace <> to_regnamespace('${schemaName}') AND strpos(lower(p.prosrc), '${schemaName}.record_event') > 0
    ORDER BY 1`,
  );
  if (rows.length === 0) return;
  throw new InstallError(
    'dependent',
    `Nothing was changed, because functions call ${schemaName}.record_event: ${rows.map(({ caller }) => caller).join(', ')}. Drop or change those first, then try again.`,
  );
}

/** Notes for a host with publications that carry the event log to subscribers. */
export async function publicationNotes(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    'SELECT pubname::text AS name FROM pg_publication WHERE puballtables ORDER BY 1',
  );
  return rows.map(
    ({ name }) =>
      `Publication ${name} publishes all tables. Run install on its subscribers, too: without the schema ${schemaName} their replication stops with an error at the next event, until it exists.`,
  );
}

/**
 * Notes for a host whose owner of the tables will not be able to read the event log: pg_dump stops at the first table
 * that it may not read.
 */
export async function backupNotes(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ owner: string; name: string }>(
    `SELECT DISTINCT o.rolname::text AS name, quote_ident(o.rolname) AS owner
    FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
    WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p')
      AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
      AND NOT pg_has_role(o.oid, current_user, 'USAGE')
    ORDER BY 1`,
    [hostTriggers.filter(({ required }) => required).map(({ table }) => table)],
  );
  return rows.map(
    ({ owner, name }) =>
      `Role ${name} owns tables and may not read schema ${schemaName}: pg_dump as ${name} fails. To allow it: GRANT USAGE ON SCHEMA ${schemaName} TO ${owner}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schemaName} TO ${owner}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schemaName} TO ${owner};`,
  );
}

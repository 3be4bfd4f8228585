import type pg from 'pg';
import { InstallError } from './install-error.js';
import { schemaName, wakeTables } from './install-objects.js';

/**
 * Throws InstallError where triggers that are not ours call our function. The triggers go with their
 * function, by CASCADE: DROP TRIGGER would ask for the ownership of the host's tables, which whoever
 * installed with the right TRIGGER does not have. Once this has looked, CASCADE reaches only our three.
 */
export async function refuseForeignTriggers(client: pg.ClientBase): Promise<void> {
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
}

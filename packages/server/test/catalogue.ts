import type pg from 'pg';
import { expect } from 'vitest';
import { InstallError } from '../src/install/refusals.js';
import { withClient, type TestDatabase } from './database.js';

/**
 * Everything that a schema change can leave in this database, as sorted lines without oids:
 * schemas, relations, columns, constraints, indexes, triggers, functions, views, rules, policies,
 * types, owners, grants, default grants, settings, comments, extensions.
 */
export async function dumpCatalogue(client: pg.Pool | pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(`
    WITH schemas AS (
      SELECT * FROM pg_namespace
      WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    ), relations AS (
      SELECT s.nspname, c.* FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace
    )
    SELECT format('schema %s owner %s grants %s', nspname, nspowner::regrole, nspacl) AS line FROM schemas
    UNION ALL
    SELECT format('relation %s.%s %s owner %s grants %s options %s rls %s replica %s',
      nspname, relname, relkind, relowner::regrole, relacl, reloptions, relrowsecurity, relreplident) FROM relations
    UNION ALL
    SELECT format('column %s.%s %s %s %s notnull %s default %s grants %s', r.nspname, r.relname, a.attnum, a.attname,
      format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attacl)
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT format('constraint %s on %s.%s %s', c.conname, r.nspname, r.relname, pg_get_constraintdef(c.oid))
    FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM pg_index i JOIN relations r ON r.oid = i.indrelid
    UNION ALL
    SELECT format('trigger %s on %s.%s %s %s', t.tgname, r.nspname, r.relname, t.tgenabled, pg_get_triggerdef(t.oid))
    FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('view %s.%s %s', nspname, relname, pg_get_viewdef(oid)) FROM relations WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT format('rule %s on %s.%s', w.rulename, r.nspname, r.relname)
    FROM pg_rewrite w JOIN relations r ON r.oid = w.ev_class
    UNION ALL
    SELECT format('policy %s on %s.%s', p.polname, r.nspname, r.relname)
    FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
    UNION ALL
    SELECT format('function owner %s grants %s %s', p.proowner::regrole, p.proacl, pg_get_functiondef(p.oid))
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace WHERE p.prokind IN ('f', 'p')
    UNION ALL
    SELECT format('type %s.%s %s', s.nspname, t.typname, t.typtype) FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace
    UNION ALL
    SELECT format('default grants %s %s %s %s', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl)
    FROM pg_default_acl
    UNION ALL
    SELECT format('setting %s %s', setrole::regrole, setconfig)
    FROM pg_db_role_setting WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    UNION ALL
    SELECT format('database owner %s grants %s', datdba::regrole, datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT format('comment on %s %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
    FROM pg_description d JOIN relations r ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid
    UNION ALL
    SELECT format('extension %s', extname) FROM pg_extension
    UNION ALL
    SELECT format('event trigger %s', evtname) FROM pg_event_trigger
    ORDER BY 1`);
  return rows.map((row) => row.line);
}

/** Returns the InstallError of `work`, which must have one line and leave the database unchanged. */
export async function installRefusal(
  database: TestDatabase,
  work: (client: pg.Client) => Promise<unknown>,
): Promise<InstallError> {
  const before = await dumpCatalogue(database.pool);
  const error: unknown = await withClient(database.url, work).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(await dumpCatalogue(database.pool)).toEqual(before);
  if (!(error instanceof InstallError)) throw new Error('expected an InstallError', { cause: error });
  expect(error.message).not.toContain('\n');
  return error;
}

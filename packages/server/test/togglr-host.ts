import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type pg from 'pg';
import { dumpCatalogue } from './catalogue.js';
import type { TestCluster, TestDatabase } from './database.js';

const execute = promisify(execFile);

/** A database with the tables, view, triggers and grants of a Togglr, and with separate roles. */
export interface TogglrHost {
  readonly database: TestDatabase;
  /** Owns the tables; may log in. */
  readonly owner: string;
  /** Writes; may log in. */
  readonly backend: string;
  /** The connection string of a role of this database. */
  readonly urlOf: (role: string, password?: string) => string;
  drop(): Promise<void>;
}

/** Creates the database in a cluster of the test, whose roles no other test changes. */
export async function createTogglrHost(cluster: TestCluster): Promise<TogglrHost> {
  const database = await cluster.createDatabase({ schema: 'none' });
  const suffix = randomBytes(4).toString('hex');
  const roles = { owner: `owner_${suffix}`, backend: `backend_${suffix}`, report: `report_${suffix}` };
  const text = await readFile(new URL('togglr-host.sql', import.meta.url), 'utf8');
  await database.pool.query(`
    CREATE ROLE ${roles.owner} LOGIN PASSWORD 'secret' CREATEROLE;
    CREATE ROLE ${roles.backend} LOGIN PASSWORD 'secret' CONNECTION LIMIT 50;
    CREATE ROLE ${roles.report};
    GRANT ${roles.report} TO ${roles.backend};
    COMMENT ON ROLE ${roles.backend} IS 'the backend';
    GRANT CREATE ON SCHEMA public TO ${roles.owner};
    ALTER DATABASE ${database.name} OWNER TO ${roles.owner};
    ALTER DATABASE ${database.name} SET statement_timeout = '10min';
    ALTER ROLE ${roles.backend} IN DATABASE ${database.name} SET lock_timeout = '1min'`);
  await database.pool.query(
    text.replace(/\$(owner|backend|report)\b/g, (_, name: keyof typeof roles) => roles[name]),
  );
  return {
    database,
    owner: roles.owner,
    backend: roles.backend,
    urlOf(role, password = 'secret') {
      const url = new URL(database.url);
      url.username = role;
      url.password = password;
      return url.toString();
    },
    async drop() {
      const { pool } = database;
      await pool.query('DROP PUBLICATION IF EXISTS theirs');
      await pool.query(`ALTER DATABASE ${database.name} OWNER TO CURRENT_USER`);
      for (const role of Object.values(roles))
        await pool.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
      await database.drop();
    },
  };
}

/**
 * Everything about the host that installing could have changed: the catalogue of the database, and of
 * the cluster the roles, their memberships, settings and comments; from pg_dump as well, where there is one
 * for this server. `rights: 'meant'` takes a list of rights that was written out and says the same as
 * the default for the default, as pg_dump does: PostgreSQL keeps it written out after a REVOKE.
 */
export async function dumpHost(host: TogglrHost, rights: 'written' | 'meant' = 'written'): Promise<string[]> {
  const { pool, url } = host.database;
  const catalogue = await dumpCatalogue(pool);
  return [
    ...catalogue.map((line) => (rights === 'meant' ? line.replace(/ grants (\{[^}]*\})?/, '') : line)),
    ...(await dumpMore(pool)),
    ...(rights === 'meant' ? await dumpRights(pool) : []),
    ...((await runPgDump(url)) ?? []),
  ];
}

async function dumpMore(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(`
    SELECT format('role %s %s', r.rolname, to_jsonb(r) - ARRAY['oid', 'rolpassword']) AS line FROM pg_roles r
    UNION ALL
    SELECT format('member %s of %s by %s %s', m.member::regrole, m.roleid::regrole, m.grantor::regrole, m.admin_option)
    FROM pg_auth_members m
    UNION ALL
    SELECT format('cluster setting %s %s %s', setdatabase, setrole::regrole, setconfig) FROM pg_db_role_setting
    UNION ALL
    SELECT format('shared comment %s %s', pg_describe_object(classoid, objoid, 0), description) FROM pg_shdescription
    UNION ALL
    SELECT format('shared dependency %s %s %s', pg_describe_object(d.classid, d.objid, d.objsubid), d.deptype, d.refobjid::regrole)
    FROM pg_shdepend d
    WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND d.refclassid = 'pg_authid'::regclass
    UNION ALL
    SELECT format('comment on %s %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
    FROM pg_description d WHERE d.objoid >= 16384
    UNION ALL
    SELECT format('sequence %s.%s %s %s %s', schemaname, sequencename, sequenceowner, start_value, increment_by) FROM pg_sequences
    UNION ALL
    SELECT format('policy %s.%s %s %s %s %s', schemaname, tablename, policyname, roles, cmd, qual) FROM pg_policies
    UNION ALL
    SELECT format('publication %s %s.%s', pubname, schemaname, tablename) FROM pg_publication_tables
    UNION ALL
    SELECT format('enum %s %s', enumtypid::regtype, enumlabel) FROM pg_enum
    UNION ALL
    SELECT format('statistics %s', stxname) FROM pg_statistic_ext
    ORDER BY 1`);
  return rows.map((row) => row.line);
}

async function dumpRights(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(`
    WITH lists AS (
      SELECT 'relation ' || c.oid::regclass AS object, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS list
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'v', 'm', 'S', 'p')
      UNION ALL
      SELECT 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
      UNION ALL
      SELECT 'database', coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = current_database()
      UNION ALL
      SELECT 'function ' || oid::regprocedure, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE oid >= 16384
      UNION ALL
      SELECT 'column ' || attrelid::regclass || '.' || attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL
    )
    SELECT format('right on %s: %s to %s by %s %s', l.object, x.privilege_type, x.grantee, x.grantor, x.is_grantable) AS line
    FROM lists l CROSS JOIN aclexplode(l.list) x
    ORDER BY 1`);
  return rows.map((row) => row.line);
}

/** Null if pg_dump is not installed, or is too old for the server. */
async function runPgDump(url: string): Promise<string[] | null> {
  try {
    const { stdout } = await execute('pg_dump', ['--schema-only', '--dbname', url], { maxBuffer: 1 << 26 });
    // Newer versions write a random key into each dump.
    return stdout.split('\n').filter((line) => !/^\\(un)?restrict /.test(line));
  } catch (error) {
    const text = String(error);
    if (/ENOENT|server version mismatch/.test(text)) return null;
    throw error;
  }
}

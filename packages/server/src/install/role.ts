import pg from 'pg';
import { readGrants, type GrantState } from './grants.js';
import { InstallError } from './install-error.js';
import { roleConnectionLimit } from '../postgres/session-budget.js';
import { guardTable, roleTable, schemaName, type InstallState } from './objects.js';

/** What an installation would do for one role. */
export interface RolePlan {
  /** `role "reader"` where it would be created. */
  readonly creates: readonly string[];
  /** One for each right, e.g. `SELECT ON TABLE public.features TO "reader"`. */
  readonly grants: readonly string[];
  readonly statements: readonly string[];
  /** Notes for the operator, a line each. */
  readonly notes: readonly string[];
}

/** A role that install --role gave rights to. */
export interface GrantedRole {
  readonly name: string;
  /** Whether install made the role. */
  readonly made: boolean;
  /** The names of the rights that it was given. */
  readonly grants: readonly string[];
}

/** Reads which roles were given rights. */
export async function readGrantedRoles(client: pg.ClientBase, state: InstallState): Promise<GrantedRole[]> {
  if (!state.objects.includes(`table ${schemaName}.${roleTable}`)) return [];
  const { rows } = await client.query<{ roles: string }>(
    `SELECT coalesce(json_agg(json_build_object('name', role_name, 'made', made, 'grants', grants) ORDER BY role_name), '[]')::text AS roles
     FROM ${schemaName}.${roleTable}`,
  );
  return JSON.parse(rows[0]?.roles ?? '[]') as GrantedRole[];
}

/** Flagcast 0.1 granted it, to see the transactions of others. */
const statsRole = 'pg_read_all_stats';
const statsGrant = `role ${statsRole}`;

/** Throws InstallError `role-unfit` for a name that no role of the server can have. */
function refuseRoleName(name: string): void {
  const problem =
    name === '' || name.includes('\0')
      ? 'is not the name of a role'
      : Buffer.byteLength(name) > 63
        ? 'is too long: PostgreSQL takes 63 bytes'
        : /^(pg_.*|public|none)$/i.test(name)
          ? "is one of PostgreSQL's own"
          : null;
  if (problem === null) return;
  throw new InstallError('role-unfit', `--role: ${JSON.stringify(name)} ${problem}; choose another name.`);
}

interface RoleState {
  readonly exists: boolean;
  readonly superuser: boolean;
  readonly login: boolean;
  readonly mayCreateRoles: boolean;
  /** Whether it was granted pg_read_all_stats, and the session may revoke that. */
  readonly readsStats: boolean;
  readonly mayRevokeStats: boolean;
  /** How many sessions it may have; -1: any number. */
  readonly connectionLimit: number;
}

async function readRole(client: pg.ClientBase, name: string): Promise<RoleState> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT json_build_object(
       'exists', r.rolname IS NOT NULL,
       'superuser', coalesce(r.rolsuper, false),
       'login', coalesce(r.rolcanlogin, false),
       'connectionLimit', coalesce(r.rolconnlimit, -1),
       'mayCreateRoles', me.rolsuper OR me.rolcreaterole,
       'readsStats', EXISTS (
         SELECT FROM pg_catalog.pg_auth_members m
         WHERE m.member = r.oid AND m.roleid = 'pg_read_all_stats'::regrole
       ),
       'mayRevokeStats', me.rolsuper
         OR pg_has_role('pg_read_all_stats', 'MEMBER WITH ADMIN OPTION')
         OR (me.rolcreaterole AND current_setting('server_version_num')::int < 160000)
     )::text AS role
     FROM pg_catalog.pg_roles me LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1
     WHERE me.rolname = current_user`,
    [name],
  );
  return JSON.parse(rows[0]?.role ?? '{}') as RoleState;
}

/**
 * Plans what the role `name` and its rights lack. `made` are the objects that the rest of the installation creates, on
 * which no role has rights yet. Changes nothing. Throws InstallError where the session may not do it.
 */
export async function planRole(
  client: pg.ClientBase,
  options: {
    readonly name: string;
    readonly state: InstallState;
    readonly withTables: boolean;
    readonly made: readonly string[];
    /** Whether a missing role is created; otherwise nothing is planned for it. */
    readonly makes: boolean;
  },
): Promise<RolePlan> {
  const { name, state, withTables, made, makes } = options;
  refuseRoleName(name);
  const role = await readRole(client, name);
  if (!role.exists && !makes) return { creates: [], grants: [], statements: [], notes: [] };
  const identifier = pg.escapeIdentifier(name);
  if (!role.exists && !role.mayCreateRoles) {
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not create roles. As a role with CREATEROLE: CREATE ROLE ${identifier} LOGIN; then run this again.`,
    );
  }
  const states = await readGrants(client, {
    database: state.database,
    ownTables: withTables,
    role: role.exists ? name : null,
  });
  const isMade = ({ name: grant, exists }: GrantState): boolean => {
    const object = grant.replace(/^\w+ /, '');
    if (!exists)
      return object === schemaName || object.startsWith(`${schemaName}.`) || made.includes(`table ${object}`);
    // A table of Flagcast's that exists is kept with the rights on it.
    return made.includes(`view ${object}`);
  };
  const missing = states.filter((grant) => {
    // Its migration grants this to PUBLIC.
    if (grant.name === `table ${schemaName}.${guardTable}` && !grant.exists) return false;
    return isMade(grant) || (grant.exists && !grant.held);
  });
  const notes: string[] = [];
  const given = missing;
  const refused = given.filter((grant) => !isMade(grant) && !grant.grantable);
  if (refused.length > 0) {
    const statements = refused.map(({ right }) => `GRANT ${right} TO ${identifier}`);
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not grant these rights. As their owner: ${statements.join('; ')}; then run this again.`,
    );
  }
  if (role.superuser) {
    notes.push(`Role ${name} is a superuser: it may do everything. Use another role for the server.`);
  } else if (role.exists && !role.login) {
    notes.push(`Role ${name} may not log in. To allow it: ALTER ROLE ${identifier} LOGIN;`);
  }
  const recorded = (await readGrantedRoles(client, state)).find((granted) => granted.name === name);
  const grantedStats = recorded?.grants.includes(statsGrant) === true;
  if (grantedStats && role.readsStats && !role.mayRevokeStats) {
    notes.push(
      `Role ${name} has ${statsRole}, which it no longer needs. As a superuser: REVOKE ${statsRole} FROM ${identifier};`,
    );
  }
  const limit = `ALTER ROLE ${identifier} CONNECTION LIMIT ${roleConnectionLimit};`;
  const isUnlimited = role.exists && role.login && !role.superuser && role.connectionLimit < 0;
  const limits = isUnlimited && recorded?.made === true && role.mayCreateRoles;
  if (isUnlimited && !limits) {
    notes.push(`Role ${name} may have any number of sessions. To leave some to the host: ${limit}`);
  } else if (limits) {
    notes.push(
      `Role ${name} gets CONNECTION LIMIT ${roleConnectionLimit}. Where its servers need more: ALTER ROLE ${identifier} CONNECTION LIMIT n;`,
    );
  }
  if (role.exists && given.length === 0 && !grantedStats && !limits)
    return { creates: [], grants: [], statements: [], notes };
  const kept = (recorded?.grants ?? []).filter((grant) => grant !== statsGrant);
  const record: GrantedRole = {
    name,
    made: !role.exists || (recorded?.made ?? false),
    grants: [...new Set([...kept, ...given.map((grant) => grant.name)])].toSorted(),
  };
  return {
    creates: role.exists ? [] : [`role ${identifier}`],
    grants: given.map(({ right }) => `${right} TO ${identifier}`),
    statements: [
      ...(role.exists
        ? []
        : [
            `CREATE ROLE ${identifier} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT ${roleConnectionLimit};`,
          ]),
      ...(limits ? [limit] : []),
      ...given.map(({ right }) => `GRANT ${right} TO ${identifier};`),
      ...(grantedStats && role.readsStats && role.mayRevokeStats
        ? [`REVOKE ${statsRole} FROM ${identifier};`]
        : []),
      recordStatement(record),
    ],
    notes,
  };
}

function recordStatement({ name, made, grants }: GrantedRole): string {
  const names = grants.map((grant) => pg.escapeLiteral(grant)).join(', ');
  return `INSERT INTO ${schemaName}.${roleTable} (role_name, made, grants)
VALUES (${pg.escapeLiteral(name)}, ${made}, ARRAY[${names}])
ON CONFLICT (role_name) DO UPDATE SET made = excluded.made, grants = excluded.grants;`;
}

/**
 * Revokes the rights that install granted, and drops the role if install created it and nothing else uses it. Call it
 * in the same transaction, after the rest has been dropped. Returns a line for each action; throws what PostgreSQL
 * throws.
 */
export async function revokeRole(
  client: pg.ClientBase,
  granted: GrantedRole,
  state: InstallState,
): Promise<string[]> {
  const role = await readRole(client, granted.name);
  if (!role.exists) return [];
  const identifier = pg.escapeIdentifier(granted.name);
  const options = { database: state.database, ownTables: state.ownTables, role: granted.name };
  const lines: string[] = [];
  for (const { name, right, exists, held } of await readGrants(client, options)) {
    if (!granted.grants.includes(name) || !exists || !held) continue;
    await client.query(`REVOKE ${right} FROM ${identifier}`);
    lines.push(`revoked ${right} FROM ${identifier}`);
  }
  if (granted.grants.includes(statsGrant) && role.readsStats && role.mayRevokeStats) {
    await client.query(`REVOKE ${statsRole} FROM ${identifier}`);
    lines.push(`revoked ${statsRole} FROM ${identifier}`);
  }
  if (!granted.made) return lines;
  const uses = await readUses(client, granted.name);
  if (uses.length > 0) {
    return [
      ...lines,
      `kept role ${identifier}, because it is in use elsewhere: ${uses.join('; ')}. When it is not: DROP ROLE ${identifier};`,
    ];
  }
  await client.query(`DROP ROLE ${identifier}`);
  return [...lines, `dropped role ${identifier}`];
}

/** What a role owns, has rights on or is a member of, in all databases. */
async function readUses(client: pg.ClientBase, name: string): Promise<string[]> {
  const { rows } = await client.query<{ use: string }>(
    `WITH me AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
     SELECT CASE WHEN d.deptype = 'o' THEN 'it owns ' ELSE 'it has rights on ' END
       || CASE WHEN d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
         THEN pg_describe_object(d.classid, d.objid, d.objsubid)
         ELSE 'objects of database ' || coalesce((SELECT datname FROM pg_catalog.pg_database WHERE oid = d.dbid), d.dbid::text)
       END AS use
     FROM pg_catalog.pg_shdepend d JOIN me ON d.refobjid = me.oid
     WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
     UNION
     SELECT 'role ' || pg_get_userbyid(m.member) || ' is a member of it'
     FROM pg_catalog.pg_auth_members m JOIN me ON m.roleid = me.oid
     -- PostgreSQL 16 and newer grant this to the creator of a role.
     WHERE m.grantor <> 10 OR NOT m.admin_option
     UNION
     SELECT 'it is connected to database ' || a.datname
     FROM pg_catalog.pg_stat_activity a WHERE a.usename = $1 AND a.datname <> current_database()
     ORDER BY 1
     LIMIT 10`,
    [name],
  );
  return rows.map(({ use }) => use);
}

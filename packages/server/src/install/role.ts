import pg from 'pg';
import { roleConnectionLimit } from '../postgres/session-budget.js';
import { readGrants, type GrantState } from './grants.js';
import { InstallError } from './install-error.js';
import { guardTable, roleTable, schemaName, type InstallState, type ViewSchema } from './objects.js';

/** What an installation would do, or the part of it for a role. */
export interface InstallPlan {
  /** One line for each object, e.g. `view flagcast.v_realtime_events`. */
  readonly creates: readonly string[];
  /** One line for each grant, e.g. `SELECT ON TABLE public.features TO "reader"`. */
  readonly grants: readonly string[];
  /** The SQL without the transaction around it; empty if the installation is complete. */
  readonly statements: readonly string[];
  /** Notes for the operator, a line each. */
  readonly notes: readonly string[];
}

const emptyPlan: InstallPlan = { creates: [], grants: [], statements: [], notes: [] };

/** A role that install --role granted privileges to. */
export interface GrantedRole {
  readonly name: string;
  /** Whether install created the role. */
  readonly made: boolean;
  /** The names of the grants. */
  readonly grants: readonly string[];
}

export async function readGrantedRoles(client: pg.ClientBase, state: InstallState): Promise<GrantedRole[]> {
  if (!state.objects.includes(`table ${schemaName}.${roleTable}`)) return [];
  const { rows } = await client.query<{ roles: string }>(
    `SELECT coalesce(json_agg(json_build_object('name', role_name, 'made', made, 'grants', grants) ORDER BY role_name), '[]')::text AS roles
     FROM ${schemaName}.${roleTable}`,
  );
  return JSON.parse(rows[0]?.roles ?? '[]') as GrantedRole[];
}

/** Throws InstallError `role-unfit` for a name that a role of the server cannot have. */
function refuseRoleName(name: string): void {
  let problem = '';
  if (name === '' || name.includes('\0')) problem = 'is not the name of a role';
  else if (Buffer.byteLength(name) > 63) problem = 'is longer than 63 bytes';
  else if (/^(pg_.*|public|none)$/i.test(name)) problem = 'is reserved by PostgreSQL';
  if (problem === '') return;
  throw new InstallError('role-unfit', `--role: ${JSON.stringify(name)} ${problem}; choose another name.`);
}

interface RoleState {
  readonly exists: boolean;
  readonly superuser: boolean;
  readonly login: boolean;
  readonly mayCreateRoles: boolean;
  /** The maximum number of its sessions; -1: no limit. */
  readonly connectionLimit: number;
}

async function readRole(client: pg.ClientBase, name: string): Promise<RoleState> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT json_build_object(
       'exists', r.rolname IS NOT NULL,
       'superuser', coalesce(r.rolsuper, false),
       'login', coalesce(r.rolcanlogin, false),
       'connectionLimit', coalesce(r.rolconnlimit, -1),
       'mayCreateRoles', me.rolsuper OR me.rolcreaterole
     )::text AS role
     FROM pg_catalog.pg_roles me LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1
     WHERE me.rolname = current_user`,
    [name],
  );
  return JSON.parse(rows[0]?.role ?? '{}') as RoleState;
}

/** The installation of which roles are a part. */
interface Granting {
  readonly state: InstallState;
  readonly withTables: boolean;
  /** The objects that the installation creates, and the views that it drops before; null if it changes no object. */
  readonly replaces: { readonly made: readonly string[]; readonly views: readonly ViewSchema[] } | null;
}

/**
 * Plans the role of --role and, if objects are created again, the privileges on them of earlier roles and those that
 * were granted manually. Changes nothing. Throws InstallError if the session may not do it.
 */
export async function planRoles(
  client: pg.ClientBase,
  { role, ...granting }: Granting & { readonly role: string | undefined },
): Promise<InstallPlan> {
  const recorded = await readGrantedRoles(client, granting.state);
  const plans: InstallPlan[] = [];
  if (granting.replaces !== null) {
    plans.push(await planManualGrants(client, granting.replaces.views, recorded));
    for (const { name } of recorded) {
      if (name !== role && (await readRole(client, name)).exists) {
        plans.push(await planRole(client, name, { ...granting, recorded }));
      }
    }
  }
  if (role !== undefined) {
    refuseRoleName(role);
    plans.push(await planRole(client, role, { ...granting, recorded }));
  }
  return {
    creates: plans.flatMap(({ creates }) => creates),
    grants: plans.flatMap(({ grants }) => grants),
    statements: plans.flatMap(({ statements }) => statements),
    notes: plans.flatMap(({ notes }) => notes),
  };
}

/**
 * Keeps manual grants that would be lost: privileges on views that are dropped, and of PUBLIC on
 * functions, which the SQL file revokes.
 */
async function planManualGrants(
  client: pg.ClientBase,
  views: readonly ViewSchema[],
  recorded: readonly GrantedRole[],
): Promise<InstallPlan> {
  const { rows } = await client.query<{ right: string; option: string }>(
    `SELECT format('%s ON TABLE %I.v_realtime_events TO %s', x.privilege_type, n.nspname,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) AS "right",
      CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL aclexplode(c.relacl) x
    WHERE n.nspname = ANY ($1::text[]) AND c.relname = 'v_realtime_events'
      AND x.grantee <> c.relowner AND pg_get_userbyid(x.grantee) <> ALL ($2::text[])
    UNION ALL
    SELECT format('EXECUTE ON FUNCTION %s TO PUBLIC', p.oid::regprocedure), ''
    FROM pg_catalog.pg_proc p
    CROSS JOIN LATERAL aclexplode(p.proacl) x
    WHERE p.pronamespace = to_regnamespace('${schemaName}') AND p.proname = ANY ($3::text[]) AND x.grantee = 0
    ORDER BY 1`,
    [views, recorded.map(({ name }) => name), ['record_event', 'prune_event_log', 'adopt_event_log']],
  );
  return {
    ...emptyPlan,
    grants: rows.map(({ right }) => right),
    statements: rows.map(({ right, option }) => `GRANT ${right}${option};`),
  };
}

/** Plans a role, which is created if it does not exist, and the privileges that it lacks. */
async function planRole(
  client: pg.ClientBase,
  name: string,
  { recorded, ...granting }: Granting & { readonly recorded: readonly GrantedRole[] },
): Promise<InstallPlan> {
  const { state, withTables } = granting;
  const role = await readRole(client, name);
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
  const missing = missingGrants(states, granting);
  const refused = missing.filter(({ isNew, grantable }) => !isNew && !grantable);
  if (refused.length > 0) {
    const statements = refused.map(({ right }) => `GRANT ${right} TO ${identifier}`);
    throw new InstallError(
      'right-missing',
      `Role ${state.role} may not grant these privileges. As their owner: ${statements.join('; ')}; then run this again.`,
    );
  }
  const before = recorded.find((granted) => granted.name === name);
  const obsolete = states.filter(
    ({ need, held, name: grant }) => need === 'obsolete' && held && before?.grants.includes(grant) === true,
  );
  const { note, limit } = planAttributes(name, role, before?.made === true);
  const notes = [
    ...(note === undefined ? [] : [note]),
    ...obsolete
      .filter(({ grantable }) => !grantable)
      .map(
        ({ right }) =>
          `Role ${name} has ${right}, which it no longer needs. As a superuser: REVOKE ${right} FROM ${identifier};`,
      ),
  ];
  const create = `CREATE ROLE ${identifier} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT ${roleConnectionLimit};`;
  const statements = [
    ...(role.exists ? [] : [create]),
    ...(limit === undefined ? [] : [limit]),
    ...missing.map(({ right }) => `GRANT ${right} TO ${identifier};`),
    ...obsolete
      .filter(({ grantable }) => grantable)
      .map(({ right }) => `REVOKE ${right} FROM ${identifier};`),
  ];
  if (statements.length === 0) return { ...emptyPlan, notes };
  const kept = (before?.grants ?? []).filter((grant) => !obsolete.some((each) => each.name === grant));
  const record = {
    name,
    made: !role.exists || before?.made === true,
    grants: [...new Set([...kept, ...missing.map((grant) => grant.name)])].toSorted(),
  };
  return {
    creates: role.exists ? [] : [`role ${identifier}`],
    grants: missing.map(({ right }) => `${right} TO ${identifier}`),
    statements: [...statements, recordStatement(record)],
    notes,
  };
}

/** What the role lacks. `isNew`: the object is created by this installation, so no role has privileges on it. */
function missingGrants(
  states: readonly GrantState[],
  { replaces }: Granting,
): (GrantState & { readonly isNew: boolean })[] {
  const made = replaces?.made ?? [];
  return states.flatMap((state) => {
    const object = state.name.replace(/^\w+ /, '');
    const isOwn = object === schemaName || object.startsWith(`${schemaName}.`);
    const isCreated = !state.exists && (isOwn || made.includes(`table ${object}`));
    const isNew = isCreated || made.includes(`view ${object}`);
    // The SQL file grants this to PUBLIC.
    if (isNew && object === `${schemaName}.${guardTable}`) return [];
    return isNew || (state.exists && !state.held) ? [{ ...state, isNew }] : [];
  });
}

/** A note about the role, and a limit of sessions for a role that install created. */
function planAttributes(
  name: string,
  role: RoleState,
  made: boolean,
): { readonly note?: string; readonly limit?: string } {
  const alter = `ALTER ROLE ${pg.escapeIdentifier(name)}`;
  const limit = `${alter} CONNECTION LIMIT ${roleConnectionLimit};`;
  if (!role.exists) return {};
  if (role.superuser) {
    return { note: `Role ${name} is a superuser and may do everything. Use another role for the server.` };
  }
  if (!role.login) return { note: `Role ${name} may not log in. To allow it: ${alter} LOGIN;` };
  if (role.connectionLimit >= 0) return {};
  if (!made || !role.mayCreateRoles) {
    return { note: `Role ${name} has no limit of sessions. To leave sessions to the host: ${limit}` };
  }
  const note = `Role ${name} gets CONNECTION LIMIT ${roleConnectionLimit}. If its servers need more: ${alter} CONNECTION LIMIT n;`;
  return { note, limit };
}

function recordStatement({ name, made, grants }: GrantedRole): string {
  const names = grants.map((grant) => pg.escapeLiteral(grant)).join(', ');
  return `INSERT INTO ${schemaName}.${roleTable} (role_name, made, grants)
VALUES (${pg.escapeLiteral(name)}, ${made}, ARRAY[${names}])
ON CONFLICT (role_name) DO UPDATE SET made = excluded.made, grants = excluded.grants;`;
}

/**
 * Revokes what install granted, and drops the role if install created it and nothing else uses it. Call it in the same
 * transaction, after everything else has been dropped. Returns a line for each action; throws PostgreSQL's errors.
 */
export async function revokeRole(
  client: pg.ClientBase,
  granted: GrantedRole,
  state: InstallState,
): Promise<string[]> {
  if (!(await readRole(client, granted.name)).exists) return [];
  const identifier = pg.escapeIdentifier(granted.name);
  const options = { database: state.database, ownTables: state.ownTables, role: granted.name };
  const lines: string[] = [];
  for (const { name, right, need, exists, held, grantable } of await readGrants(client, options)) {
    if (!granted.grants.includes(name) || !exists || !held || (need === 'obsolete' && !grantable)) continue;
    await client.query(`REVOKE ${right} FROM ${identifier}`);
    lines.push(`revoked ${right} FROM ${identifier}`);
  }
  if (!granted.made) return lines;
  const uses = await readUses(client, granted.name);
  if (uses.length > 0) {
    return [
      ...lines,
      `kept role ${identifier}, because it is in use elsewhere: ${uses.join('; ')}. To drop it later: DROP ROLE ${identifier};`,
    ];
  }
  await client.query(`DROP ROLE ${identifier}`);
  return [...lines, `dropped role ${identifier}`];
}

/** What a role owns, has privileges on or is a member of, in all databases. */
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

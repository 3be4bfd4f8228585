import pg from 'pg';
import { roleConnectionLimit } from '../postgres/database-sessions.js';
import { readGrants, type GrantState } from './grants.js';
import { InstallError } from './refusals.js';
import { legacyViews, type InstallState } from './install-state.js';
import { schemaName } from './sql-files.js';

/** What only Flagcast 0.1 granted, as it recorded it: it had to see the transactions of other roles. */
const legacyGrant = 'role pg_read_all_stats';

const roleTable = `${schemaName}.granted_roles`;

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

/** An InstallPlan that is being made. */
type Plan = { readonly [Part in keyof InstallPlan]: string[] };

/** A role that install --role granted privileges to. */
export interface GrantedRole {
  readonly name: string;
  /** Whether install created the role. */
  readonly made: boolean;
  /** The names of the grants. */
  readonly grants: readonly string[];
}

export async function readGrantedRoles(client: pg.ClientBase, state: InstallState): Promise<GrantedRole[]> {
  if (!state.objects.includes(`table ${roleTable}`)) return [];
  const { rows } = await client.query<{ roles: string }>(
    `SELECT coalesce(json_agg(json_build_object('name', role_name, 'made', made, 'grants', grants) ORDER BY role_name), '[]')::text AS roles
     FROM ${roleTable}`,
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
  throw new InstallError(`--role: ${JSON.stringify(name)} ${problem}; choose another name.`);
}

interface RoleState {
  readonly exists: boolean;
  readonly superuser: boolean;
  readonly login: boolean;
  readonly mayCreateRoles: boolean;
  /** Whether the session may revoke `legacyGrant`. */
  readonly mayRevokeStats: boolean;
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
       'mayCreateRoles', me.rolsuper OR me.rolcreaterole,
       'mayRevokeStats', me.rolsuper OR pg_has_role('pg_read_all_stats', 'MEMBER WITH ADMIN OPTION')
         OR (me.rolcreaterole AND current_setting('server_version_num')::int < 160000)
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
  /** The objects that the installation creates; null if it changes no object. */
  readonly made: readonly string[] | null;
}

/**
 * Plans the role of --role and, if objects are created again, the privileges on them of earlier roles and those that
 * were granted manually. Changes nothing. Throws InstallError if the session may not do it.
 */
export async function planRoles(
  client: pg.ClientBase,
  { role, writes, ...granting }: Granting & { readonly role: string | undefined; readonly writes: boolean },
): Promise<InstallPlan> {
  const { state, made } = granting;
  const plan: Plan = { creates: [], grants: [], statements: [], notes: [] };
  const recorded = await readGrantedRoles(client, state);
  if (made !== null) {
    await planManualGrants(client, plan, { state, recorded });
    for (const { name } of recorded) {
      const { exists } = await readRole(client, name);
      if (exists && name !== role)
        await planRole(client, plan, name, { ...granting, writes: false, recorded });
    }
  }
  if (role !== undefined) {
    refuseRoleName(role);
    await planRole(client, plan, role, { ...granting, writes, recorded });
  }
  return plan;
}

/**
 * Keeps the privileges that would be lost: on views that are dropped, and of PUBLIC on functions, which the SQL file
 * revokes. Without them queries and writes of the host could fail.
 */
async function planManualGrants(
  client: pg.ClientBase,
  plan: Plan,
  { state, recorded }: { readonly state: InstallState; readonly recorded: readonly GrantedRole[] },
): Promise<void> {
  const { rows } = await client.query<{ right: string; option: string }>(
    `SELECT format('%s%s ON TABLE %I.%I TO %s', x.privilege_type, g.columns, n.nspname, c.relname,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END) AS "right",
      CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
      SELECT '' AS columns, c.relacl AS acl
      UNION ALL
      SELECT format(' (%I)', a.attname), a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
    ) g
    CROSS JOIN LATERAL aclexplode(g.acl) x
    WHERE format('view %s.%s', n.nspname, c.relname) = ANY ($1::text[])
      AND x.grantee <> c.relowner AND pg_get_userbyid(x.grantee) <> ALL ($2::text[])
    UNION ALL
    SELECT format('EXECUTE ON FUNCTION %s TO PUBLIC', p.oid::regprocedure), ''
    FROM pg_catalog.pg_proc p
    CROSS JOIN LATERAL aclexplode(p.proacl) x
    WHERE p.pronamespace = to_regnamespace('${schemaName}') AND p.proname = ANY ($3::text[]) AND x.grantee = 0
    ORDER BY 1`,
    [
      legacyViews(state),
      recorded.map(({ name }) => name),
      ['record_event', 'prune_event_log', 'adopt_event_log'],
    ],
  );
  plan.grants.push(...rows.map(({ right }) => right));
  plan.statements.push(...rows.map(({ right, option }) => `GRANT ${right}${option};`));
}

/**
 * Plans a role, which is created if it does not exist, and the privileges that it lacks: those for changes with `writes`,
 * or if install has granted them before.
 */
async function planRole(
  client: pg.ClientBase,
  plan: Plan,
  name: string,
  {
    recorded,
    writes,
    ...granting
  }: Granting & { readonly recorded: readonly GrantedRole[]; readonly writes: boolean },
): Promise<void> {
  const { state, withTables } = granting;
  const role = await readRole(client, name);
  const before = recorded.find((granted) => granted.name === name);
  const identifier = pg.escapeIdentifier(name);
  if (!role.exists && !role.mayCreateRoles) {
    throw new InstallError(
      `Role ${state.role} may not create roles. As a role with CREATEROLE: CREATE ROLE ${identifier} LOGIN; then run this again.`,
    );
  }
  const states = await readGrants(client, {
    database: state.database,
    ownTables: withTables,
    role: role.exists ? name : null,
    writes: writes || before?.grants.some((grant) => grant.startsWith('write ')) === true,
  });
  const missing = missingGrants(states, granting.made ?? []);
  const refused = missing.filter(({ isNew, grantable }) => !isNew && !grantable);
  if (refused.length > 0) {
    const statements = refused.map(({ right }) => `GRANT ${right} TO ${identifier}`);
    throw new InstallError(
      `Role ${state.role} may not grant these privileges. As their owner: ${statements.join('; ')}; then run this again.`,
    );
  }
  const note = attributesNote(name, role);
  if (role.exists && note !== null) plan.notes.push(note);
  const isObsolete = role.exists && before?.grants.includes(legacyGrant) === true;
  if (isObsolete && !role.mayRevokeStats) {
    plan.notes.push(
      `Role ${name} has pg_read_all_stats, which it no longer needs. As a superuser: REVOKE pg_read_all_stats FROM ${identifier};`,
    );
  }
  const revokes = isObsolete && role.mayRevokeStats;
  if (role.exists && missing.length === 0 && !revokes) return;
  if (!role.exists) {
    plan.creates.push(`role ${identifier}`);
    plan.statements.push(
      `CREATE ROLE ${identifier} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT ${roleConnectionLimit};`,
    );
  }
  const grants = new Set([...(before?.grants ?? []), ...missing.map((grant) => grant.name)]);
  if (revokes) grants.delete(legacyGrant);
  const made = !role.exists || before?.made === true;
  plan.grants.push(...missing.map(({ right }) => `${right} TO ${identifier}`));
  plan.statements.push(
    ...missing.map(({ right }) => `GRANT ${right} TO ${identifier};`),
    ...(revokes ? [`REVOKE pg_read_all_stats FROM ${identifier};`] : []),
    recordStatement({ name, made, grants: [...grants].toSorted() }),
  );
}

/** What the role lacks. `isNew`: the object is created by this installation, so no role has privileges on it. */
function missingGrants(
  states: readonly GrantState[],
  made: readonly string[],
): (GrantState & { readonly isNew: boolean })[] {
  return states.flatMap((state) => {
    const { object, need } = state;
    const isOwn = object === schemaName || object.startsWith(`${schemaName}.`);
    const isCreated = !state.exists && (isOwn || made.includes(`table ${object}`));
    const isNew = isCreated || made.includes(`view ${object}`);
    // The SQL file grants this to PUBLIC.
    if (isNew && need !== 'write' && object === `${schemaName}.guarded_environments`) return [];
    return isNew || (state.exists && !state.held) ? [{ ...state, isNew }] : [];
  });
}

/** What an operator should know about an existing role. */
function attributesNote(name: string, { superuser, login, connectionLimit }: RoleState): string | null {
  const alter = `ALTER ROLE ${pg.escapeIdentifier(name)}`;
  if (superuser) return `Role ${name} is a superuser and may do everything. Use another role for the server.`;
  if (!login) return `Role ${name} may not log in. To allow it: ${alter} LOGIN;`;
  if (connectionLimit >= 0) return null;
  return `Role ${name} has no limit of sessions. To leave sessions to the host: ${alter} CONNECTION LIMIT ${roleConnectionLimit};`;
}

function recordStatement({ name, made, grants }: GrantedRole): string {
  const names = grants.map((grant) => pg.escapeLiteral(grant)).join(', ');
  return `INSERT INTO ${roleTable} (role_name, made, grants)
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
  const { exists: hasRole, mayRevokeStats } = await readRole(client, granted.name);
  if (!hasRole) return [];
  const identifier = pg.escapeIdentifier(granted.name);
  const lines: string[] = [];
  for (const right of await readRevocable(client, granted, state)) {
    await client.query(`REVOKE ${right} FROM ${identifier}`);
    lines.push(`revoked ${right} FROM ${identifier}`);
  }
  if (granted.grants.includes(legacyGrant) && mayRevokeStats) {
    await client.query(`REVOKE pg_read_all_stats FROM ${identifier}`);
    lines.push(`revoked pg_read_all_stats FROM ${identifier}`);
  }
  if (!granted.made) return [...lines, `kept role ${identifier}, because install did not create it`];
  const uses = await readUses(client, granted.name);
  await client.query('SAVEPOINT drop_role');
  try {
    await client.query(`DROP ROLE ${identifier}`);
  } catch (error) {
    // dependent_objects_still_exist
    if (!(error instanceof pg.DatabaseError) || error.code !== '2BP01') throw error;
    uses.unshift(...(error.detail ?? '').split('\n'));
  }
  if (uses.length === 0) return [...lines, `dropped role ${identifier}`];
  await client.query('ROLLBACK TO SAVEPOINT drop_role');
  return [
    ...lines,
    `kept role ${identifier}, because it is in use elsewhere: ${uses.join('; ')}. When nothing uses it any more: DROP ROLE ${identifier};`,
  ];
}

/**
 * What install granted and, of a role that install created, what an operator granted for FLAGCAST_WRITES and
 * FLAGCAST_JWT_USER_CLAIM, as doctor says.
 */
async function readRevocable(
  client: pg.ClientBase,
  { name: role, made, grants }: GrantedRole,
  { database, ownTables }: InstallState,
): Promise<string[]> {
  const options = { database, ownTables, writes: true, byEmail: made };
  const states = await readGrants(client, { ...options, role });
  const ofPublic = await readGrants(client, { ...options, role: null });
  return states
    .filter(({ exists, held }) => exists && held)
    .filter(
      ({ name, right, need, grantable }) =>
        grants.includes(name) ||
        (made &&
          need === 'write' &&
          grantable &&
          ofPublic.some((each) => each.right === right && !each.held)),
    )
    .map(({ right }) => right);
}

/** The uses of a role that do not keep PostgreSQL from dropping it: members, and sessions in other databases. */
async function readUses(client: pg.ClientBase, name: string): Promise<string[]> {
  const { rows } = await client.query<{ use: string }>(
    `SELECT format('role %s is a member of it', pg_get_userbyid(m.member)) AS use
     FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
     -- PostgreSQL 16 and newer grant this to the creator of a role, as its bootstrap superuser.
     WHERE r.rolname = $1 AND NOT (m.grantor = 10 AND m.admin_option)
     UNION ALL
     SELECT format('%s session%s in database %s', count(*), CASE count(*) WHEN 1 THEN '' ELSE 's' END, a.datname)
     FROM pg_catalog.pg_stat_activity a WHERE a.usename = $1 AND a.datname <> current_database()
     GROUP BY a.datname
     ORDER BY 1`,
    [name],
  );
  return rows.map(({ use }) => use);
}

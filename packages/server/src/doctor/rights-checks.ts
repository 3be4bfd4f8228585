import pg from 'pg';
import { checkAuthorizeQuery } from '../access/authorize-query.js';
import { describeError } from '../describe.js';
import { askJson, type Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

/** Whether the role may read what the server reads. */
export function checkRights({ grants, role, superuser, state, authorizeSql }: Facts): Finding[] {
  const id = 'rights';
  const needsTables = authorizeSql === null;
  const findings: Finding[] = [];
  const absent = grants.filter(
    ({ name, exists, need }) => need === 'serve' && !exists && !name.includes('flagcast'),
  );
  if (absent.length > 0) {
    const names = absent.map(({ name, purpose }) => `${name.replace(/^table /, '')} (${purpose})`);
    findings.push({
      id,
      level: needsTables ? 'error' : 'note',
      what: `the database does not have ${names.join(', ')}`,
      consequence: needsTables
        ? 'flagcast serve cannot answer who may see what, or show the state of features'
        : 'events come without the state of features, and what the console shows beside them is answered with 501',
      mend: needsTables
        ? advice(
            'connect to the database that has the feature flags, or set FLAGCAST_AUTHORIZE_SQL where its tables are of another form',
          )
        : null,
    });
  }
  const lacking = grants.filter(
    ({ exists, held, need }) => exists && !held && (need === 'serve' || need === 'extra'),
  );
  if (lacking.length > 0) {
    const grantee = pg.escapeIdentifier(role);
    const isServing = needsTables && lacking.some(({ need }) => need === 'serve');
    findings.push({
      id,
      level: isServing ? 'error' : 'note',
      what: `role ${role} lacks ${lacking.map(({ right }) => right).join(', ')}`,
      consequence: isServing
        ? `flagcast serve fails where it needs that: ${[...new Set(lacking.map(({ purpose }) => purpose))].join('; ')}`
        : `without it: ${[...new Set(lacking.map(({ purpose }) => purpose))].join('; ')}`,
      mend: sql(lacking.map(({ right }) => `GRANT ${right} TO ${grantee};`).join(' ')),
    });
  }
  if (findings.length > 0 || state.schemaOwner === null) return findings;
  if (!superuser) return [ok(id, `role ${role} may read all that flagcast serve reads`)];
  return [
    {
      id,
      level: 'note',
      what: `role ${role} is a superuser`,
      consequence: 'whoever got into the server could do anything to the database',
      mend: advice('flagcast install --role NAME makes a role that may only read what is needed'),
    },
  ];
}

/** Whether the query that is to say who may see what works on this database. */
export async function checkAuthorization(client: pg.ClientBase, { authorizeSql }: Facts): Promise<Finding[]> {
  const id = 'authorization';
  if (authorizeSql === null) return [];
  try {
    await checkAuthorizeQuery(client, authorizeSql);
    return [ok(id, 'FLAGCAST_AUTHORIZE_SQL can be asked who may see what')];
  } catch (error) {
    // The session goes on, and is in the transaction that failed.
    await client.query('ROLLBACK');
    return [
      {
        id,
        level: 'error',
        what: `FLAGCAST_AUTHORIZE_SQL does not work (${describeError(error)})`,
        consequence: 'flagcast serve does not start',
        mend: advice(
          'give one SELECT over the users $1 (text[]) with the columns user_id, project_id, environment_id and environment_key, and the role the right to read its tables',
        ),
      },
    ];
  }
}

/** Whether row-level security may hide rows: from the server, or from the view's owner. */
export async function checkRowSecurity(client: pg.ClientBase, { role }: Facts): Promise<Finding[]> {
  const hidden = await askJson<{ table: string; reader: string; asRole: boolean }[]>(
    client,
    `WITH readers AS (
       SELECT c.oid, c.relname, c.relowner, c.relforcerowsecurity, r.name AS reader, r.name = $1 AS as_role
       FROM pg_class c
       CROSS JOIN LATERAL (
         SELECT $1::name WHERE c.relname <> 'pending_change_entities'
         UNION
         SELECT pg_get_userbyid(v.relowner) FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace
         WHERE n.nspname = 'flagcast' AND v.relname = 'v_realtime_events'
           AND c.relname IN ('audit_log', 'pending_changes', 'pending_change_entities', 'environments')
       ) AS r (name)
       WHERE c.relrowsecurity AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')
         AND c.relname IN ('projects', 'environments', 'features', 'feature_params', 'pending_changes',
           'pending_change_entities', 'audit_log', 'users', 'memberships', 'role_permissions', 'permissions')
     )
     SELECT coalesce(json_agg(json_build_object('table', relname, 'reader', reader, 'asRole', as_role) ORDER BY reader, relname), '[]')::text
     FROM readers JOIN pg_roles p ON p.rolname = reader
     WHERE NOT p.rolsuper AND NOT p.rolbypassrls
       AND (relforcerowsecurity OR NOT pg_has_role(reader, relowner, 'USAGE'))`,
    [role],
  );
  return [...new Set(hidden.map(({ reader }) => reader))].map((reader) => {
    const tables = hidden.filter((each) => each.reader === reader).map(({ table }) => `public.${table}`);
    const who = reader === role ? `role ${reader}` : `role ${reader}, who owns the view,`;
    return {
      id: 'row-security',
      level: 'note',
      what: `row-level security applies to ${who} on ${tables.join(', ')}`,
      consequence:
        'rows that its policies hide do not exist for Flagcast: events, users or features may be missing',
      mend: sql(`ALTER ROLE ${pg.escapeIdentifier(reader)} BYPASSRLS;`),
    };
  });
}

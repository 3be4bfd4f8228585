import pg from 'pg';
import { askJson, type Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

/** Whether the role may read what the server reads. */
export function checkRights({ grants, role, superuser, state }: Facts): Finding[] {
  const id = 'rights';
  const findings: Finding[] = [];
  const absent = grants.filter(
    ({ name, exists, need }) => need === 'serve' && !exists && !name.includes('flagcast'),
  );
  if (absent.length > 0) {
    const names = absent.map(({ name, purpose }) => `${name.replace(/^table /, '')} (${purpose})`);
    findings.push({
      id,
      level: 'error',
      what: `the database does not have ${names.join(', ')}`,
      consequence: 'flagcast serve cannot answer who may see what, or show the state of features',
      mend: advice('connect to the database that has the feature flags'),
    });
  }
  const lacking = grants.filter(
    ({ exists, held, need }) => exists && !held && (need === 'serve' || need === 'extra'),
  );
  if (lacking.length > 0) {
    const grantee = pg.escapeIdentifier(role);
    const isServing = lacking.some(({ need }) => need === 'serve');
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

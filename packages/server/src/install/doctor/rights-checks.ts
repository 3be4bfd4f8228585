import pg from 'pg';
import { checkAuthorizeQuery } from '../../auth/authorize-query.js';
import { describeError } from '../../describe.js';
import { readHiddenTables } from '../../host/row-security.js';
import type { Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

/** Whether the role has the rights that the server needs. */
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
      message: `the database does not have ${names.join(', ')}`,
      consequence: needsTables
        ? 'flagcast serve cannot decide about access, or show the state of features'
        : 'events come without the state of features, and requests of the console for anything but events are answered with 501',
      fix: needsTables
        ? advice(
            'connect to the database that has the feature flags, or set FLAGCAST_AUTHORIZE_SQL where its tables have another form',
          )
        : null,
    });
  }
  const lacking = grants.filter(({ exists, held, need }) => need !== 'write' && exists && !held);
  if (lacking.length > 0) {
    const grantee = pg.escapeIdentifier(role);
    const isServing = needsTables && lacking.some(({ need }) => need === 'serve');
    findings.push({
      id,
      level: isServing ? 'error' : 'note',
      message: `role ${role} lacks ${lacking.map(({ right }) => right).join(', ')}`,
      consequence: isServing
        ? `flagcast serve fails where it needs them: ${[...new Set(lacking.map(({ purpose }) => purpose))].join('; ')}`
        : `without it: ${[...new Set(lacking.map(({ purpose }) => purpose))].join('; ')}`,
      fix: sql(lacking.map(({ right }) => `GRANT ${right} TO ${grantee};`).join(' ')),
    });
  }
  if (findings.length > 0 || state.schemaOwner === null) return findings;
  if (!superuser) return [ok(id, `role ${role} has the rights that flagcast serve needs`)];
  return [
    {
      id,
      level: 'note',
      message: `role ${role} is a superuser`,
      consequence: 'an attacker who controls the server could do anything to the database',
      fix: advice(
        'flagcast install --role NAME creates a role with the rights that the server needs and no others',
      ),
    },
  ];
}

/** Whether the role has the rights that changes need, where the server takes changes. */
export function checkWrites({ grants, role, writes }: Facts): Finding[] {
  const id = 'writes';
  if (!writes) return [];
  const lacking = grants.filter(({ need, exists, held }) => need === 'write' && exists && !held);
  if (lacking.length === 0) return [ok(id, `role ${role} has the rights that FLAGCAST_WRITES=on needs`)];
  const grantee = pg.escapeIdentifier(role);
  return [
    {
      id,
      level: 'warning',
      message: `FLAGCAST_WRITES is on, and role ${role} lacks ${lacking.map(({ right }) => right).join('; ')}`,
      consequence: 'changes that need these rights are answered with 403 database_forbids',
      fix: sql(lacking.map(({ right }) => `GRANT ${right} TO ${grantee};`).join(' ')),
    },
  ];
}

/** Whether the query of FLAGCAST_AUTHORIZE_SQL works on this database. */
export async function checkAuthorization(client: pg.ClientBase, { authorizeSql }: Facts): Promise<Finding[]> {
  const id = 'authorization';
  if (authorizeSql === null) return [];
  try {
    await checkAuthorizeQuery(client, authorizeSql);
    return [ok(id, 'FLAGCAST_AUTHORIZE_SQL works')];
  } catch (error) {
    // The session goes on, and is in the transaction that failed.
    await client.query('ROLLBACK');
    return [
      {
        id,
        level: 'error',
        message: `FLAGCAST_AUTHORIZE_SQL does not work (${describeError(error)})`,
        consequence: 'flagcast serve does not start',
        fix: advice(
          'give one SELECT over the users $1 (text[]) with the columns user_id, project_id, environment_id and environment_key, and the role the right to read its tables',
        ),
      },
    ];
  }
}

/** Whether row-level security may hide rows from the server, or from the triggers. */
export async function checkRowSecurity(
  client: pg.ClientBase,
  { role, eventSource }: Facts,
): Promise<Finding[]> {
  const id = 'row-security';
  const logs = eventSource?.hasHostTriggers === true;
  const hidden = await readHiddenTables(client, { role, logs });
  const findings: Finding[] = [];
  for (const isLogging of [false, true]) {
    const some = hidden.filter((each) => each.isLogging === isLogging);
    for (const reader of new Set(some.map((each) => each.reader))) {
      const tables = some.filter((each) => each.reader === reader).map(({ table }) => table);
      findings.push({
        id,
        level: 'warning',
        message: `row-level security applies to role ${reader}${isLogging ? ', which owns the trigger functions,' : ''} on ${tables.join(', ')}`,
        consequence: isLogging
          ? 'the steps of requests that its policies hide are not logged, so they are never delivered'
          : `${logs ? '' : 'events and '}projects, features, requests or users that its policies hide do not exist for the server: snapshots lack them, and access is refused`,
        fix: sql(`ALTER ROLE ${pg.escapeIdentifier(reader)} BYPASSRLS;`),
      });
    }
  }
  return findings.length > 0 ? findings : [ok(id, 'row-level security hides no rows that Flagcast reads')];
}

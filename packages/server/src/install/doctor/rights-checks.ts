import pg from 'pg';
import { checkAuthorizeQuery } from '../../auth/callback-authorization.js';
import { describeError } from '../../describe.js';
import { readHiddenTables } from '../../host/host-schema.js';
import { errorCode } from '../../postgres/errors.js';
import { featureRefusal } from '../../reader/event-source.js';
import type { GrantState } from '../grants.js';
import { advice, error, note, ok, sql, warning, type Checks, type Fix, type Result } from './facts.js';

const rightsOf = (grants: readonly GrantState[], separator: string): string =>
  grants.map(({ right }) => right).join(separator);

const purposesOf = (grants: readonly GrantState[]): string =>
  [...new Set(grants.map(({ purpose }) => purpose))].join('; ');

const grantFix = (grants: readonly GrantState[], role: string): Fix =>
  sql(grants.map(({ right }) => `GRANT ${right} TO ${pg.escapeIdentifier(role)};`).join(' '));

export const rightsChecks: Checks = {
  /** Whether the role has the privileges that the server needs. */
  rights: ({ grants, role, superuser, state, authorizeSql }) => {
    const needsTables = authorizeSql === null;
    const results: Result[] = [];
    const absent = grants.filter(
      ({ name, exists, need }) => need === 'serve' && !exists && !name.includes('flagcast'),
    );
    if (absent.length > 0) {
      const names = absent.map(({ name, purpose }) => `${name.replace(/^table /, '')} (${purpose})`);
      const message = `the database does not have ${names.join(', ')}`;
      results.push(
        needsTables
          ? error(
              message,
              'flagcast serve cannot decide about access or show the state of features',
              advice(
                'connect to the database that has the feature flags, or set FLAGCAST_AUTHORIZE_SQL if its tables are different',
              ),
            )
          : note(
              message,
              'events have no state of features, and the console gets 501 for every request except for events',
              null,
            ),
      );
    }
    const lacking = grants.filter(
      ({ exists, held, need }) => (need === 'serve' || need === 'extra') && exists && !held,
    );
    if (lacking.length > 0) {
      const message = `role ${role} lacks ${rightsOf(lacking, ', ')}`;
      const fix = grantFix(lacking, role);
      results.push(
        needsTables && lacking.some(({ need }) => need === 'serve')
          ? error(message, `flagcast serve fails where it needs them: ${purposesOf(lacking)}`, fix)
          : note(message, `not available: ${purposesOf(lacking)}`, fix),
      );
    }
    if (results.length > 0 || state.schemaOwner === null) return results;
    if (!superuser) return ok(`role ${role} has the privileges that flagcast serve needs`);
    return note(
      `role ${role} is a superuser`,
      'an attacker who controls the server controls the database',
      advice('flagcast install --role NAME creates a role with only the privileges that the server needs'),
    );
  },
  /** Whether the role has the privileges that changes need, if the server accepts changes. */
  writes: ({ grants, role, writes }) => {
    if (!writes) return [];
    const lacking = grants.filter(({ need, exists, held }) => need === 'write' && exists && !held);
    if (lacking.length === 0) return ok(`role ${role} has the privileges that FLAGCAST_WRITES=on needs`);
    return warning(
      `FLAGCAST_WRITES is on, and role ${role} lacks ${rightsOf(lacking, '; ')}`,
      'changes that need these privileges are answered with 403 database_forbids',
      grantFix(lacking, role),
    );
  },
  /** Whether the query of FLAGCAST_AUTHORIZE_SQL works on this database. */
  authorization: async ({ client, authorizeSql }) => {
    if (authorizeSql === null) return [];
    try {
      await checkAuthorizeQuery(client, authorizeSql);
      return ok('FLAGCAST_AUTHORIZE_SQL works');
    } catch (failure) {
      // The session is still in the transaction that failed.
      await client.query('ROLLBACK');
      return error(
        `FLAGCAST_AUTHORIZE_SQL does not work (${describeError(failure)})`,
        'flagcast serve does not start',
        advice(
          'use one SELECT over the users $1 (text[]) with the columns user_id, project_id, environment_id and environment_key, and grant the role SELECT on its tables',
        ),
      );
    }
  },
  /** Whether the tables have the columns of flags and requests. `rights` reports tables and rights that are missing. */
  states: async ({ client, eventSource }) => {
    const needsThem = eventSource?.hasHostTriggers === true || eventSource?.reason === 'tables';
    const refusal = needsThem ? await featureRefusal(client) : null;
    if (refusal === null || ['42501', '42P01'].includes(errorCode(refusal) ?? '')) return [];
    return warning(
      `flags and requests cannot be read: ${describeError(refusal)}`,
      'events have no states, and snapshots and the console show neither flags nor requests',
      advice('give the tables the columns and types that docs/attach.md names'),
    );
  },
  /** Whether row-level security may hide rows from the server or from the triggers. */
  'row-security': async ({ client, role, eventSource }) => {
    const logs = eventSource?.hasHostTriggers === true;
    const hidden = await readHiddenTables(client, { role, logs });
    if (hidden.length === 0) return ok('row-level security hides no rows that Flagcast reads');
    // One result for each role, first those of the server.
    const readers = hidden.filter(
      ({ reader, isLogging }, index) =>
        index === hidden.findIndex((each) => each.reader === reader && each.isLogging === isLogging),
    );
    return readers.map(({ reader, isLogging }) => {
      const tables = hidden.filter((each) => each.reader === reader && each.isLogging === isLogging);
      return warning(
        `row-level security applies to role ${reader}${isLogging ? ', which owns the trigger functions,' : ''} on ${tables.map(({ table }) => table).join(', ')}`,
        isLogging
          ? 'steps of hidden requests are not logged, so they are never delivered'
          : `the server does not see hidden ${logs ? '' : 'events, '}projects, features, requests and users: snapshots lack them, and access is refused`,
        sql(`ALTER ROLE ${pg.escapeIdentifier(reader)} BYPASSRLS;`),
      );
    });
  },
};

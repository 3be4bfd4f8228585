import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { install } from '../src/install/install.js';
import { createTestDatabase, type TestDatabase, withClient } from './database.js';

/** A database of docs/other-schemas.md, made by its own statements and those of its examples, with two teams and a few people in it. */
export interface OtherHost {
  readonly database: TestDatabase;
  /** The connection string of the server's role, with the rights of the page and no others. */
  readonly url: string;
  readonly authorizeSql: string;
  /** The settings that the guide exports, without secrets; empty with the event log. */
  readonly settings: Readonly<Record<string, string>>;
  /** Writes a change of a flag; answers the flag. */
  change(team: 'shop' | 'billing'): Promise<string>;
  drop(): Promise<void>;
}

/** `reads`: whether the host writes the event log (the default), or has the page's view of events. */
export async function createOtherHost({
  reads = 'event_log',
}: { readonly reads?: 'event_log' | 'view' } = {}): Promise<OtherHost> {
  const page = await readFile(new URL('../../../docs/other-schemas.md', import.meta.url), 'utf8');
  // Roles belong to the cluster, which other tests use.
  const suffix = randomBytes(4).toString('hex');
  const role = `flagcast_reader_${suffix}`;
  const backend = `app_backend_${suffix}`;
  const withRoles = (statements: string): string =>
    statements.replaceAll('flagcast_reader', role).replaceAll('app_backend', backend);
  const block = (firstLine: string): string => {
    const [, text] = page.split(`\`\`\`sql\n-- ${firstLine}\n`);
    if (text === undefined) throw new Error(`docs/other-schemas.md has no statements "${firstLine}"`);
    return withRoles(text.split('```')[0] ?? '');
  };
  const example = async (name: string): Promise<string> =>
    await readFile(new URL(`../examples/${name}.sql`, import.meta.url), 'utf8');
  const database = await createTestDatabase({ schema: 'none' });
  const { pool } = database;
  // Prepared transactions are possible in the run's cluster. Counts for sessions that begin after it.
  await withClient(database.url, async (client) => {
    await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
  });
  await pool.query(withRoles(await example('other-schema')));
  if (reads === 'view') {
    await pool.query(withRoles(await example('other-schema-view')));
  } else {
    await withClient(database.url, async (client) => await install(client, { logOnly: true, role }));
    await pool.query(block('The triggers.'));
    await pool.query(withRoles(await example('other-schema-approvals')));
    await pool.query(block('Rights.'));
  }
  await pool.query(`
    ALTER ROLE ${role} PASSWORD 'secret';
    INSERT INTO app.teams VALUES ('shop', 'Web shop'), ('billing', 'Billing');
    INSERT INTO app.stages VALUES ('shop-live', 'shop', 'prod'), ('shop-test', 'shop', 'test'), ('billing-live', 'billing', 'prod');
    INSERT INTO app.people VALUES ('ada', true), ('bob', true), ('eve', false);
    INSERT INTO app.seats VALUES ('ada', 'shop'), ('bob', 'billing'), ('eve', 'shop')`);
  const url = new URL(database.url);
  url.username = role;
  url.password = 'secret';
  let changes = 0;
  return {
    database,
    url: url.toString(),
    authorizeSql: block('The authorization query.'),
    settings:
      reads === 'event_log'
        ? {}
        : Object.fromEntries(
            [...page.matchAll(/^export (FLAGCAST_\w+)='([^'…]+)'$/gm)].map(([, name = '', value = '']) => [
              name,
              value,
            ]),
          ),
    async change(team) {
      changes += 1;
      const flag = `flag/${changes}`;
      // As the host's backend, which has the rights of the page and no others.
      await withClient(database.url, async (client) => {
        await client.query(`SET ROLE ${backend}`);
        await client.query(
          `INSERT INTO app.flag_changes (stage, flag, what, login) VALUES ($1, $2, 'changed', 'ada')`,
          [`${team}-live`, flag],
        );
      });
      return flag;
    },
    async drop() {
      for (const each of [role, backend]) await pool.query(`DROP OWNED BY ${each}; DROP ROLE ${each}`);
      await database.drop();
    },
  };
}

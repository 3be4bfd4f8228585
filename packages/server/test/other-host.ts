import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createTestDatabase, type TestDatabase } from './database.js';

/** A database of docs/other-schemas.md, made by its own statements, with two teams and a few people in it. */
export interface OtherHost {
  readonly database: TestDatabase;
  /** The connection string of the server's role, with the rights of the page and no others. */
  readonly url: string;
  readonly authorizeSql: string;
  /** The settings of the page, as they are exported there, without what is secret. */
  readonly settings: Readonly<Record<string, string>>;
  /** Writes a change of a flag; answers the flag. */
  change(team: 'shop' | 'billing'): Promise<string>;
  drop(): Promise<void>;
}

export async function createOtherHost(): Promise<OtherHost> {
  const page = await readFile(new URL('../../../docs/other-schemas.md', import.meta.url), 'utf8');
  // The role belongs to the cluster, which other tests use.
  const role = `flagcast_reader_${randomBytes(4).toString('hex')}`;
  const block = (firstLine: string): string => {
    const [, text] = page.split(`\`\`\`sql\n-- ${firstLine}\n`);
    if (text === undefined) throw new Error(`docs/other-schemas.md has no statements "${firstLine}"`);
    return (text.split('```')[0] ?? '').replaceAll('flagcast_reader', role);
  };
  const database = await createTestDatabase({ schema: 'none' });
  const { pool } = database;
  for (const name of ["The host's own.", 'The view.', 'Rights.', 'The wake.']) await pool.query(block(name));
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
    settings: Object.fromEntries(
      [...page.matchAll(/^export (FLAGCAST_\w+)='([^'…]+)'$/gm)].map(([, name = '', value = '']) => [
        name,
        value,
      ]),
    ),
    async change(team) {
      changes += 1;
      const flag = `flag/${changes}`;
      await pool.query(
        `INSERT INTO app.flag_changes (stage, flag, what, login) VALUES ($1, $2, 'changed', 'ada')`,
        [`${team}-live`, flag],
      );
      return flag;
    },
    async drop() {
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await database.drop();
    },
  };
}

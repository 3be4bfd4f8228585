import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { readInstallSql, recordStatement } from '../src/install/sql-files.js';
import { makeHostTables } from './host-tables.js';

const opening = 'SET LOCAL search_path = pg_catalog, pg_temp;';

/**
 * Installs Flagcast 0.1: its event view and its trigger that notifies. `attach`: on tables of the host, which it
 * creates. `tables`: with the contract tables, which have not changed since, and the public view.
 */
export async function installOld(
  client: pg.Pool | pg.ClientBase,
  options: { readonly mode: 'attach' | 'tables'; readonly role?: string; readonly version?: 1 | 2 | 3 | 4 },
): Promise<void> {
  const { mode, role, version = 4 } = options;
  const text = await readFile(new URL('install-0.1.sql', import.meta.url), 'utf8');
  const section = (name: string): string =>
    text.split(`-- section: ${name}\n`)[1]?.split('-- section:')[0] ?? '';
  const flagcast = section('flagcast');
  const end = flagcast.indexOf('\n', flagcast.indexOf(`run_at) VALUES (${version},`));
  if (mode === 'attach') await makeHostTables(client);
  const { contract } = await readInstallSql();
  const tables = [
    ...contract.map((file) => file.text),
    'CREATE TABLE flagcast.tables_version (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);',
    recordStatement('tables_version', contract),
  ];
  const statements = [
    'BEGIN;',
    opening,
    section('schema'),
    ...(mode === 'tables' ? tables : []),
    flagcast.slice(0, end),
    ...(mode === 'tables' ? [section('public')] : []),
    ...(role === undefined
      ? []
      : [
          section('role')
            .replaceAll('$reader', role)
            .replace(mode === 'attach' ? ', password_hash' : '', ''),
        ]),
    'COMMIT;',
  ];
  await client.query(statements.join('\n'));
}

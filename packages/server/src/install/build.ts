import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type pg from 'pg';
import { InstallError } from './install-error.js';
import { schemaName } from './objects.js';

/** A file `<version>-<name>.sql` of a folder in `sql/`. */
export interface SqlFile {
  readonly version: number;
  readonly name: string;
  readonly md5: string;
  readonly text: string;
}

/** Reads the SQL files of a folder, in their order. Throws InstallError if they are missing. */
async function readSqlFiles(folder: 'tables' | 'flagcast' | 'public'): Promise<SqlFile[]> {
  const url = new URL(`../../sql/${folder}/`, import.meta.url);
  const names = (await readdir(url).catch(() => [])).filter((name) => /^\d+-\w+\.sql$/.test(name));
  if (names.length === 0) {
    throw new InstallError('failed', `The SQL files of Flagcast (sql/${folder}) are missing: reinstall it.`);
  }
  const files = await Promise.all(
    names.map(async (name) => {
      // A checkout with CRLF is the same build.
      const text = (await readFile(new URL(name, url), 'utf8')).replaceAll('\r\n', '\n').trim();
      return {
        version: Number.parseInt(name, 10),
        name: name.replace(/^\d+-|\.sql$/g, ''),
        md5: md5(text),
        text,
      };
    }),
  );
  return files.toSorted((a, b) => a.version - b.version);
}

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

/**
 * The files that each installation, upgrade and repair runs: their statements are idempotent. `view` is the public view,
 * for contract tables of install; the checksum of `functions` includes it.
 */
export async function readLogFiles(): Promise<Record<'tables' | 'functions' | 'view', SqlFile>> {
  const [tables, functions] = await readSqlFiles('flagcast');
  const [view] = await readSqlFiles('public');
  if (tables === undefined || functions === undefined || view === undefined) {
    throw new Error('sql/flagcast has two files, sql/public has one');
  }
  return { tables, functions: { ...functions, md5: md5(functions.text + view.text) }, view };
}

/** Records files in a version table. */
export function recordStatement(table: string, files: readonly SqlFile[]): string {
  const rows = files.map(({ version, name, md5 }) => `(${version}, '${name}', '${md5}', now())`);
  return `INSERT INTO ${schemaName}.${table} (version, name, md5, run_at) VALUES ${rows.join(', ')}
ON CONFLICT (version) DO UPDATE SET name = excluded.name, md5 = excluded.md5, run_at = excluded.run_at;`;
}

/** The statements that create the contract tables, and the table that marks them as created by install. */
export async function contractStatements(): Promise<string[]> {
  const files = await readSqlFiles('tables');
  return [
    ...files.map(({ text }) => `${text}\n`),
    `CREATE TABLE ${schemaName}.tables_version (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);`,
    recordStatement('tables_version', files),
  ];
}

/** The newest version that Flagcast 0.1 installed: a view over the host's tables, and triggers that notify. */
const lastLegacyVersion = 4;

/**
 * Which build of Flagcast installed the schema: this one, Flagcast 0.1, one that this build replaces (`other`), or a
 * `newer` one; `unknown` without a record.
 */
export type Build = 'unknown' | '0.1' | 'other' | 'this' | 'newer';

/** Reads the version table, which must exist unless `installed` is false. */
export async function readBuild(
  client: pg.ClientBase,
  installed: boolean,
): Promise<{ readonly build: Build; readonly version: number; readonly newest: number }> {
  const { tables, functions } = await readLogFiles();
  const newest = functions.version;
  const applied = new Map<number, string | null>();
  if (installed) {
    const { rows } = await client.query<{ version: string; md5: string | null }>(
      `SELECT version::text AS version, md5 FROM ${schemaName}.schema_version WHERE version > 0`,
    );
    for (const { version, md5 } of rows) applied.set(Number(version), md5);
  }
  const version = Math.max(0, ...applied.keys());
  let build: Build = 'other';
  if (version === 0) build = 'unknown';
  else if (version > newest) build = 'newer';
  else if (version <= lastLegacyVersion) build = '0.1';
  else if ([tables, functions].every((file) => applied.get(file.version) === file.md5)) build = 'this';
  return { build, version, newest };
}

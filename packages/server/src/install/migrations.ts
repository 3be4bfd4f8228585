import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import Postgrator from 'postgrator';
import { InstallError } from './install-error.js';
import { schemaName, versionTables } from './objects.js';

/** A folder of migrations under `sql/`, with its own version table. */
export type Track = keyof typeof versionTables;

/** One file `<version>.do.<name>.sql`. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  /** Of its text with LF line ends. */
  readonly md5: string;
  readonly sql: string;
}

/** The rows of a version table: checksums by version; null where there is no table. */
export type Applied = ReadonlyMap<number, string | null> | null;

/** The runner takes a glob; the folder may be installed anywhere. */
function patternOf(track: Track): string {
  const folder = fileURLToPath(new URL(`../../sql/${track}/`, import.meta.url)).replaceAll('\\', '/');
  return `${folder.replace(/[*?()[\]{}!+@]/g, '\\$&')}*.sql`;
}

/** The migrations of this build, in order. Throws InstallError where files of the package are missing. */
export async function loadMigrations(track: Track): Promise<Migration[]> {
  const reader = new Postgrator({
    driver: 'pg',
    migrationPattern: patternOf(track),
    // A checkout with CRLF is the same build.
    newline: 'LF',
  });
  const files = await reader.getMigrations();
  if (files.length === 0) {
    throw new InstallError(
      'failed',
      `Flagcast's own SQL files (sql/${track}) are missing: install the package again.`,
    );
  }
  const migrations = files.map(({ version, name, md5, getSql }) => ({
    version,
    name,
    md5,
    sql: getSql().replaceAll('\r\n', '\n').trim(),
  }));
  return migrations.toSorted((a, b) => a.version - b.version);
}

/** Reads the version table of a track. */
export async function readApplied(client: pg.ClientBase, track: Track): Promise<Applied> {
  const table = versionTables[track];
  const { rowCount } = await client.query(
    `SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2`,
    [schemaName, table],
  );
  if (rowCount === 0) return null;
  const { rows } = await client.query<{ version: string; md5: string | null }>(
    `SELECT version::text AS version, md5 FROM ${schemaName}.${table} WHERE version > 0 ORDER BY 1`,
  );
  return new Map(rows.map(({ version, md5 }) => [Number(version), md5]));
}

/** The newest version of what was applied; 0 for nothing. */
export function versionOf(applied: Applied): number {
  return Math.max(0, ...(applied?.keys() ?? []));
}

/** Compares the version table with the migrations of this build. */
export function compareBuild(
  migrations: readonly Migration[],
  applied: Applied,
): 'same' | 'older' | 'newer' | 'altered' {
  const newest = migrations.at(-1)?.version ?? 0;
  const version = versionOf(applied);
  if (version > newest) return 'newer';
  const altered = migrations.some((migration) => {
    const md5 = applied?.get(migration.version);
    return md5 !== undefined && md5 !== null && md5 !== migration.md5;
  });
  if (altered) return 'altered';
  return version < newest ? 'older' : 'same';
}

/** Throws InstallError `other-build` where the database knows other migrations than this build. */
export function refuseOtherBuild(track: Track, migrations: readonly Migration[], applied: Applied): void {
  const comparison = compareBuild(migrations, applied);
  if (comparison === 'newer') {
    throw new InstallError(
      'other-build',
      'This database was installed by a newer Flagcast: use that version, or a newer one.',
    );
  }
  if (comparison === 'altered') {
    throw new InstallError(
      'other-build',
      `This database was installed by another build of Flagcast (its sql/${track} differs): use that build, or uninstall with it (flagcast uninstall) and install again.`,
    );
  }
}

/** The statements that apply `migrations` and record them in the version table, which they create where `applied` is null. */
export function migrationStatements(
  track: Track,
  migrations: readonly Migration[],
  applied: Applied,
): string[] {
  const table = `${schemaName}.${versionTables[track]}`;
  const creating =
    applied === null
      ? [`CREATE TABLE ${table} (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz);`]
      : [];
  const applying = migrations.flatMap(({ version, name, md5, sql }) => [
    `${sql}\n`,
    `INSERT INTO ${table} (version, name, md5, run_at) VALUES (${version}, '${name}', '${md5}', now());`,
  ]);
  return [...creating, ...applying];
}

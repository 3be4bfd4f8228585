import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** The schema of all objects of Flagcast except the contract tables and the public view. */
export const schemaName = 'flagcast';

/** A file `<version>-<name>.sql` of a folder in `sql/`. */
export interface SqlFile {
  readonly version: number;
  readonly name: string;
  readonly md5: string;
  readonly text: string;
}

/** The files of an installation, and the objects that they create, as lines such as `view flagcast.v_realtime_events`. */
export interface InstallSql {
  /** The files that each installation, upgrade and repair runs: their statements are idempotent. */
  readonly tables: SqlFile;
  /** Its checksum includes `view`. */
  readonly functions: SqlFile;
  /** The public view, for contract tables of install. */
  readonly view: SqlFile;
  /** The tables that `install --tables` creates in schema public. */
  readonly contract: readonly SqlFile[];
  /** The objects of `tables` and `functions`, without the version table. */
  readonly logObjects: readonly string[];
  readonly viewObjects: readonly string[];
  readonly contractObjects: readonly string[];
  /** All of these, and what only Flagcast 0.1 created. */
  readonly ownObjects: readonly string[];
  /**
   * The trigger functions of the log, and that of Flagcast 0.1. An upgrade or repair drops them, and with them their triggers on any table, and
   * creates them again. The other functions are replaced, because the host may have granted rights on them.
   */
  readonly triggerFunctions: readonly string[];
}

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

async function readSqlFile(path: string): Promise<SqlFile> {
  const [version = '', name = ''] = path.replace(/^.*\/|\.sql$/g, '').split('-');
  // A checkout with CRLF is the same build.
  const raw = await readFile(new URL(`../../sql/${path}`, import.meta.url), 'utf8');
  const text = raw.replaceAll('\r\n', '\n').trim();
  return { version: Number(version), name, md5: md5(text), text };
}

/** The tables, functions, triggers and views that the files create. */
function objectsOf(...files: readonly SqlFile[]): string[] {
  const creations =
    /^CREATE (?:OR REPLACE )?(?:(TABLE|FUNCTION|VIEW) (?:IF NOT EXISTS )?([\w.]+)|TRIGGER (\w+) .* ON ([\w.]+)$)/gm;
  return files.flatMap(({ text }) =>
    [...text.matchAll(creations)].map(([, kind = 'TRIGGER', name = '', trigger = '', table = '']) => {
      if (kind === 'TRIGGER') return `trigger ${trigger} on ${table}`;
      return `${kind.toLowerCase()} ${name}${kind === 'FUNCTION' ? '()' : ''}`;
    }),
  );
}

/**
 * What Flagcast 0.1 created and this build drops: its triggers only notify, and it has no event log. Its view has other
 * types of columns.
 */
const legacyObjects = [
  `table ${schemaName}.public_version`,
  `function ${schemaName}.wake()`,
  ...['audit_log', 'pending_changes', 'pending_change_entities'].map(
    (table) => `trigger flagcast_wake on public.${table}`,
  ),
];

export async function readInstallSql(): Promise<InstallSql> {
  const [tables, functions, view, ...contract] = await Promise.all([
    readSqlFile('flagcast/5-tables.sql'),
    readSqlFile('flagcast/6-functions.sql'),
    readSqlFile('public/2-view.sql'),
    ...['tables/1-tables.sql', 'tables/2-triggers.sql', 'tables/3-roles.sql'].map(readSqlFile),
  ]);
  const triggerFunctions = functions.text.matchAll(/^CREATE FUNCTION ([\w.]+)\(\) RETURNS trigger/gm);
  const logObjects = objectsOf(tables, functions).filter(
    (object) => object !== `table ${schemaName}.schema_version`,
  );
  const [viewObjects, contractObjects] = [objectsOf(view), objectsOf(...contract)];
  return {
    tables,
    functions: { ...functions, md5: md5(functions.text + view.text) },
    view,
    contract,
    logObjects,
    viewObjects,
    contractObjects,
    ownObjects: [...logObjects, ...viewObjects, ...contractObjects, ...legacyObjects],
    triggerFunctions: [...[...triggerFunctions].map(([, name = '']) => name), `${schemaName}.wake`],
  };
}

/** Records files in a version table. */
export function recordStatement(table: string, files: readonly SqlFile[]): string {
  const rows = files.map((file) => `(${file.version}, '${file.name}', '${file.md5}', now())`);
  return `INSERT INTO ${schemaName}.${table} (version, name, md5, run_at) VALUES ${rows.join(', ')}
ON CONFLICT (version) DO UPDATE SET name = excluded.name, md5 = excluded.md5, run_at = excluded.run_at;`;
}

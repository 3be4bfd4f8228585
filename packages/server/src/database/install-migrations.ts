import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import Postgrator from 'postgrator';
import { InstallError } from './install-error.js';
import { schemaName, versionTables } from './install-objects.js';

/** A folder of migrations under `sql/`, with its own bookkeeping. */
export type Track = keyof typeof versionTables;

/** The runner takes a glob; the folder may be installed anywhere. */
function patternOf(track: Track): string {
  const folder = fileURLToPath(new URL(`../../sql/${track}/`, import.meta.url)).replaceAll('\\', '/');
  return `${folder.replace(/[*?()[\]{}!+@]/g, '\\$&')}*.sql`;
}

/**
 * Brings one track to its newest version, in the transaction that `client` is in: the runner opens
 * no connection and commits nothing. Migrations that were applied before are compared by checksum.
 * Tells whether anything was applied.
 * Throws InstallError `other-build` where the database knows other migrations than this build.
 */
export async function migrate(client: pg.ClientBase, track: Track): Promise<boolean> {
  const runner = new Postgrator({
    driver: 'pg',
    migrationPattern: patternOf(track),
    schemaTable: `${schemaName}.${versionTables[track]}`,
    validateChecksums: true,
    // A checkout with other line ends is still the same build.
    newline: 'LF',
    execQuery: async (query) => {
      const { rows } = await client.query(query);
      return { rows };
    },
    execSqlScript: async (script) => {
      await client.query(script);
    },
  });
  const migrations = await runner.getMigrations();
  if (migrations.length === 0) {
    throw new InstallError(
      'failed',
      `Flagcast's own SQL files (sql/${track}) are missing: install the package again.`,
    );
  }
  // The runner would look for a way back; there is none, on purpose.
  if ((await runner.getDatabaseVersion()) > (await runner.getMaxVersion())) {
    throw new InstallError(
      'other-build',
      'This database was installed by a newer Flagcast: use that version, or a newer one.',
    );
  }
  try {
    const applied = await runner.migrate();
    return applied.length > 0;
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('MD5 checksum failed')) {
      throw new InstallError(
        'other-build',
        `This database was installed by another build of Flagcast (its sql/${track} differs): use that build, or take it back with it (flagcast uninstall) and install again.`,
        { cause: error },
      );
    }
    throw error;
  }
}

import { CommandError, UsageError } from '../packages/server/dist/cli/command.js';
import { loadLocalConfig } from '../packages/server/dist/cli/config.js';
import { withClient } from '../packages/server/dist/cli/connect.js';
import { readDatabaseUrl, requireDataDir } from '../packages/server/dist/cli/data-folder.js';

/**
 * Runs one SQL statement in the running demo and prints its rows, or how many it changed.
 *
 * @param {readonly string[]} args @param {Record<string, string | undefined>} environment
 */
export async function runSql([statement, ...rest], environment) {
  if (statement === undefined || rest.length > 0) {
    throw new UsageError('Give one statement in quotes: npm run sql -- "SELECT key FROM features"');
  }
  const dataDir = requireDataDir(loadLocalConfig(environment, {}).dataDir);
  const databaseUrl = await readDatabaseUrl(dataDir);
  if (databaseUrl === null) {
    throw new CommandError(
      `The demo does not run in ${dataDir}; start it with npm start, or set FLAGCAST_DATA_DIR`,
    );
  }
  await withClient(databaseUrl, async (client) => {
    // A named statement is prepared, so it is a single one.
    const { command, rows, rowCount } = await client.query({ text: statement, name: 'statement' });
    if (rows.length > 0) console.table(rows);
    console.log(`${command} ${rowCount ?? 0}`);
  });
}

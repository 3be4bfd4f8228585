import { type Environment, loadLocalConfig } from './config.js';
import { CommandError, UsageError } from './command.js';
import { withClient } from './connect.js';
import { readDatabaseUrl, requireDataDir } from './data-folder.js';

/**
 * Runs one SQL statement in the running embedded demo and prints its rows, or how many it changed.
 *
 * @throws CommandError, UsageError, or PostgreSQL's error for the statement.
 */
export async function runSql(args: readonly string[], environment: Environment): Promise<void> {
  const [statement, ...rest] = args;
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
    const { command, rows, rowCount } = await client.query<Record<string, unknown>>({
      text: statement,
      // With a name the statement is prepared, and only one alone can be.
      name: 'statement',
    });
    if (rows.length > 0) console.table(rows);
    console.log(`${command} ${rowCount ?? 0}`);
  });
}

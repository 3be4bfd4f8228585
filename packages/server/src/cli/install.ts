import { loadDatabaseUrl } from '../config/config.js';
import { install } from '../database/install.js';
import { CommandError, defineCommand } from './command.js';
import { confirm, isInteractive } from './confirm.js';
import { describeDatabase, withClient } from './connect.js';

export const installCommand = defineCommand({
  name: 'install',
  help: `flagcast install --database-url URL [options]

Makes the schema flagcast with the view of the events, and triggers that tell of new ones. Nothing
else is touched. Again and again without harm; brings an older installation up to date.

  --database-url URL  the database (env DATABASE_URL; no default)
  --tables            also make the tables of projects, flags and audit in a database without them
                      (default: attach to those that are there)
  --yes               do not ask (default: ask on a terminal, and only there)`,
  options: {
    'database-url': { type: 'string' },
    tables: { type: 'boolean' },
    yes: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const databaseUrl = loadDatabaseUrl(environment, { databaseUrl: values['database-url'] });
    const database = describeDatabase(databaseUrl);
    if (values.yes !== true && isInteractive()) {
      const what = values.tables === true ? 'Flagcast and its tables' : 'Flagcast';
      if (!(await confirm(`Install ${what} in ${database}?`))) {
        throw new CommandError('Not confirmed: nothing was changed');
      }
    }
    const { changed, lines } = await withClient(
      databaseUrl,
      async (client) => await install(client, { tables: values.tables ?? false }),
    );
    for (const line of lines) console.log(line);
    console.log(
      changed
        ? `Flagcast is installed in ${database}.`
        : `Flagcast was installed in ${database} already; nothing was changed.`,
    );
  },
});

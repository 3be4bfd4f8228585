import { loadDatabaseUrl } from './config/config.js';
import { planUninstall, uninstall, type UninstallPlan } from '../install/install.js';
import { CommandError, defineCommand } from './command.js';
import { confirm, isInteractive } from './confirm.js';
import { describeDatabase, withClient } from './connect.js';
import { printRetry } from './install.js';

export const uninstallCommand = defineCommand({
  name: 'uninstall',
  help: `flagcast uninstall --database-url URL [options]

Drops exactly what flagcast install created: the triggers, the view, the schema flagcast with the event
log, the rights that it granted to roles, the roles and, after --tables, the tables with all their
rows. A role that is in use elsewhere stays, and the output says so.

  --database-url URL  the database (env DATABASE_URL; no default)
  --yes               do not ask (default: ask on a terminal; without one refuse to drop tables that hold rows)`,
  options: {
    'database-url': { type: 'string' },
    yes: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const databaseUrl = loadDatabaseUrl(environment, { databaseUrl: values['database-url'] });
    const database = describeDatabase(databaseUrl);
    await withClient(databaseUrl, async (client) => {
      const plan = await planUninstall(client);
      if (!plan.installed) {
        console.log(`Flagcast is not installed in ${database}; nothing was changed.`);
        return;
      }
      if (values.yes !== true) await agree(plan, database);
      for (const { name, sessions } of plan.roles) {
        if (sessions === 0) continue;
        const count = `${sessions} session${sessions === 1 ? '' : 's'}`;
        console.error(
          `flagcast: Role ${name} has ${count} open, which will fail from now on: stop the server`,
        );
      }
      const { lines } = await uninstall(client, { onRetry: printRetry });
      for (const line of lines) console.log(line);
      console.log(`Flagcast is no longer installed in ${database}.`);
    });
  },
});

async function agree(plan: UninstallPlan, database: string): Promise<void> {
  if (isInteractive()) {
    for (const object of plan.objects) console.log(`would drop ${object}`);
    for (const { name, made } of plan.roles) {
      console.log(made ? `would drop role ${name}` : `would revoke the rights of role ${name}`);
    }
    const loss = plan.rows > 0 ? ` with ${countRows(plan)}` : '';
    if (await confirm(`Uninstall Flagcast${loss} from ${database}?`)) return;
    throw new CommandError('Not confirmed: nothing was changed');
  }
  if (plan.rows > 0) {
    throw new CommandError(
      `Nothing was changed, because ${countRows(plan)} would be lost; add --yes to drop them`,
    );
  }
}

function countRows({ tables, rows }: UninstallPlan): string {
  const filled = tables.filter((table) => table.rows > 0).length;
  return `${rows} row${rows === 1 ? '' : 's'} in ${filled} table${filled === 1 ? '' : 's'}`;
}

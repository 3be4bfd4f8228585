import pg from 'pg';
import { loadDatabaseUrl } from './config/config.js';
import { install, planInstall } from '../install/install.js';
import type { LockFailure } from '../install/install-lock.js';
import { scriptOf, type InstallPlan } from '../install/plan.js';
import { printable } from '../describe.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { confirm, isInteractive } from './confirm.js';
import { describeDatabase, withClient } from './connect.js';

export const installCommand = defineCommand({
  name: 'install',
  help: `flagcast install --database-url URL [options]

Creates the schema flagcast with the event log, and triggers on the host's tables that write it. Changes
nothing else. Run it again to upgrade an older installation, or to repair one of which something was
dropped, replaced or switched off.

  --database-url URL  the database (env DATABASE_URL; no default)
  --role NAME         also create a role that may log in, with the rights that flagcast serve needs and
                      no others; an existing role is granted what it lacks (default: none)
  --tables            also create the tables of projects, flags and audit in a database without them
                      (default: attach to those that exist)
  --log-only          only the event log, for tables of another form: their own triggers call
                      flagcast.record_event (default: attach to the tables)
  --dry-run           print the SQL, and do not run it
  --yes               do not ask (default: show the plan and ask on a terminal, and only there)

All of it is one transaction. It waits for each lock for half a second at most, and is retried four times.`,
  options: {
    'database-url': { type: 'string' },
    role: { type: 'string' },
    tables: { type: 'boolean' },
    'log-only': { type: 'boolean' },
    'dry-run': { type: 'boolean' },
    yes: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const { role, 'dry-run': dryRun = false } = values;
    if (dryRun && values.yes === true) {
      throw new UsageError('--dry-run and --yes exclude each other; see flagcast install --help');
    }
    if (values.tables === true && values['log-only'] === true) {
      throw new UsageError('--tables and --log-only exclude each other; see flagcast install --help');
    }
    const databaseUrl = loadDatabaseUrl(environment, { databaseUrl: values['database-url'] });
    const database = describeDatabase(databaseUrl);
    const options = {
      tables: values.tables ?? false,
      ...(values['log-only'] === true ? { logOnly: true } : {}),
      role,
    };
    await withClient(databaseUrl, async (client) => {
      const plan = await planInstall(client, options);
      if (dryRun) {
        console.log(dryRunText(plan, database));
        return;
      }
      if (values.yes !== true && isInteractive() && plan.statements.length > 0) await agree(plan, database);
      const { changed, lines, notes } = await install(client, {
        ...options,
        agreed: plan,
        onRetry: printRetry,
      });
      for (const line of lines) console.log(line);
      for (const note of notes) console.error(`flagcast: ${note}`);
      console.log(
        changed
          ? `Flagcast is installed in ${database}.`
          : `Flagcast was installed in ${database} already; nothing was changed.`,
      );
      if (role !== undefined) console.log(roleText(role, databaseUrl));
    });
  },
});

/** Prints on stderr that a lock timed out, and when the next attempt is. */
export function printRetry({ attempt, attempts, retryInMs, holder }: LockFailure): void {
  const seconds = (retryInMs / 1_000).toFixed(1);
  console.error(`flagcast: Attempt ${attempt} of ${attempts}: ${holder} in the way; again in ${seconds} s`);
}

function planLines({ creates, grants }: InstallPlan): string[] {
  return [
    ...creates.map((object) => `would create ${object}`),
    ...grants.map((grant) => `would grant ${grant}`),
  ];
}

async function agree(plan: InstallPlan, database: string): Promise<void> {
  for (const line of planLines(plan)) console.log(line);
  for (const note of plan.notes) console.log(`note: ${note}`);
  if (await confirm(`Install this in ${database}?`)) return;
  throw new CommandError('Not confirmed: nothing was changed');
}

/** A script for psql. Everything else is in comments. */
function dryRunText(plan: InstallPlan, database: string): string {
  const notes = plan.notes.map((note) => `-- Note: ${printable(note)}`);
  if (plan.statements.length === 0) {
    return [`-- Flagcast is installed in ${database} already: nothing would be run.`, ...notes].join('\n');
  }
  return [
    `-- What flagcast install would run in ${database}. Nothing has been run.`,
    ...planLines(plan).map((line) => `--   ${printable(line)}`),
    ...notes,
    scriptOf(plan),
  ].join('\n');
}

function roleText(role: string, databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(role);
  url.password = 'PASSWORD';
  // Certificates and other parameters are those of the installer.
  url.search = '';
  return [
    `Role ${role} has the rights that flagcast serve needs and no others: changes through the console are refused.`,
    `Choose its password:              ALTER ROLE ${pg.escapeIdentifier(role)} PASSWORD '...'`,
    `Then serve with it:               DATABASE_URL=${url.toString()} flagcast serve`,
  ].join('\n');
}

import { createInterface } from 'node:readline/promises';
import pg from 'pg';
import { loadDatabaseUrl } from './config.js';
import { install, planInstall, planUninstall, uninstall, type UninstallPlan } from '../install/install.js';
import type { LockFailure } from '../install/install-lock.js';
import { scriptOf } from '../install/plan.js';
import type { InstallPlan } from '../install/role.js';
import { printable } from '../describe.js';
import { CommandError, defineCommand, UsageError } from './command.js';
import { describeDatabase, withClient } from './connect.js';

export const installCommand = defineCommand({
  name: 'install',
  usage: '--database-url URL [options]',
  description: `Creates the schema flagcast with the event log, and triggers on the tables of the host that write it. Changes nothing else. Run it again to upgrade an installation, or to repair one of which something was dropped, replaced or disabled.`,
  options: {
    role: {
      value: 'NAME',
      help: 'also create this role, with the permissions that flagcast serve needs and no others; an existing role is granted what it lacks',
    },
    writes: {
      help: 'also grant that role the permissions for changes through the console (FLAGCAST_WRITES=on)',
    },
    tables: { help: 'also create the tables of projects, flags and audit, in a database without them' },
    'log-only': {
      help: 'create only the event log, for tables of another form: their own triggers call flagcast.record_event',
    },
    'dry-run': { help: 'print the SQL and do not run it' },
    yes: { help: 'do not ask for confirmation; without a terminal nothing is asked' },
  },
  settings: ['databaseUrl'],
  requiresDatabase: true,
  notes: `Everything is one transaction. Each lock is waited for at most half a second; the transaction is tried up to five times.`,
  run: async ({ options: values, flags, environment }) => {
    const { role, 'dry-run': dryRun } = values;
    if (dryRun && values.yes) {
      throw new UsageError('--dry-run and --yes exclude each other; see flagcast install --help');
    }
    if (values.tables && values['log-only']) {
      throw new UsageError('--tables and --log-only exclude each other; see flagcast install --help');
    }
    if (values.writes && role === undefined) {
      throw new UsageError('--writes needs --role; see flagcast install --help');
    }
    const databaseUrl = loadDatabaseUrl(environment, flags);
    const database = describeDatabase(databaseUrl);
    const options = {
      tables: values.tables,
      ...(values['log-only'] ? { logOnly: true } : {}),
      role,
      writes: values.writes,
    };
    await withClient(databaseUrl, async (client) => {
      const plan = await planInstall(client, options);
      if (dryRun) {
        console.log(dryRunText(plan, database));
        return;
      }
      if (!values.yes && isInteractive() && plan.statements.length > 0) await confirmInstall(plan, database);
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
      if (role !== undefined) console.log(roleText(role, values.writes, databaseUrl));
    });
  },
});

export const uninstallCommand = defineCommand({
  name: 'uninstall',
  usage: '--database-url URL [options]',
  description: `Drops exactly what flagcast install created: the triggers, the view, the schema flagcast with the event log, the permissions and roles that it granted and created, and after --tables the tables with all their rows. A role that is used elsewhere stays, and the output says so.`,
  options: {
    yes: {
      help: 'do not ask for confirmation; without a terminal this is required to drop tables with rows',
    },
  },
  settings: ['databaseUrl'],
  requiresDatabase: true,
  run: async ({ options, flags, environment }) => {
    const databaseUrl = loadDatabaseUrl(environment, flags);
    const database = describeDatabase(databaseUrl);
    await withClient(databaseUrl, async (client) => {
      const plan = await planUninstall(client);
      if (!plan.installed) {
        console.log(`Flagcast is not installed in ${database}; nothing was changed.`);
        return;
      }
      if (!options.yes) await confirmUninstall(plan, database);
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

async function confirmUninstall(plan: UninstallPlan, database: string): Promise<void> {
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

/** Prints on stderr that a lock timed out, and when the next attempt is. */
function printRetry({ attempt, attempts, retryInMs, holder }: LockFailure): void {
  const seconds = (retryInMs / 1_000).toFixed(1);
  console.error(`flagcast: Attempt ${attempt} of ${attempts}: ${holder}; retry in ${seconds} s`);
}

function planLines({ creates, grants }: InstallPlan): string[] {
  return [
    ...creates.map((object) => `would create ${object}`),
    ...grants.map((grant) => `would grant ${grant}`),
  ];
}

async function confirmInstall(plan: InstallPlan, database: string): Promise<void> {
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

function roleText(role: string, writes: boolean, databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(role);
  url.password = 'PASSWORD';
  // Certificates and other parameters are those of the installer.
  url.search = '';
  const settings = `FLAGCAST_JWT_SECRET=... ${writes ? 'FLAGCAST_WRITES=on ' : ''}DATABASE_URL=${url.toString()}`;
  return [
    `Role ${role} has the rights that flagcast serve needs${writes ? ', also for changes' : ' and no others; changes through the console need --writes'}.`,
    // psql sends only a hash, and keeps the password out of its history and PostgreSQL's log.
    `Choose its password, in psql:     \\password ${pg.escapeIdentifier(role)}`,
    `Then serve with it:               ${settings} flagcast serve`,
  ].join('\n');
}

/** Whether a person can answer a question. */
function isInteractive(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY;
}

/** Asks on the terminal. Only `y` and `yes` are a yes; Ctrl-C and the end of the input are a no. */
async function confirm(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const closed = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
  try {
    const answer = await Promise.race([terminal.question(`${question} [y/N] `), closed]);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}

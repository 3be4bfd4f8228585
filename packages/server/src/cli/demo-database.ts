import type { DemoUser } from '../flagcast-options.js';
import path from 'node:path';
import { defaultDataDir } from './setting-parsers.js';
import { install } from '../install/install.js';
import { InstallError } from '../install/refusals.js';
import { isWorthLogging, retry } from '../retry.js';
import type { Logger } from '../operations/log.js';
import { CommandError } from './command.js';
import { withClient } from './connect.js';
import { publishDatabaseUrl, withdrawDatabaseUrl } from './data-folder.js';
import type { DemoPackage, EmbeddedPostgres } from './packages.js';

/** The embedded PostgreSQL with the demo data. */
export interface DemoDatabase {
  /** It holds the password: never log it. */
  readonly databaseUrl: string;
  readonly dataDir: string;
  /** Stops PostgreSQL; after half of `limitMs` in immediate mode, from which it recovers at the next start. */
  stop(limitMs: number): Promise<void>;
}

/**
 * Starts the embedded PostgreSQL of the data folder, and creates tables, triggers and demo data if they are missing.
 * Restarts PostgreSQL on the same port when it ends unexpectedly.
 *
 * @throws EmbeddedPostgresError, CommandError
 */
export async function startDemoDatabase(
  { startEmbeddedPostgres, fillDemo }: DemoPackage,
  options: {
    readonly dataDir: string;
    readonly logger: Logger;
  },
): Promise<DemoDatabase> {
  const { logger } = options;
  const stopping = new AbortController();
  let reviving: Promise<void> | null = null;
  logger('embedded_database_starting', { dataDir: options.dataDir });
  const postgres = await startEmbeddedPostgres({
    dataDir: options.dataDir,
    copyDir: defaultDataDir(process.env) ?? path.dirname(options.dataDir),
    onExit: (error) => {
      if (stopping.signal.aborted) return;
      logger('embedded_database_ended', { error });
      reviving = revive(postgres, stopping.signal, logger);
    },
  });
  const database: DemoDatabase = {
    databaseUrl: postgres.url(),
    dataDir: postgres.dataDir,
    async stop(limitMs) {
      stopping.abort();
      await reviving;
      await withdrawDatabaseUrl(postgres.dataDir);
      const immediate = setTimeout(() => void postgres.stop('immediate'), limitMs / 2);
      await postgres.stop();
      clearTimeout(immediate);
      logger('embedded_database_stopped');
    },
  };
  try {
    await withClient(database.databaseUrl, async (client) => {
      await install(client, { tables: true });
      await fillDemo(client);
    });
    await publishDatabaseUrl(postgres.dataDir, database.databaseUrl);
  } catch (error) {
    await database.stop(5_000);
    if (!(error instanceof InstallError)) throw error;
    throw new CommandError(
      `The data of the demo in ${postgres.dataDir} does not fit this version of Flagcast. Delete that folder, or set FLAGCAST_DATA_DIR to another one. ${error.message}`,
      { cause: error },
    );
  }
  logger('embedded_database_started', { dataDir: postgres.dataDir, port: postgres.port });
  return database;
}

async function revive(postgres: EmbeddedPostgres, signal: AbortSignal, logger: Logger): Promise<void> {
  await retry(
    async ({ failed }) => {
      await postgres.restart();
      logger('embedded_database_restarted', { attempt: failed + 1 });
    },
    {
      signal,
      onRetry: (failure) => {
        if (isWorthLogging(failure.attempt)) logger('embedded_database_restart_failed', { ...failure });
      },
    },
  );
}

/** Changes a flag of the demo in prod, with its audit row. */
const demoChange = [
  'WITH changed AS (UPDATE feature_params p SET enabled = NOT p.enabled, updated_at = now()',
  'FROM features f JOIN environments e USING (project_id)',
  "WHERE p.feature_id = f.id AND p.environment_id = e.id AND f.key = 'guest-checkout' AND e.key = 'prod'",
  'RETURNING f.project_id, p.*)',
  'INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, username, action, old_value, new_value)',
  "SELECT project_id, environment_id, feature_id, 'feature', feature_id, 'user', 'alice', 'update',",
  "jsonb_build_object('enabled', NOT enabled), jsonb_build_object('enabled', enabled) FROM changed",
].join(' ');

/** The text for a terminal on which the demo was started. `dataDir`: null if other commands find it by themselves. */
export function demoBanner(options: {
  readonly url: string;
  readonly dataDir: string | null;
  readonly traffic: boolean;
  readonly people: readonly DemoUser[];
}): string {
  const url = clickable(options.url);
  const server = url === 'http://127.0.0.1:8080' ? '' : ` --url ${url}`;
  const tail = `npx flagcast tail${server} --project "Web shop" --env prod`;
  const lines = [
    '',
    `Flagcast runs at ${url}, with demo data in an embedded PostgreSQL.`,
    '',
    'Open it in two windows and sign in as two of its users:',
    ...options.people.map(({ username, about }) => `  ${username.padEnd(8)}${about}`),
    '',
    ...(options.dataDir === null
      ? []
      : ['In other terminals, first:', `  export FLAGCAST_DATA_DIR=${shellWord(options.dataDir)}`, '']),
    'In another terminal, watch a channel:',
    `  ${tail}`,
    'as another user:',
    `  ${tail} --token "$(npx flagcast token --user carol)"`,
    'and in a third one, change a flag:',
    `  npm run sql -- "${demoChange}"`,
    '',
    options.traffic ? 'The users are simulated (--traffic).' : 'With --traffic the users are simulated.',
    'Ctrl-C stops it; the data is kept.',
    '',
  ];
  return `${lines.join('\n')}\n`;
}

/** The loopback address of a server that listens on all addresses. */
function clickable(url: string): string {
  return url.replace('//0.0.0.0:', '//127.0.0.1:').replace('//[::]:', '//[::1]:');
}

function shellWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

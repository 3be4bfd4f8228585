import path from 'node:path';
import { defaultDataDir } from './setting-parsers.js';
import { install } from '../install/install.js';
import { retry } from '../retry.js';
import { isWorthLogging, type Logger } from '../operations/log.js';
import { withClient } from './connect.js';
import { publishDatabaseUrl, withdrawDatabaseUrl } from './data-folder.js';
import type { DemoPackage, EmbeddedPostgres } from './packages.js';

/** The embedded PostgreSQL with the demo in it. */
export interface DemoDatabase {
  /** Holds the password: never log it. */
  readonly databaseUrl: string;
  readonly dataDir: string;
  /** Ends PostgreSQL cleanly, or past half of `limitMs` like a crash, which it recovers from at the next start. */
  stop(limitMs: number): Promise<void>;
}

/**
 * Starts the embedded PostgreSQL of the data folder, with the tables, the view, the triggers and
 * the demo's data where they are missing. When PostgreSQL ends by itself it is started again, on
 * the same port, for as long as it takes.
 *
 * @throws EmbeddedPostgresError, InstallError, CommandError: one line each.
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
    throw error;
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

import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { dataFiles, isWorthLogging, readSecret, retry } from 'flagcast/support';
import type pg from 'pg';
import { demoUsers } from './company/company.js';
import { fillDemo } from './company/fill.js';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
  withClient,
  writePrivateFile,
} from './embedded/embedded.js';

type DemoEvent = 'starting' | 'started' | 'stopped' | 'ended' | 'restarted' | 'restart_failed';

export interface DemoOptions {
  /** The folder of the cluster and of the files for other commands. */
  readonly dataDir: string;
  /** Receives a copy of PostgreSQL's programs if one is needed. */
  readonly copyDir: string;
  /** Installs Flagcast with its tables, or upgrades it. */
  readonly install: (client: pg.ClientBase) => Promise<unknown>;
  readonly logger: (
    event: `embedded_database_${DemoEvent}`,
    fields?: Readonly<Record<string, unknown>>,
  ) => void;
}

/** The embedded PostgreSQL with the demo data. */
export interface Demo {
  /** It holds the password: never log it. */
  readonly databaseUrl: string;
  /** The secret of the data folder, which signs tokens. Creates a random one the first time. */
  secret(): Promise<string>;
  /** Stops PostgreSQL; after half of `limitMs` in immediate mode, from which it recovers at the next start. */
  stop(limitMs: number): Promise<void>;
}

/**
 * Starts the embedded PostgreSQL of the data folder, and creates tables, triggers and demo data if they are missing.
 * Restarts PostgreSQL on the same port when it ends unexpectedly.
 *
 * @throws EmbeddedPostgresError, or Error if the data does not fit this version.
 */
export async function startDemo(options: DemoOptions, startPostgres = startEmbeddedPostgres): Promise<Demo> {
  const { install, logger } = options;
  const stopping = new AbortController();
  let reviving: Promise<void> | null = null;
  logger('embedded_database_starting', { dataDir: options.dataDir });
  const postgres = await startPostgres({
    dataDir: options.dataDir,
    copyDir: options.copyDir,
    onExit: (error) => {
      if (stopping.signal.aborted) return;
      logger('embedded_database_ended', { error });
      reviving = revive(postgres, stopping.signal, logger);
    },
  });
  const { dataDir, port } = postgres;
  // Other commands find the server by it. After this process was killed, the file can be left over.
  const urlFile = path.join(dataDir, dataFiles.databaseUrl);
  const demo: Demo = {
    databaseUrl: postgres.url(),
    secret: async () => {
      const kept = await readSecret(dataDir);
      if (kept !== null) return kept;
      const secret = randomBytes(48).toString('base64url');
      await writePrivateFile(path.join(dataDir, dataFiles.secret), secret);
      return secret;
    },
    stop: async (limitMs) => {
      stopping.abort();
      await reviving;
      await rm(urlFile, { force: true });
      const immediate = setTimeout(() => void postgres.stop('immediate'), limitMs / 2);
      await postgres.stop();
      clearTimeout(immediate);
      logger('embedded_database_stopped');
    },
  };
  try {
    await withClient(demo.databaseUrl, async (client) => {
      await install(client).catch((error: unknown) => {
        throw new Error(
          `The data of the demo in ${dataDir} does not fit this version of Flagcast. Delete that folder, or set FLAGCAST_DATA_DIR to another one. ${error instanceof Error ? error.message : String(error)}`,
          { cause: error },
        );
      });
      await fillDemo(client);
    });
    await writePrivateFile(urlFile, demo.databaseUrl);
  } catch (error) {
    await demo.stop(5_000);
    throw error;
  }
  logger('embedded_database_started', { dataDir, port });
  return demo;
}

async function revive(
  postgres: EmbeddedPostgres,
  signal: AbortSignal,
  logger: DemoOptions['logger'],
): Promise<void> {
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
export function demoBanner(server: {
  readonly url: string;
  readonly dataDir: string | null;
  readonly traffic: boolean;
}): string {
  const url = clickable(server.url);
  const option = url === 'http://127.0.0.1:8080' ? '' : ` --url ${url}`;
  const tail = `npx flagcast tail${option} --project "Web shop" --env prod`;
  const lines = [
    '',
    `Flagcast runs at ${url}, with demo data in an embedded PostgreSQL.`,
    '',
    'Open it in two windows and sign in as two of its users:',
    ...demoUsers.map(({ username, about }) => `  ${username.padEnd(8)}${about}`),
    '',
    ...(server.dataDir === null
      ? []
      : ['In other terminals, first:', `  export FLAGCAST_DATA_DIR=${shellWord(server.dataDir)}`, '']),
    'In another terminal, watch a channel:',
    `  ${tail}`,
    'as another user:',
    `  ${tail} --token "$(npx flagcast token --user carol)"`,
    'and in a third one, change a flag:',
    `  npm run sql -- "${demoChange}"`,
    '',
    server.traffic ? 'The users are simulated (--traffic).' : 'With --traffic the users are simulated.',
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

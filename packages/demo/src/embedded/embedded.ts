import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { findAccount, type Account } from './embedded-account.js';
import {
  findBinaries,
  installedPackageDir,
  type Binaries,
  type BinariesSource,
} from './embedded-binaries.js';
import { DATABASE_NAME, openCluster, prepareDataDir, SUPERUSER_NAME } from './embedded-cluster.js';
import { EmbeddedPostgresError, errorFromOutput, toEmbeddedError } from './embedded-error.js';
import { stopLeftover, FAST_STOP_MS } from './embedded-orphan.js';
import { takeOwnership, type Ownership } from './embedded-owner.js';
import { freePort, PostgresProcess } from './embedded-process.js';

export { writePrivateFile } from './embedded-cluster.js';
export { EmbeddedPostgresError, type EmbeddedPostgresErrorCode } from './embedded-error.js';

/** A start retries after transient errors for this long, in milliseconds. */
const RETRY_LIMIT_MS = 10_000;
const RETRY_INTERVAL_MS = 100;

/** `fast`: ends the sessions and shuts down cleanly. `immediate`: like a crash, with recovery at the next start. */
export type StopMode = 'fast' | 'immediate';

export interface EmbeddedPostgresOptions {
  /** The folder of the cluster; created if it is missing. Only one process at a time may use it. */
  readonly dataDir: string;
  /** PostgreSQL settings, e.g. `{ fsync: 'off' }`. Defaults: `max_connections` 200, `track_commit_timestamp` on. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called with each line of PostgreSQL's log. */
  readonly onLog?: (line: string) => void;
  /** Called each time PostgreSQL ends without `stop` or `restart`. `restart` starts it again. */
  readonly onExit?: (error: EmbeddedPostgresError) => void;
  /** Folder for a copy of the programs, if one is needed. Default: the parent of the data folder. */
  readonly copyDir?: string;
  /** Default: the installed platform package, with a copy in `copyDir` if PostgreSQL's account cannot access it. */
  readonly binaries?: BinariesSource;
}

/** A running PostgreSQL, reachable on 127.0.0.1 with the password of its URL. */
export interface EmbeddedPostgres {
  /** The real path of the data folder. */
  readonly dataDir: string;
  /** A free port, chosen at each start; `restart` keeps it. */
  readonly port: number;
  /** Process id of the postmaster; null while it does not run. */
  readonly pid: number | null;
  /** The connection string for `database` (default `flagcast`). It holds the password: never log it. */
  url(database?: string): string;
  /** Resolves when PostgreSQL has ended and the data folder is released. `fast` (default) becomes `immediate` after 10 s. */
  stop(mode?: StopMode): Promise<void>;
  /** Stops and starts PostgreSQL on the same port; also starts it after an unexpected end. */
  restart(mode?: StopMode): Promise<void>;
}

/**
 * Starts PostgreSQL in `dataDir`; creates the cluster and the database `flagcast` if they are missing. Stops a PostgreSQL
 * that a killed process left running there. As root, PostgreSQL runs as the account `postgres`, which is created if it is
 * missing. If this process exits without `stop`, it signals PostgreSQL to stop; after a signal that ends the process without
 * an `exit` event, the next start does.
 *
 * @throws EmbeddedPostgresError
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const onLog = options.onLog ?? (() => undefined);
  let dataDir = path.resolve(options.dataDir);
  try {
    const account = await findAccount();
    const binaries = await findBinaries(
      account,
      options.binaries ?? {
        packageDir: installedPackageDir(),
        copyDir: options.copyDir ?? path.dirname(path.resolve(options.dataDir)),
      },
    );
    dataDir = await prepareDataDir(dataDir, account);
    const owner = await takeOwnership(dataDir);
    try {
      const sync = options.settings?.['fsync'] !== 'off';
      const cluster = await openCluster({ dataDir, binaries, account, sync, onLog });
      const running = new RunningCluster({
        ...options,
        ...cluster,
        dataDir,
        binaries,
        account,
        owner,
        onLog,
      });
      await running.start();
      return running;
    } catch (error) {
      await owner.release();
      throw error;
    }
  } catch (error) {
    throw toEmbeddedError(error, dataDir);
  }
}

interface RunningClusterOptions extends Omit<EmbeddedPostgresOptions, 'binaries'> {
  readonly clusterDir: string;
  readonly password: string;
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly owner: Ownership;
  readonly onLog: (line: string) => void;
}

class RunningCluster implements EmbeddedPostgres {
  readonly #options: RunningClusterOptions;
  #port = 0;
  #process: PostgresProcess | null = null;
  /** The process that `stop` or `restart` is ending. */
  #ending: PostgresProcess | null = null;
  #stopped = false;
  readonly #stopAtExit = (): void => this.#process?.signal('SIGINT');

  constructor(options: RunningClusterOptions) {
    this.#options = options;
  }

  get dataDir(): string {
    return this.#options.dataDir;
  }

  get port(): number {
    return this.#port;
  }

  get pid(): number | null {
    return this.#process?.running === true ? (this.#process.pid ?? null) : null;
  }

  url(database: string = DATABASE_NAME): string {
    return this.#urlAt(this.#port, database);
  }

  async start(): Promise<void> {
    process.on('exit', this.#stopAtExit);
    try {
      await this.#launch(freePort);
      await this.#createDatabase();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    this.#stopped = true;
    await this.#end(mode);
    process.off('exit', this.#stopAtExit);
    await this.#options.owner.release();
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    this.#refuseStopped();
    await this.#end(mode);
    try {
      await this.#launch(() => this.#port);
    } catch (error) {
      throw toEmbeddedError(error, this.dataDir);
    }
  }

  async #launch(choosePort: () => number | Promise<number>): Promise<void> {
    const { dataDir, clusterDir, owner, onLog, onExit } = this.#options;
    const leftover = {
      dataDir,
      clusterDir,
      ownerDied: owner.tookOver,
      urlAt: (port: number) => this.#urlAt(port, 'postgres'),
    };
    await stopLeftover(leftover);
    const deadlineMs = performance.now() + RETRY_LIMIT_MS;
    for (;;) {
      const port = await choosePort();
      this.#refuseStopped();
      const launched = new PostgresProcess({ settings: {}, ...this.#options, port, onLog });
      this.#process = launched;
      if (await launched.ready) {
        this.#port = port;
        void launched.ended.then((how) => {
          if (this.#ending === launched) return;
          onExit?.(
            errorFromOutput(`The embedded PostgreSQL ended unexpectedly (${how})`, launched.lines, dataDir),
          );
        });
        return;
      }
      if (performance.now() > deadlineMs || !isTransient(launched.lines)) {
        const how = await launched.ended;
        throw errorFromOutput(`The embedded PostgreSQL did not start (${how})`, launched.lines, dataDir);
      }
      await stopLeftover(leftover);
      await delay(RETRY_INTERVAL_MS);
    }
  }

  /** After `stop` another process may own the data folder. */
  #refuseStopped(): void {
    if (!this.#stopped) return;
    throw new EmbeddedPostgresError(
      'failed',
      `The embedded PostgreSQL in ${this.dataDir} was stopped; start a new one.`,
    );
  }

  async #end(mode: StopMode): Promise<void> {
    const ending = this.#process;
    if (ending === null) return;
    this.#ending = ending;
    ending.signal(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    const limit = setTimeout(() => ending.signal('SIGQUIT'), FAST_STOP_MS);
    await ending.ended;
    clearTimeout(limit);
  }

  async #createDatabase(): Promise<void> {
    await withClient(this.url('postgres'), async (client) => {
      const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE_NAME]);
      if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE_NAME}`);
    });
  }

  #urlAt(port: number, database: string): string {
    const { password } = this.#options;
    return `postgresql://${SUPERUSER_NAME}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  }
}

/** Runs `work` in a session of the database. */
export async function withClient(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'flagcast embedded' });
  // Queries report a lost connection; an error event without a listener would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    await work(client);
  } finally {
    await client.end();
  }
}

/** Whether the error is transient: another program uses the port, or child processes of a killed postmaster are ending. */
function isTransient(lines: readonly string[]): boolean {
  return lines.some((line) =>
    /Address already in use|pre-existing shared memory block|lock file "postmaster\.pid" already exists/.test(
      line,
    ),
  );
}

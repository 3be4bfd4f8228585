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
import { clearCluster, FAST_STOP_MS } from './embedded-orphan.js';
import { takeOwnership, type Ownership } from './embedded-owner.js';
import { freePort, PostgresProcess } from './embedded-process.js';

export { EmbeddedPostgresError, type EmbeddedPostgresErrorCode } from './embedded-error.js';

/** How long a start tries again when something that passes is in its way, in milliseconds. */
const OBSTACLE_LIMIT_MS = 10_000;
const TRY_AGAIN_MS = 100;

/** `fast` ends the sessions and stops cleanly; `immediate` stops like a crash, and recovers at the next start. */
export type StopMode = 'fast' | 'immediate';

export interface EmbeddedPostgresOptions {
  /** The folder that keeps the cluster between runs; made when missing. One process at a time uses it. */
  readonly dataDir: string;
  /** Settings of PostgreSQL (`{ fsync: 'off' }`), over our defaults `max_connections` 200 and `track_commit_timestamp` on. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Gets each line that PostgreSQL prints. */
  readonly onLog?: (line: string) => void;
  /** Called each time that PostgreSQL ends without `stop` or `restart`; `restart` starts it again. */
  readonly onExit?: (error: EmbeddedPostgresError) => void;
  /** Where the copy of the programs goes where one is needed. Default: the folder that holds the data folder. */
  readonly copyDir?: string;
  /** Default: the installed platform package, with a copy beside the data where that is closed to PostgreSQL. */
  readonly binaries?: BinariesSource;
}

/** A PostgreSQL of our own, reachable on 127.0.0.1 with the password in its URL only. */
export interface EmbeddedPostgres {
  /** The real path of the data folder. */
  readonly dataDir: string;
  /** A free one, chosen at each start; `restart` keeps it. */
  readonly port: number;
  /** The postmaster's process id; null while it does not run. */
  readonly pid: number | null;
  /** The connection string for `database` (default `flagcast`). It holds the password: never log it. */
  url(database?: string): string;
  /** Resolves when PostgreSQL has ended and the folder is free. `fast` (the default) becomes `immediate` after 10 s. */
  stop(mode?: StopMode): Promise<void>;
  /** Stops, then starts on the same port; also after PostgreSQL ended by itself. */
  restart(mode?: StopMode): Promise<void>;
}

/**
 * Starts PostgreSQL in `dataDir` and makes the cluster and the database `flagcast` where they
 * are missing. A PostgreSQL that a killed process of ours left running there is stopped first.
 * As root PostgreSQL runs as the account `postgres`, which is made when it is missing. When this
 * process exits without `stop`, PostgreSQL is told to stop; a signal that ends the process
 * without an `exit` event leaves it to the next start.
 *
 * @throws EmbeddedPostgresError with one line that says what is wrong and how to mend it.
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
  /** The process that is being ended on purpose. */
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
      await this.#makeDatabase();
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
    await clearCluster(leftover);
    const deadlineMs = performance.now() + OBSTACLE_LIMIT_MS;
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
            errorFromOutput(`The embedded PostgreSQL ended by itself (${how})`, launched.lines, dataDir),
          );
        });
        return;
      }
      if (performance.now() > deadlineMs || !passes(launched.lines)) {
        const how = await launched.ended;
        throw errorFromOutput(`The embedded PostgreSQL did not start (${how})`, launched.lines, dataDir);
      }
      await clearCluster(leftover);
      await delay(TRY_AGAIN_MS);
    }
  }

  /** Once the folder is given back, another process may own it. */
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
    const cutShort = setTimeout(() => ending.signal('SIGQUIT'), FAST_STOP_MS);
    await ending.ended;
    clearTimeout(cutShort);
  }

  async #makeDatabase(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.url('postgres'),
      application_name: 'flagcast embedded',
    });
    // Without a listener a PostgreSQL that ends meanwhile would end this process; the query fails anyway.
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE_NAME]);
      if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE_NAME}`);
    } finally {
      await client.end();
    }
  }

  #urlAt(port: number, database: string): string {
    const { password } = this.#options;
    return `postgresql://${SUPERUSER_NAME}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  }
}

/** Whether what kept PostgreSQL from starting goes away: the port's other user, or the end of the processes of a killed one. */
function passes(lines: readonly string[]): boolean {
  return lines.some((line) =>
    /Address already in use|pre-existing shared memory block|lock file "postmaster\.pid" already exists/.test(
      line,
    ),
  );
}

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { runAs, type Account } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { errorFromOutput } from './embedded-error.js';

const execute = promisify(execFile);

/** Number of lines that are kept: enough for the reason why PostgreSQL ended, with its context. */
const MAX_LINES = 50;

const LOWEST_PORT = 20_000;
const HIGHEST_PORT = 32_767;

export interface PostgresProcessOptions {
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly clusterDir: string;
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly onLog: (line: string) => void;
}

/** A process of `postgres`, from the spawn to its end. */
export class PostgresProcess {
  /** Resolves with true when PostgreSQL accepts connections, or with false if it ends before. */
  readonly ready: Promise<boolean>;
  /** Resolves when the process has ended, with `exit code 1`, `signal SIGKILL`, or the error of the spawn. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];

  constructor({ binaries, account, clusterDir, port, settings, onLog }: PostgresProcessOptions) {
    const all = {
      max_connections: '200',
      track_commit_timestamp: 'on',
      ...settings,
      // Required: only local connections, a known port, and the log on stderr.
      listen_addresses: '127.0.0.1',
      port: String(port),
      unix_socket_directories: '',
      logging_collector: 'off',
      log_destination: 'stderr',
      log_min_messages: 'warning',
    };
    const child = spawn(
      binaries.postgres,
      ['-D', clusterDir, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      {
        ...runAs(account),
        cwd: '/',
        env: environment(),
        stdio: ['ignore', 'ignore', 'pipe'],
        // A separate session, so that Ctrl-C does not stop PostgreSQL before this process has drained.
        detached: true,
      },
    );
    this.#child = child;
    this.ended = new Promise((resolve) => {
      // After a signal, remaining child processes may keep the pipe open, so do not wait for `close`. After a normal exit
      // `close` comes when all output has been read.
      child.once('exit', (_code, signal) => {
        if (signal !== null) resolve(`signal ${signal}`);
      });
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code) => resolve(`exit code ${code ?? 'unknown'}`));
    });
    this.ready = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        this.#lines.push(line);
        if (this.#lines.length > MAX_LINES) this.#lines.shift();
        if (line.includes('database system is ready to accept')) resolve(true);
        onLog(line);
      });
      void this.ended.then(() => resolve(false));
    });
  }

  /** The last lines of the log, oldest first. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Undefined if the spawn failed. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGINT: fast shutdown. SIGQUIT: immediate shutdown, with recovery at the next start. */
  signal(signal: 'SIGINT' | 'SIGQUIT'): void {
    this.#child.kill(signal);
  }
}

/**
 * Creates a cluster in the empty folder `clusterDir` with UTF-8 and the built-in locale C.UTF-8 (C before PostgreSQL 17), so
 * that no locale has to be installed and sorting is the same on every machine.
 *
 * @throws EmbeddedPostgresError `disk-full`, `failed`.
 */
export async function initialise(options: {
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly clusterDir: string;
  readonly passwordFile: string;
  readonly userName: string;
  /** False: skip fsync; a crash of the machine may lose the cluster. */
  readonly sync: boolean;
  readonly dataDir: string;
  readonly onLog: (line: string) => void;
}): Promise<void> {
  const args = [
    `--pgdata=${options.clusterDir}`,
    `--username=${options.userName}`,
    `--pwfile=${options.passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    ...(options.binaries.major < 17 ? [] : ['--locale-provider=builtin', '--builtin-locale=C.UTF-8']),
    '--no-instructions',
    ...(options.sync ? [] : ['--no-sync']),
  ];
  const run = execute(options.binaries.initdb, args, {
    ...runAs(options.account),
    cwd: '/',
    env: environment(),
  });
  try {
    const { stdout } = await run;
    for (const line of stdout.split('\n')) options.onLog(line);
  } catch (error) {
    const printed = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    const lines = printed === '' ? [String(error)] : printed.split('\n');
    for (const line of lines) options.onLog(line);
    throw errorFromOutput('initdb could not create the cluster', lines, options.dataDir);
  }
}

/**
 * Returns a free port of 127.0.0.1 below the ephemeral ports: otherwise, while PostgreSQL restarts, a reconnecting client
 * could get the port as its local port, and even connect to itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = LOWEST_PORT + Math.floor(Math.random() * (HIGHEST_PORT - LOWEST_PORT + 1));
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => {
        probe.close(() => resolve(true));
      });
    });
    if (free) return port;
  }
}

/** The environment variables that PostgreSQL needs. The others may be secrets, which superusers could read. */
function environment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH'];
  const present = kept.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(present), LC_ALL: 'C' };
}

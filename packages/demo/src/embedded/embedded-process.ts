import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { runAs, type Account } from './embedded-account.js';
import type { Binaries } from './embedded-binaries.js';
import { errorFromOutput } from './embedded-error.js';

const execute = promisify(execFile);

/** Enough to hold the line that tells why PostgreSQL ended, and what surrounds it. */
const KEPT_LINES = 50;

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

/** One run of `postgres`, from the spawn to its end. */
export class PostgresProcess {
  /** Resolves with true when it accepts connections, with false when it ended before that. */
  readonly ready: Promise<boolean>;
  /** Resolves when it has ended, with how: `exit code 1`, `signal SIGKILL`, or why it never ran. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];

  constructor({ binaries, account, clusterDir, port, settings, onLog }: PostgresProcessOptions) {
    const all = {
      max_connections: '200',
      track_commit_timestamp: 'on',
      ...settings,
      // Without these others would reach it, or we would not, or we would not hear it.
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
        // A session of its own: the terminal's Ctrl-C is for us, who drain before we stop it.
        detached: true,
      },
    );
    this.#child = child;
    this.ended = new Promise((resolve) => {
      // Ended by a signal it may leave processes behind that keep the pipe open; ended by
      // itself it does not, and its last words are worth waiting for.
      child.once('exit', (_code, signal) => {
        if (signal !== null) resolve(`signal ${signal}`);
      });
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code) => resolve(`exit code ${code ?? 'unknown'}`));
    });
    this.ready = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        this.#lines.push(line);
        if (this.#lines.length > KEPT_LINES) this.#lines.shift();
        if (line.includes('database system is ready to accept')) resolve(true);
        onLog(line);
      });
      void this.ended.then(() => resolve(false));
    });
  }

  /** The last lines that it printed, oldest first. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Undefined when it never ran. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGINT: end the sessions and stop cleanly. SIGQUIT: stop at once, recover at the next start. */
  signal(signal: 'SIGINT' | 'SIGQUIT'): void {
    this.#child.kill(signal);
  }
}

/**
 * Makes a cluster in the empty folder `clusterDir`: UTF-8, and PostgreSQL's own C.UTF-8 (before 17,
 * which has none, C), so that no locale need be installed and sorting is the same on every machine.
 *
 * @throws EmbeddedPostgresError `disk-full`, `failed`.
 */
export async function initialise(options: {
  readonly binaries: Binaries;
  readonly account: Account | null;
  readonly clusterDir: string;
  readonly passwordFile: string;
  readonly userName: string;
  /** Whether a crash of the machine may lose what was written. */
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
    throw errorFromOutput('PostgreSQL could not make its cluster', lines, options.dataDir);
  }
}

/**
 * A free port of 127.0.0.1 below those that systems hand out for outgoing connections: while
 * PostgreSQL restarts, a client that tries to reconnect could else be given it, even as its own
 * end of the connection.
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

/** What PostgreSQL needs of our environment, which holds secrets that its users could read there. */
function environment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH'];
  const present = kept.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(present), LC_ALL: 'C' };
}

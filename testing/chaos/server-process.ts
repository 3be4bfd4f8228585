import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Owner } from '../testkit/bounded-run.ts';
import { type Child, startChild } from '../testkit/child.ts';
import type { ServerFigures, ServerNote, ServerTask } from './server-program.ts';

/** Time-out of a request to the process, in milliseconds: longer than any fault stops it. */
const requestTimeoutMs = 30_000;
/** Writes to this file fail with ENOSPC, where the system has it. */
export const fullFile = '/dev/full';
/** Prefix of every JWT. Logs must not contain tokens. */
const tokenPrefix = 'eyJ';
/** Number of notes that are kept for timelines. */
const maxNotes = 200_000;

export interface ServerOptions {
  readonly name: string;
  readonly databaseUrl: string;
  readonly secret: string;
  readonly port: number;
  /** Of NATS. Undefined: each server reads the database for itself. */
  readonly relayUrl: string | undefined;
  /** Called when the process ends unexpectedly or violates a promise. */
  readonly onProblem: (problem: string) => void;
}

/** A server of the run. Faults replace its process; the port stays the same. */
export class ServerProcess {
  readonly notes: ServerNote[] = [];
  readonly #owner: Owner;
  readonly #options: ServerOptions;
  #child: Child | null = null;

  constructor(owner: Owner, options: ServerOptions) {
    this.#owner = owner;
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#options.port}`;
  }

  get port(): number {
    return this.#options.port;
  }

  /** Starts the process and waits until it listens. `diskFull`: its log goes to a full disk. */
  async start({ diskFull = false }: { readonly diskFull?: boolean } = {}): Promise<void> {
    const { name, databaseUrl, secret, port, relayUrl, onProblem } = this.#options;
    const log = diskFull ? openSync(fullFile, 'w') : 'pipe';
    const child = startChild(this.#owner, new URL('./server-program.ts', import.meta.url), {
      stdout: log,
      // v8.queryObjects is experimental, and warns in the log.
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
      onNote: (note) => this.#note(note as ServerNote),
      onUnexpectedEnd: (reason) => onProblem(`${name} ${reason} unexpectedly`),
    });
    if (typeof log === 'number') closeSync(log);
    this.#child = child;
    this.#note([Date.now(), diskFull ? 'started, with its log on a full disk' : 'started']);
    child.process.stdout?.on('data', (bytes: Buffer) => {
      if (bytes.includes(tokenPrefix)) onProblem(`${name} wrote a token into its log`);
    });
    await this.request({ do: 'start', databaseUrl, secret, port, relayUrl });
  }

  async request(task: ServerTask): Promise<unknown> {
    return await this.#child?.request(task, requestTimeoutMs);
  }

  async figures(): Promise<ServerFigures> {
    return (await this.request({ do: 'figures' })) as ServerFigures;
  }

  /** Ends the process with SIGKILL, as the kernel does when it is out of memory. */
  async kill(): Promise<void> {
    await this.#child?.kill();
    this.#note([Date.now(), 'killed']);
  }

  /** Shuts down gracefully, as in a rolling update: the server asks its clients to reconnect elsewhere. */
  async drain(): Promise<void> {
    this.#note([Date.now(), 'drains']);
    await this.request({ do: 'drain' });
    await this.kill();
  }

  /** Suspends the process with SIGSTOP. */
  async freeze(holdMs: number): Promise<void> {
    this.#child?.process.kill('SIGSTOP');
    this.#note([Date.now(), 'suspended']);
    await delay(holdMs);
    this.#child?.process.kill('SIGCONT');
    this.#note([Date.now(), 'resumed']);
  }

  /** Stops reading the log of the process, so that its pipe fills. */
  async stallLog(holdMs: number): Promise<void> {
    const log = this.#child?.process.stdout;
    log?.pause();
    await delay(holdMs);
    log?.resume();
  }

  #note(note: ServerNote): void {
    this.notes.push(note);
    if (this.notes.length > maxNotes) this.notes.splice(0, maxNotes / 2);
  }
}

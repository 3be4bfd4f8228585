import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Owner } from './bounded-run.ts';
import { MessageLog } from './message-log.ts';
import { childrenOf } from './process-figures.ts';
import { endWithParent } from './watchdog.ts';

/** Of each stream, the program keeps at most this many lines. */
const maxLines = 20_000;
/** Time limit for a graceful end, in milliseconds: less than that of a clean-up. */
const endLimitMs = 10_000;
/** Below the ephemeral ports: no client connection takes the port of a server that is being restarted. */
const ports = { first: 20_000, count: 12_000 };

export interface ProgramOptions {
  /** Besides PATH and HOME nothing of this process's environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the program gets a terminal (through `script`) instead of pipes; its stderr is then part of stdout. */
  readonly terminal?: boolean;
}

export interface ProgramResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program in a process of its own. It keeps the lines of the output. */
export class Program {
  readonly process: ChildProcess;
  /** Resolves when the process has ended and all of its output was read. */
  readonly ended: Promise<ProgramResult>;
  readonly #stdout: MessageLog<string>;
  readonly #stderr: MessageLog<string>;

  constructor(command: string, args: readonly string[], { env, terminal = false }: ProgramOptions = {}) {
    const options = { env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env } };
    this.process = terminal
      ? spawn('script', ['-qefc', `exec ${[command, ...args].map(quoted).join(' ')}`, '/dev/null'], options)
      : spawn(command, args, options);
    const { stdout, stderr } = this.process;
    if (stdout === null || stderr === null) throw new Error('the program has no pipes');
    this.#stdout = readLines(stdout);
    this.#stderr = readLines(stderr);
    const hasEnded = this.process.pid === undefined ? () => undefined : endWithParent(this.process.pid);
    this.process.once('exit', hasEnded);
    // `ended` reports a program that did not start.
    this.process.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        const result = { code, signal, stdout: this.stdout, stderr: textOf(this.#stderr) };
        const reason = `the program ended with ${code ?? signal ?? 'nothing'}\n${result.stdout}\n${result.stderr}`;
        for (const lines of [this.#stdout, this.#stderr]) lines.end(reason);
        resolve(result);
      });
    });
  }

  /** Resolves with the first past or future line of stdout that matches; rejects if the program ends before. */
  async line(fits: (line: string) => boolean): Promise<string> {
    return await this.#stdout.find(fits);
  }

  /** As `line`, of stderr. */
  async errorLine(fits: (line: string) => boolean): Promise<string> {
    return await this.#stderr.find(fits);
  }

  /** Resolves with the fields of the first log line with this event that matches. */
  async logged(
    event: string,
    fits: (fields: Record<string, unknown>) => boolean = () => true,
  ): Promise<Record<string, unknown>> {
    const line = await this.line((text) => {
      const fields = parseFields(text);
      return fields !== null && fields['event'] === event && fits(fields);
    });
    return parseFields(line) ?? {};
  }

  get pid(): number {
    if (this.process.pid === undefined) throw new Error('the program did not start');
    return this.process.pid;
  }

  /** What it has printed on stdout so far. */
  get stdout(): string {
    return textOf(this.#stdout);
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Types into its terminal. */
  type(text: string): void {
    this.process.stdin?.write(text);
  }

  /** Ends the process with SIGKILL. Resolves when it has ended. */
  async end(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

/** Keeps the lines of a stream. */
function readLines(stream: Readable): MessageLog<string> {
  const lines = new MessageLog<string>(maxLines);
  createInterface({ input: stream }).on('line', (line) => lines.add(line));
  return lines;
}

function textOf({ messages }: MessageLog<string>): string {
  return messages.map((line) => `${line}\n`).join('');
}

/** The fields of a JSON line; null for any other line. */
export function parseFields(line: string): Record<string, unknown> | null {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null;
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A server program, which runs until `end`, `kill` or the end of its owner. */
export interface Supervised {
  /** The program, then its child processes. */
  pids(): Promise<readonly number[]>;
  /** Lets it shut down; after 10 s it is killed. Resolves when it has ended. */
  end(): Promise<void>;
  /** Ends it and its child processes with SIGKILL. Resolves when it has ended. */
  kill(): Promise<void>;
}

/** The owner ends the program, and fails if the program ends before. */
export function supervise(owner: Owner, program: Program, name: string): Supervised {
  let isEnding = false;
  const pids = async (): Promise<readonly number[]> => [program.pid, ...(await childrenOf(program.pid))];
  const kill = async (): Promise<void> => {
    isEnding = true;
    // Its child processes could keep the pipes of its output open.
    for (const pid of await pids().catch(() => [])) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
    await program.ended;
  };
  const end = async (): Promise<void> => {
    isEnding = true;
    program.signal('SIGTERM');
    const limit = setTimeout(() => void kill(), endLimitMs);
    await program.ended;
    clearTimeout(limit);
  };
  owner.defer(end);
  void program.ended.then(({ code, signal, stderr }) => {
    if (isEnding) return;
    owner.fail(new Error(`${name} ended with ${code ?? signal ?? 'nothing'}: ${stderr.trim()}`));
  });
  return { pids, end, kill };
}

/** A TCP port of 127.0.0.1 that is free now and that no outgoing connection takes. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = ports.first + Math.floor(Math.random() * ports.count);
    const server = createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } catch {
      // The port is in use: try another one.
    } finally {
      server.close();
    }
  }
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** The program that npm installs; `dist` must be built. */
export const programFile = fileURLToPath(new URL('../bin/flagcast.js', import.meta.url));

/** Whether a command can be given a terminal: by the `script` of util-linux, which not every system has. */
export const hasTerminals = spawnSync('script', ['--version']).status === 0;

/** `npm run bench`, `chaos` or `fuzz`. */
export const harness = (name: 'bench' | 'chaos' | 'fuzz'): CommandOptions => ({
  file: fileURLToPath(new URL(`../../../testing/${name}/cli.js`, import.meta.url)),
  execArgv: ['--import', 'tsx'],
});

export interface CommandOptions {
  /** Beside PATH and HOME nothing of the test's own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** The file to run. Default: the program. */
  readonly file?: string;
  /** Arguments of Node, before the file. Default: none. */
  readonly execArgv?: readonly string[];
  /** Whether the command gets a terminal (through `script`) instead of pipes; its stderr is then part of stdout. */
  readonly terminal?: boolean;
}

export interface CommandResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program to its end. */
export async function runCommand(
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return await new RunningCommand(args, options).ended;
}

/** The program in a real process. */
export class RunningCommand {
  readonly process: ChildProcess;
  /** Resolves when it has ended and all of its output is here. */
  readonly ended: Promise<CommandResult>;
  readonly #output = { stdout: new Lines(), stderr: new Lines() };

  constructor(args: readonly string[], options: CommandOptions = {}) {
    const { file = programFile, execArgv = [] } = options;
    const command = [process.execPath, ...execArgv, file, ...args];
    const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], ...options.env };
    this.process =
      options.terminal === true
        ? spawn('script', ['-qefc', `exec ${command.map(quoted).join(' ')}`, '/dev/null'], { env })
        : spawn(process.execPath, command.slice(1), { env });
    const { stdout, stderr } = this.process;
    if (stdout === null || stderr === null) throw new Error('the command has no pipes');
    this.#output.stdout.read(stdout);
    this.#output.stderr.read(stderr);
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        const result = { code, signal, stdout: this.#output.stdout.text, stderr: this.#output.stderr.text };
        for (const lines of Object.values(this.#output)) {
          lines.end(
            `the command ended with ${code ?? signal ?? 'nothing'}\n${result.stdout}\n${result.stderr}`,
          );
        }
        resolve(result);
      });
    });
  }

  /** Resolves with the first past or future line of stdout that matches; rejects if the command ends before. */
  async line(fits: (line: string) => boolean): Promise<string> {
    return await this.#output.stdout.find(fits);
  }

  async errorLine(fits: (line: string) => boolean): Promise<string> {
    return await this.#output.stderr.find(fits);
  }

  /** The fields of the first log line with this event (that fits). */
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
    if (this.process.pid === undefined) throw new Error('the command never ran');
    return this.process.pid;
  }

  /** What it printed on stdout so far. */
  get stdout(): string {
    return this.#output.stdout.text;
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Types into its terminal. */
  type(text: string): void {
    this.process.stdin?.write(text);
  }

  /** Kills it, if a failed test left it running. */
  async end(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }
}

/** The lines of one stream, kept from the beginning. */
class Lines {
  readonly #lines: string[] = [];
  #waiting: {
    fits: (line: string) => boolean;
    resolve: (line: string) => void;
    reject: (error: Error) => void;
  }[] = [];
  #ended: string | null = null;

  get text(): string {
    return this.#lines.map((line) => `${line}\n`).join('');
  }

  read(stream: Readable): void {
    createInterface({ input: stream }).on('line', (line) => {
      this.#lines.push(line);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const waiter of waiting) {
        if (waiter.fits(line)) waiter.resolve(line);
        else this.#waiting.push(waiter);
      }
    });
  }

  end(reason: string): void {
    this.#ended = reason;
    for (const { reject } of this.#waiting) reject(new Error(reason));
  }

  async find(fits: (line: string) => boolean): Promise<string> {
    const found = this.#lines.find(fits);
    if (found !== undefined) return found;
    if (this.#ended !== null) throw new Error(this.#ended);
    return await new Promise((resolve, reject) => this.#waiting.push({ fits, resolve, reject }));
  }
}

function parseFields(line: string): Record<string, unknown> | null {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null;
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, inject, vi } from 'vitest';
import {
  Program,
  type ProgramOptions,
  type ProgramResult as CommandResult,
} from '../../../testing/testkit/program.ts';
import { main } from '../src/cli/main.js';
import { bundleHarness } from './bundled-command.js';

export type { CommandResult };

/** The program that npm installs, bundled; `dist` must be built. */
export const programFile = String(process.env['FLAGCAST_PROGRAM']);

/** Whether a command can be given a terminal: by the `script` of util-linux, which not every system has. */
export const hasTerminals = spawnSync('script', ['--version']).status === 0;

/** `npm run bench`, `chaos` or `fuzz`, in a test file. */
export async function harness(name: 'bench' | 'chaos' | 'fuzz'): Promise<CommandOptions> {
  const file = fileURLToPath(
    new URL(`../../../node_modules/.cache/${name}-${process.pid}.js`, import.meta.url),
  );
  await bundleHarness(name, file);
  afterAll(async () => await rm(file, { force: true }));
  // Its files are removed also if the run is killed.
  const programs = { FLAGCAST_PROGRAM: programFile, FLAGCAST_CLUSTER: inject('clusterTemplate') };
  return { file, env: { TMPDIR: tmpdir(), ...programs } };
}

export interface CommandOptions extends ProgramOptions {
  /** The file to run. Default: the program. */
  readonly file?: string;
  /** Arguments of Node, before the file. Default: none. */
  readonly execArgv?: readonly string[];
}

/** Runs the program to its end. */
export async function runCommand(
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return await new RunningCommand(args, options).ended;
}

/**
 * Runs a command to its end in this process, which has loaded its modules: a process of its own takes half a second of
 * processor time. Not for commands that wait for signals.
 */
export async function runHere(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Omit<CommandResult, 'signal'>> {
  const output = { stdout: '', stderr: '' };
  const streams = [process.stdout, process.stderr];
  const listeners = streams.map((stream) => stream.listeners('error'));
  const log = vi.spyOn(console, 'log').mockImplementation((text) => void (output.stdout += `${text}\n`));
  const error = vi.spyOn(console, 'error').mockImplementation((text) => void (output.stderr += `${text}\n`));
  const { exitCode } = process;
  try {
    process.exitCode = 0;
    await main(args, { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env });
    return { code: process.exitCode, ...output };
  } finally {
    process.exitCode = exitCode;
    log.mockRestore();
    error.mockRestore();
    for (const [index, stream] of streams.entries()) {
      for (const listener of stream.listeners('error')) {
        if (listeners[index]?.includes(listener) !== true) stream.off('error', listener as () => void);
      }
    }
  }
}

/** The program in a real process. */
export class RunningCommand extends Program {
  constructor(args: readonly string[], options: CommandOptions = {}) {
    const { file = programFile, execArgv = [] } = options;
    super(process.execPath, [...execArgv, file, ...args], options);
  }
}

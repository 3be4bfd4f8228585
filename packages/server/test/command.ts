import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  Program,
  type ProgramOptions,
  type ProgramResult as CommandResult,
} from '../../../testing/testkit/program.ts';

export type { CommandResult };

/** The program that npm installs; `dist` must be built. */
export const programFile = fileURLToPath(new URL('../bin/flagcast.js', import.meta.url));

/** Whether a command can be given a terminal: by the `script` of util-linux, which not every system has. */
export const hasTerminals = spawnSync('script', ['--version']).status === 0;

/** `npm run bench`, `chaos` or `fuzz`. */
export const harness = (name: 'bench' | 'chaos' | 'fuzz'): CommandOptions => ({
  file: fileURLToPath(new URL(`../../../testing/${name}/cli.js`, import.meta.url)),
  execArgv: ['--import', 'tsx'],
});

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

/** The program in a real process. */
export class RunningCommand extends Program {
  constructor(args: readonly string[], options: CommandOptions = {}) {
    const { file = programFile, execArgv = [] } = options;
    super(process.execPath, [...execArgv, file, ...args], options);
  }
}

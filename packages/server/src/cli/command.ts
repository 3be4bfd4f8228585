import { parseArgs, type ParseArgsConfig } from 'node:util';
import type { Environment } from './config/config.js';

/** One of the program's commands. */
export interface Command {
  /** What `--help` prints. */
  readonly help: string;
  /** Runs it with what stands after its name. Sets `process.exitCode` where that is not 0; throws what went wrong. */
  run(args: readonly string[], environment: Environment): Promise<void>;
}

/** The command line is wrong: exit code 2. The message is one line for the user. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command could not do its work: exit code 1. The message is one line for the user. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

type Options = NonNullable<ParseArgsConfig['options']>;

type Values<Declared extends Options> = {
  readonly [Name in keyof Declared]?: Declared[Name]['type'] extends 'boolean' ? boolean : string;
};

/** Makes a command of its options (as node:util `parseArgs` takes them) and of what to do with their values. */
export function defineCommand<const Declared extends Options>(definition: {
  readonly name: string;
  readonly help: string;
  readonly options: Declared;
  readonly run: (values: Values<Declared>, environment: Environment) => Promise<void>;
}): Command {
  const { name, help, options, run } = definition;
  return {
    help,
    run: async (args, environment) => await run(parseValues(name, options, args), environment),
  };
}

function parseValues<Declared extends Options>(
  command: string,
  options: Declared,
  args: readonly string[],
): Values<Declared> {
  try {
    return parseArgs({ args: [...args], options, strict: true }).values;
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    // The library goes on about dashes and positionals; its first sentence is the one that tells.
    const problem = (said.split(/\.\s|\n/, 1)[0] ?? said).replace(/\.$/, '');
    throw new UsageError(`${problem}; see flagcast ${command} --help`);
  }
}

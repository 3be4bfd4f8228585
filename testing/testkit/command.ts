import { type ParseArgsConfig, parseArgs } from 'node:util';
import { InterruptedError } from './bounded-run.ts';
import { showProgress } from './report.ts';

/** Invalid command line; the message says how to fix it. */
export class UsageError extends Error {}

/**
 * Runs a command of `npm run`. Prints an error as one line and sets the exit code: 2 for invalid usage, 128 + the signal's
 * number after a signal, else 1.
 */
export async function runCommand(
  name: string,
  main: (args: readonly string[]) => Promise<void>,
): Promise<void> {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    showProgress('');
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof UsageError) {
      process.exitCode = 2;
      console.error(`${name}: ${message}; see npm run ${name} -- --help`);
    } else {
      process.exitCode = error instanceof InterruptedError ? error.exitCode : 1;
      console.error(`${name}: ${message}`);
    }
  }
}

/** The options of a command line. Throws UsageError for options that are not in `options`, and for arguments. */
export function parseOptions<Options extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The number of an option. Throws UsageError if it is not one from `least` to `most`. */
export function numberOption(
  option: string,
  text: string,
  {
    least,
    most,
    isWhole = true,
  }: { readonly least: number; readonly most: number; readonly isWhole?: boolean },
): number {
  const value = Number(text);
  const fits =
    /^\d+(\.\d+)?$/.test(text) && value >= least && value <= most && (!isWhole || Number.isInteger(value));
  if (fits) return value;
  throw new UsageError(
    `${option} takes a ${isWhole ? 'whole ' : ''}number from ${least} to ${most}, not ${JSON.stringify(text)}`,
  );
}

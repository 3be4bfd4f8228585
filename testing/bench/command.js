import { InterruptedError } from './bounded-run.js';
import { UsageError } from './options.js';
import { clearProgress } from './results.js';

/**
 * Runs a command of `npm run`. Prints an error as one line and sets the exit code: 2 for invalid usage, 128 + the signal's
 * number after a signal, else 1.
 *
 * @param {string} name as in `npm run <name>`
 * @param {(args: readonly string[]) => Promise<void>} main
 */
export async function runCommand(name, main) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    clearProgress();
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

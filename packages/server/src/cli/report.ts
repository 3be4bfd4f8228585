import { ConfigError } from './config.js';
import { describeError } from '../describe.js';
import { UsageError } from './command.js';

/**
 * Runs a program and never rejects: what goes wrong is told on stderr, a line for each thing that
 * is wrong, without passwords and tokens, and by `process.exitCode` (2: the command line is wrong;
 * 1: anything else).
 */
export async function reportFailure(program: () => Promise<void>): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    // A reader that went away (`| head`) is no failure, and a server goes on without it.
    stream.on('error', () => undefined);
  }
  try {
    await program();
  } catch (error) {
    process.exitCode = error instanceof UsageError ? 2 : 1;
    // What was typed is part of some messages, and a URL or a token of what is typed.
    const lines = error instanceof ConfigError ? error.message.split('\n') : [describeError(error)];
    for (const line of lines) console.error(`flagcast: ${line}`);
  }
}

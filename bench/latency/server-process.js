import { fork } from 'node:child_process';
import { once } from 'node:events';

/** @import { BoundedRun } from '../bounded-run.js' */

/** How long a server may take to start, and how long to end, in milliseconds. */
const startLimitMs = 15_000;
const endLimitMs = 5_000;

/**
 * What a server process is told when it starts. It comes as a message because others can read a
 * command line. `secret` is what the product verifies tokens with, `kind` which floor it is to be.
 *
 * @typedef {{ databaseUrl: string, secret?: string, kind?: 'payload' | 'select' }} StartMessage
 */

/**
 * Runs `program` as a process of its own until the run ends, and waits until it serves.
 *
 * @param {BoundedRun} run
 * @param {URL} program
 * @param {StartMessage} message
 * @returns {Promise<number>} the port of 127.0.0.1 that it listens on
 */
export async function startServerProcess(run, program, message) {
  const child = fork(program, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = once(child, 'exit');
  let ending = false;
  run.defer(async () => {
    ending = true;
    // It ends by itself when its parent lets go.
    if (child.connected) child.disconnect();
    const tooLate = setTimeout(() => child.kill('SIGKILL'), endLimitMs);
    await ended;
    clearTimeout(tooLate);
  });
  void ended.then(() => {
    if (!ending) run.fail(new Error(`The server process ${program.pathname} ended by itself; see above why`));
  });
  child.send(message);
  const signal = AbortSignal.any([run.signal, AbortSignal.timeout(startLimitMs)]);
  /** @type {unknown[]} */
  const answer = await once(child, 'message', { signal });
  return Number(answer[0]);
}

/**
 * The other end: runs `serve` in the process that was started, and tells the parent the port.
 * `serve` takes the message of the parent; the process ends when the parent has let go.
 *
 * @param {(message: StartMessage) => Promise<number>} serve
 */
export function serveParent(serve) {
  // A Ctrl-C at the terminal reaches this process too, but it is the parent that tidies up.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => process.exit());
  process.once('message', (message) => {
    serve(/** @type {StartMessage} */ (message)).then(
      (port) => process.send?.(port),
      (/** @type {unknown} */ error) => {
        console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
        process.exit(1);
      },
    );
  });
}

import { constants } from 'node:os';

const signalNames = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/** How long cleaning up may take before the process ends without it, in milliseconds. */
const cleanUpLimitMs = 20_000;

/**
 * What a measurement is given. `signal` is aborted when it is to end early. `defer` takes what
 * undoes a step (a process, a folder); whatever happens, all of it runs, the last one first.
 * `fail` ends the measurement with an error that none of its own calls would meet.
 *
 * @typedef {{
 *   readonly signal: AbortSignal,
 *   defer(cleanUp: () => Promise<unknown>): void,
 *   fail(error: Error): void,
 * }} BoundedRun
 */

/** Ended by a signal: the exit code is 128 + its number, and there is nothing to explain. */
export class InterruptedError extends Error {
  /** @param {NodeJS.Signals} signalName */
  constructor(signalName) {
    super(`interrupted by ${signalName}`);
    this.exitCode = 128 + constants.signals[signalName];
  }
}

/**
 * Runs `work`, and cleans up after it also when it fails, takes longer than `limitMs`, or the
 * process is asked to end (Ctrl-C). A second Ctrl-C ends the process at once.
 *
 * @template Result
 * @param {number} limitMs
 * @param {(run: BoundedRun) => Promise<Result>} work
 * @returns {Promise<Result>}
 */
export async function runBounded(limitMs, work) {
  const controller = new AbortController();
  /** @type {(() => Promise<unknown>)[]} */
  const cleanUps = [];
  /** @type {(error: Error) => void} */
  let rejectEarly = () => undefined;
  /** @type {Promise<never>} */
  const endedEarly = new Promise((_resolve, reject) => {
    rejectEarly = reject;
  });
  /** @param {Error} error */
  const end = (error) => {
    rejectEarly(error);
    controller.abort(error);
  };
  /** @param {NodeJS.Signals} name */
  const onSignal = (name) => {
    const interrupted = new InterruptedError(name);
    if (controller.signal.aborted) process.exit(interrupted.exitCode);
    end(interrupted);
  };
  for (const name of signalNames) process.on(name, onSignal);
  const limit = setTimeout(() => {
    end(
      new Error(
        `The measurement took longer than ${limitMs / 60_000} minutes: try again while the machine is less busy`,
      ),
    );
  }, limitMs);
  const working = work({
    signal: controller.signal,
    defer: (cleanUp) => void cleanUps.push(cleanUp),
    fail: end,
  });
  try {
    return await Promise.race([working, endedEarly]);
  } finally {
    clearTimeout(limit);
    // What still waits, waits for what is now taken away; how it fails is of no interest.
    working.catch(() => undefined);
    endedEarly.catch(() => undefined);
    end(new Error('The measurement is over'));
    const hopeless = setTimeout(() => process.exit(1), cleanUpLimitMs);
    hopeless.unref();
    for (const cleanUp of cleanUps.reverse()) {
      await cleanUp().catch((/** @type {unknown} */ error) =>
        console.error('bench: clean-up failed:', error),
      );
    }
    clearTimeout(hopeless);
    for (const name of signalNames) process.off(name, onSignal);
  }
}

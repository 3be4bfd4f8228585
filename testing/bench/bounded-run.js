import { constants } from 'node:os';

const signalNames = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/** Time limit for the clean-up, in milliseconds; then the process exits. */
const cleanUpLimitMs = 20_000;

/**
 * The context of a run. `signal`: aborted when the run must end early. `defer`: registers a clean-up (of a process, a
 * folder); all clean-ups run at the end, the last one first. `fail`: ends the run with an error from outside its own calls.
 *
 * @typedef {{
 *   readonly signal: AbortSignal,
 *   defer(cleanUp: () => Promise<unknown>): void,
 *   fail(error: Error): void,
 * }} BoundedRun
 */

/** The run was ended by a signal. The exit code is 128 + the signal's number. */
export class InterruptedError extends Error {
  /** @param {NodeJS.Signals} signalName */
  constructor(signalName) {
    super(`interrupted by ${signalName}`);
    this.exitCode = 128 + constants.signals[signalName];
  }
}

/**
 * Runs `work` and cleans up after it, also after an error, after `limitMs`, or on a signal (Ctrl-C). A second signal
 * exits immediately.
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
        `The run took longer than ${limitMs / 60_000} minutes: try again while the machine is less busy`,
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
    // Pending calls fail as their resources are cleaned up; these errors are expected.
    working.catch(() => undefined);
    endedEarly.catch(() => undefined);
    end(new Error('The run is over'));
    const cleanUpLimit = setTimeout(() => process.exit(1), cleanUpLimitMs);
    cleanUpLimit.unref();
    for (const cleanUp of cleanUps.reverse()) {
      await cleanUp().catch((/** @type {unknown} */ error) =>
        console.error('bench: clean-up failed:', error),
      );
    }
    clearTimeout(cleanUpLimit);
    for (const name of signalNames) process.off(name, onSignal);
  }
}

import { constants } from 'node:os';

const signalNames = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Time limit for each clean-up, in milliseconds; then the next one runs. */
const cleanUpLimitMs = 15_000;

/** Frees what was started; may return a promise. */
type CleanUp = () => unknown;

/** The owner of what is started: a run of a harness, or a test (`{ defer: onTestFinished, fail }`). */
export interface Owner {
  /** Registers a clean-up. All of them run at the end, the last one first, each for a limited time. */
  defer(cleanUp: CleanUp): void;
  /** Ends the run with an error from outside its own calls, such as the end of a process. */
  fail(error: Error): void;
}

export interface BoundedRun extends Owner {
  /** Aborted when the run must end early. */
  readonly signal: AbortSignal;
}

/** The run was ended by a signal. */
export class InterruptedError extends Error {
  /** 128 + the signal's number. */
  readonly exitCode: number;

  constructor(signalName: NodeJS.Signals) {
    super(`interrupted by ${signalName}`);
    this.exitCode = 128 + constants.signals[signalName];
  }
}

/**
 * Runs `work` and cleans up after it, also after an error, after `limitMs`, or on a signal (Ctrl-C). A second signal
 * exits immediately.
 */
export async function runBounded<Result>(
  limitMs: number,
  work: (run: BoundedRun) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  const cleanUps: CleanUp[] = [];
  const endedEarly = new Promise<never>((_resolve, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason as Error));
  });
  const end = (error: Error): void => controller.abort(error);
  const onSignal = (name: NodeJS.Signals): void => {
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
    let isUnfinished = false;
    for (const cleanUp of cleanUps.reverse()) {
      const hasEnded = await endsInTime(cleanUp);
      isUnfinished ||= !hasEnded;
    }
    // What did not end may keep the process running. Child processes end with it.
    if (isUnfinished) setTimeout(() => process.exit(1), cleanUpLimitMs).unref();
    for (const name of signalNames) process.off(name, onSignal);
  }
}

/** Resolves with whether the clean-up has ended within its time limit; its errors are reported. */
async function endsInTime(cleanUp: CleanUp): Promise<boolean> {
  let limit: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    limit = setTimeout(() => {
      console.error(`a clean-up did not end within ${cleanUpLimitMs / 1_000} s`);
      resolve(false);
    }, cleanUpLimitMs);
  });
  const ended = Promise.resolve()
    .then(cleanUp)
    .catch((error: unknown) => console.error('clean-up failed:', error))
    .then(() => true);
  const hasEnded = await Promise.race([ended, late]);
  clearTimeout(limit);
  return hasEnded;
}

import { HttpProblem } from '../http-problem.js';

/**
 * Of this process, because its memory is shared: one check of a password takes 128 MiB and 0.4 s of a core. So
 * checks never take more memory than one, and at most one thread of libuv's pool from name look-ups.
 */
const mostAtOnce = 1;
/** The last one waits about 8 s. */
const mostWaiting = 20;

let running = 0;
const waiting: (() => void)[] = [];

/** Runs `work`, which checks a password, when it is its turn. Throws HttpProblem where too many wait. */
export async function inPasswordTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  if (running < mostAtOnce) {
    running += 1;
  } else {
    if (waiting.length >= mostWaiting) {
      throw new HttpProblem(503, 'busy', 'Too many passwords are being checked: try again shortly', {
        retryAfterSeconds: 2,
      });
    }
    await new Promise<void>((resolve) => waiting.push(resolve));
  }
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  }
}

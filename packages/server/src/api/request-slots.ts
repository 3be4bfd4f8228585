import type { ServerResponse } from 'node:http';
import { HttpProblem } from '../http-problem.js';

export interface RequestSlotsOptions {
  /** How many requests of one user run at once. Default 2. */
  maxRunning?: number;
  /** How many more of one user wait. Default 64: four tabs with seven channels each, and the pages around them. */
  maxWaiting?: number;
  /** How long a request waits, in milliseconds. Default 10,000. */
  waitTimeoutMs?: number;
}

interface UserQueue {
  running: number;
  /** In the order in which they came. */
  readonly waiting: Set<() => void>;
}

/**
 * Bounds how many requests that are expensive for the database one user has under way. A few more wait for their turn,
 * because a page asks for several things at once; beyond that they are refused with 429.
 */
export class RequestSlots {
  readonly #options: Required<RequestSlotsOptions>;
  readonly #users = new Map<string, UserQueue>();

  constructor(options: RequestSlotsOptions = {}) {
    this.#options = { maxRunning: 2, maxWaiting: 64, waitTimeoutMs: 10_000, ...options };
  }

  /**
   * Does the work when the user has a slot. Throws HttpProblem when that takes too long, or when the client has left
   * meanwhile; else what the work throws.
   */
  async run<Result>(userId: string, response: ServerResponse, work: () => Promise<Result>): Promise<Result> {
    const { maxRunning, maxWaiting } = this.#options;
    const user = this.#users.get(userId) ?? { running: 0, waiting: new Set() };
    this.#users.set(userId, user);
    if (user.running < maxRunning) user.running += 1;
    else if (user.waiting.size >= maxWaiting) throw tooManyRequests();
    else await this.#wait(user, response);
    try {
      return await work();
    } finally {
      const [next] = user.waiting;
      // The slot goes to the next request.
      if (next !== undefined) next();
      else user.running -= 1;
      if (user.running === 0) this.#users.delete(userId);
    }
  }

  async #wait(user: UserQueue, response: ServerResponse): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        response.off('close', abandon);
        user.waiting.delete(start);
      };
      const start = (): void => {
        leave();
        resolve();
      };
      const abandon = (): void => {
        leave();
        reject(tooManyRequests());
      };
      const timer = setTimeout(abandon, this.#options.waitTimeoutMs);
      response.once('close', abandon);
      user.waiting.add(start);
    });
  }
}

function tooManyRequests(): Error {
  return new HttpProblem(
    429,
    'too_many_requests',
    'You have too many snapshots, lists and searches under way: wait until some of them are answered',
    { retryAfterSeconds: 2 },
  );
}

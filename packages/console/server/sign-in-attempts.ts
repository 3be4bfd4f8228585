import { HttpProblem, networkOf } from 'flagcast/support';

export interface SignInAttemptsOptions {
  /** Attempts of one address for one user name within the window. Default 10. */
  readonly limit?: number;
  /** Failed attempts of one address within the window, for any names. Default 100. */
  readonly addressLimit?: number;
  /** For both, in milliseconds. Default 300,000. */
  readonly windowMs?: number;
  /** Failed attempts of all addresses together for one user name. Default 50. */
  readonly accountLimit?: number;
  /** In milliseconds. Default 3,600,000. */
  readonly accountWindowMs?: number;
  /** How many keys of each kind are remembered; the oldest are forgotten first. Default 10,000. */
  readonly maxKeys?: number;
  /** A monotonic clock, in milliseconds. Default: performance.now. */
  readonly nowMs?: () => number;
}

interface Attempt {
  readonly username: string;
  readonly address: string;
}

/**
 * Limits guesses at passwords by sliding windows: for each pair of user name and address; for each address, against one
 * password tried on many names; and for each user name, against many addresses. The last limit does not apply to
 * addresses from which the user has signed in before, so that an attack does not lock out the user. Of IPv6 the network
 * (/64) counts. Each process counts for itself.
 */
export class SignInAttempts {
  readonly #nowMs: () => number;
  readonly #pairs: SlidingWindows;
  readonly #addresses: SlidingWindows;
  readonly #accounts: SlidingWindows;
  /** Pairs that have signed in, the latest last. */
  readonly #known = new Map<string, true>();
  readonly #maxKeys: number;

  constructor(options: SignInAttemptsOptions = {}) {
    const { limit = 10, addressLimit = 100, windowMs = 300_000, maxKeys = 10_000 } = options;
    const { accountLimit = 50, accountWindowMs = 3_600_000, nowMs = () => performance.now() } = options;
    this.#maxKeys = maxKeys;
    this.#nowMs = nowMs;
    this.#pairs = new SlidingWindows({ limit, windowMs, maxKeys });
    this.#addresses = new SlidingWindows({ limit: addressLimit, windowMs, maxKeys });
    this.#accounts = new SlidingWindows({
      limit: accountLimit,
      windowMs: accountWindowMs,
      maxKeys,
    });
  }

  /**
   * Runs `check`, which checks a password, when the checks before it have ended. Throws HttpProblem if there were too
   * many attempts, or too many checks wait. An attempt that could not be checked does not count.
   */
  async run<Result>(attempt: Attempt, check: () => Promise<Result>): Promise<Result> {
    const waitMs = this.take(attempt);
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1_000);
      const message = `Too many attempts to give a password: try again in ${seconds} s`;
      throw new HttpProblem('too_many_attempts', message, { retryAfterSeconds: seconds });
    }
    try {
      return await oneAtATime(check);
    } catch (error) {
      for (const [windows, key] of this.#windowsOf(attempt)) windows.undo(key);
      throw error;
    }
  }

  /** Counts an attempt; if there were too many, returns in how many milliseconds the next one is possible. */
  take(attempt: Attempt): number {
    const nowMs = this.#nowMs();
    const isKnown = this.#known.has(pairOf(attempt));
    const counted = this.#windowsOf(attempt);
    const waitsMs = counted.map(([windows, key]) =>
      windows === this.#accounts && isKnown ? 0 : windows.waitMs(key, nowMs),
    );
    const waitMs = Math.max(...waitsMs);
    if (waitMs === 0) for (const [windows, key] of counted) windows.add(key, nowMs);
    return waitMs;
  }

  /** The user has signed in: earlier attempts for the name from this address, and this one, no longer count. */
  succeeded(attempt: Attempt): void {
    const pair = pairOf(attempt);
    for (const [windows, key] of this.#windowsOf(attempt)) windows.undo(key);
    this.#pairs.forget(pair);
    setNewest(this.#known, { key: pair, value: true, maxKeys: this.#maxKeys });
  }

  #windowsOf(attempt: Attempt): [SlidingWindows, string][] {
    return [
      [this.#pairs, pairOf(attempt)],
      [this.#addresses, networkOf(attempt.address)],
      [this.#accounts, attempt.username],
    ];
  }
}

function pairOf({ username, address }: Attempt): string {
  return JSON.stringify([username, networkOf(address)]);
}

/** The times of attempts by key, the latest last. */
class SlidingWindows {
  readonly #options: { readonly limit: number; readonly windowMs: number; readonly maxKeys: number };
  readonly #timesMs = new Map<string, readonly number[]>();

  constructor(options: { readonly limit: number; readonly windowMs: number; readonly maxKeys: number }) {
    this.#options = options;
  }

  /** 0 if an attempt is possible now. */
  waitMs(key: string, nowMs: number): number {
    const { limit, windowMs } = this.#options;
    const recent = this.#recent(key, nowMs);
    const [oldest] = recent;
    return oldest === undefined || recent.length < limit ? 0 : oldest + windowMs - nowMs;
  }

  add(key: string, nowMs: number): void {
    const { limit, maxKeys } = this.#options;
    // There may be more than the limit: of an account, from addresses that it does not apply to.
    const value = [...this.#recent(key, nowMs), nowMs].slice(-limit);
    setNewest(this.#timesMs, { key, value, maxKeys });
  }

  forget(key: string): void {
    this.#timesMs.delete(key);
  }

  undo(key: string): void {
    this.#timesMs.set(key, (this.#timesMs.get(key) ?? []).slice(0, -1));
  }

  #recent(key: string, nowMs: number): readonly number[] {
    return (this.#timesMs.get(key) ?? []).filter((atMs) => nowMs - atMs < this.#options.windowMs);
  }
}

/** Sets the key as the newest of the map, and deletes the oldest ones beyond `maxKeys`. */
function setNewest<Value>(
  map: Map<string, Value>,
  { key, value, maxKeys }: { readonly key: string; readonly value: Value; readonly maxKeys: number },
): void {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= maxKeys) break;
    map.delete(oldest);
  }
}

/** The last of them waits about 8 s. */
const maxWaiting = 20;
let unfinished = 0;
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs a check of a password alone in this process: one takes 128 MiB, 0.4 s of a core and a thread of libuv's pool.
 * Throws HttpProblem if too many wait.
 */
export async function oneAtATime<Result>(check: () => Promise<Result>): Promise<Result> {
  if (unfinished > maxWaiting) {
    const message = 'Too many passwords are being checked: try again shortly';
    throw new HttpProblem('busy', message, { retryAfterSeconds: 2 });
  }
  unfinished += 1;
  const result = last.then(check);
  last = result.catch(() => undefined);
  try {
    return await result;
  } finally {
    unfinished -= 1;
  }
}

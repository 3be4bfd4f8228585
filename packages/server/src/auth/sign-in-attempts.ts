import { networkOf } from './trusted-proxies.js';
import { HttpProblem } from '../http-problem.js';
import { inPasswordTurn } from './password-checks.js';

export interface SignInAttemptsOptions {
  /** How many attempts one address may make on one user name within the window. Default 10. */
  readonly limit?: number;
  /** How many attempts that failed one address may make within the window, on whatever names. Default 100. */
  readonly addressLimit?: number;
  /** In milliseconds, for both. Default 300,000. */
  readonly windowMs?: number;
  /** How many attempts that failed all addresses together may make on one user name. Default 50. */
  readonly accountLimit?: number;
  /** In milliseconds. Default 3,600,000. */
  readonly accountWindowMs?: number;
  /** How many pairs of name and address are remembered, and how many addresses; past it the oldest is forgotten. Default 10,000. */
  readonly maxPairs?: number;
  /** A clock that never goes back, in milliseconds. Default: that of the process. */
  readonly nowMs?: () => number;
}

/**
 * Bounds the guesses at passwords by sliding windows: one for each pair of user name and address; one for each
 * address, so that nobody tries one password on many names; and one for each user name, so that many addresses
 * together do not guess at one account. The last one does not hold for addresses from which the user has signed
 * in before, so that an attack does not lock out the user. Of IPv6 the network (/64) counts. Of this process;
 * several servers each have one.
 */
export class SignInAttempts {
  readonly #nowMs: () => number;
  readonly #onName: Attempts;
  readonly #fromAddress: Attempts;
  readonly #onAccount: Attempts;
  /** Pairs that have signed in, the latest last. */
  readonly #known = new Set<string>();
  readonly #maxPairs: number;

  constructor(options: SignInAttemptsOptions = {}) {
    const { limit = 10, addressLimit = 100, windowMs = 300_000, maxPairs = 10_000 } = options;
    const { accountLimit = 50, accountWindowMs = 3_600_000 } = options;
    this.#maxPairs = maxPairs;
    this.#onAccount = new Attempts({ limit: accountLimit, windowMs: accountWindowMs, maxKeys: maxPairs });
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#onName = new Attempts({ limit, windowMs, maxKeys: maxPairs });
    this.#fromAddress = new Attempts({ limit: addressLimit, windowMs, maxKeys: maxPairs });
  }

  /** Counts an attempt; or, where there have been too many, answers in how many milliseconds there is place for one. */
  take(username: string, address: string): number | null {
    const network = networkOf(address);
    const pair = JSON.stringify([username, network]);
    const nowMs = this.#nowMs();
    const waitMs = Math.max(
      this.#onName.waitMs(pair, nowMs),
      this.#fromAddress.waitMs(network, nowMs),
      this.#known.has(pair) ? 0 : this.#onAccount.waitMs(username, nowMs),
    );
    if (waitMs > 0) return waitMs;
    this.#onAccount.add(username, nowMs);
    this.#onName.add(pair, nowMs);
    this.#fromAddress.add(network, nowMs);
    return null;
  }

  /** Of an attempt whose password was not checked. */
  takeBack(username: string, address: string): void {
    const network = networkOf(address);
    this.#onName.takeBack(JSON.stringify([username, network]));
    this.#fromAddress.takeBack(network);
    this.#onAccount.takeBack(username);
  }

  /** Whoever knows the password begins anew, and has not guessed. */
  forget(username: string, address: string): void {
    const network = networkOf(address);
    const pair = JSON.stringify([username, network]);
    this.#onName.forget(pair);
    this.#fromAddress.takeBack(network);
    this.#onAccount.takeBack(username);
    this.#known.delete(pair);
    this.#known.add(pair);
    for (const oldest of this.#known) {
      if (this.#known.size <= this.#maxPairs) break;
      this.#known.delete(oldest);
    }
  }
}

/** The times of attempts by key; whoever tried last stands last. */
class Attempts {
  readonly #limit: number;
  readonly #windowMs: number;
  readonly #maxKeys: number;
  readonly #timesMs = new Map<string, readonly number[]>();

  constructor({ limit, windowMs, maxKeys }: { limit: number; windowMs: number; maxKeys: number }) {
    this.#limit = limit;
    this.#windowMs = windowMs;
    this.#maxKeys = maxKeys;
  }

  /** 0 where there is place for one now. */
  waitMs(key: string, nowMs: number): number {
    const recent = this.#recent(key, nowMs);
    const [oldest] = recent;
    return oldest === undefined || recent.length < this.#limit ? 0 : oldest + this.#windowMs - nowMs;
  }

  add(key: string, nowMs: number): void {
    const recent = this.#recent(key, nowMs);
    this.#timesMs.delete(key);
    // Attempts may be added past the limit: of an account, by addresses that it does not hold for.
    this.#timesMs.set(key, [...recent, nowMs].slice(-this.#limit));
    for (const forgotten of this.#timesMs.keys()) {
      if (this.#timesMs.size <= this.#maxKeys) break;
      this.#timesMs.delete(forgotten);
    }
  }

  forget(key: string): void {
    this.#timesMs.delete(key);
  }

  takeBack(key: string): void {
    this.#timesMs.set(key, (this.#timesMs.get(key) ?? []).slice(0, -1));
  }

  #recent(key: string, nowMs: number): readonly number[] {
    return (this.#timesMs.get(key) ?? []).filter((atMs) => nowMs - atMs < this.#windowMs);
  }
}

/**
 * Runs `check`, which checks a password, as an attempt and in its turn. Throws HttpProblem where there were too many
 * attempts. One that could not be checked does not count.
 */
export async function inAttempt<Result>(
  attempts: SignInAttempts,
  { username, address }: { readonly username: string; readonly address: string },
  check: () => Promise<Result>,
): Promise<Result> {
  const waitMs = attempts.take(username, address);
  if (waitMs !== null) {
    const seconds = Math.ceil(waitMs / 1_000);
    throw new HttpProblem(
      429,
      'too_many_attempts',
      `Too many attempts to give a password: try again in ${seconds} s`,
      { retryAfterSeconds: seconds },
    );
  }
  try {
    return await inPasswordTurn(check);
  } catch (error) {
    attempts.takeBack(username, address);
    throw error;
  }
}

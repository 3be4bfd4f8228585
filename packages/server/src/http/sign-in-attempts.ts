export interface SignInAttemptsOptions {
  /** How many attempts one address may make on one user name within the window. Default 10. */
  readonly limit?: number;
  /** In milliseconds. Default 300,000. */
  readonly windowMs?: number;
  /** How many pairs of name and address are remembered; past it the oldest is forgotten. Default 10,000. */
  readonly maxPairs?: number;
  /** A clock that never goes back, in milliseconds. Default: that of the process. */
  readonly nowMs?: () => number;
}

/**
 * Bounds the guesses at passwords: a sliding window for each pair of user name and address, so that
 * nobody can lock out another person from elsewhere. Of this process; several servers each have one.
 */
export class SignInAttempts {
  readonly #options: Required<SignInAttemptsOptions>;
  /** The times of the attempts by pair; whoever tried last stands last. */
  readonly #attempts = new Map<string, number[]>();

  constructor(options: SignInAttemptsOptions = {}) {
    this.#options = {
      limit: 10,
      windowMs: 300_000,
      maxPairs: 10_000,
      nowMs: () => performance.now(),
      ...options,
    };
  }

  /** Counts an attempt; or, where there have been too many, answers in how many milliseconds there is place for one. */
  take(username: string, address: string): number | null {
    const { limit, windowMs, maxPairs, nowMs } = this.#options;
    const pair = JSON.stringify([username, address]);
    const now = nowMs();
    const recent = (this.#attempts.get(pair) ?? []).filter((atMs) => now - atMs < windowMs);
    const [oldest] = recent;
    if (oldest !== undefined && recent.length >= limit) return oldest + windowMs - now;
    this.#attempts.delete(pair);
    this.#attempts.set(pair, [...recent, now]);
    for (const forgotten of this.#attempts.keys()) {
      if (this.#attempts.size <= maxPairs) break;
      this.#attempts.delete(forgotten);
    }
    return null;
  }

  /** Whoever knows the password begins anew. */
  forget(username: string, address: string): void {
    this.#attempts.delete(JSON.stringify([username, address]));
  }
}

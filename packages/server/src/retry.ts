import { setTimeout as delay } from 'node:timers/promises';
import { toError } from './describe.js';

/** A failed attempt that another one follows. */
export interface FailedAttempt {
  readonly error: Error;
  /** How many attempts in a row have failed. */
  readonly attempt: number;
  readonly retryInMs: number;
}

export interface RetryOptions {
  /** Ends the retries. Default: none. */
  readonly signal?: AbortSignal;
  readonly baseMs?: number;
  readonly capMs?: number;
  /** Called before each pause. What it throws ends the retries. Default: nothing. */
  readonly onRetry?: (failure: FailedAttempt) => void | Promise<void>;
}

/** For an operation that lasts: it counts as successful before it ends. */
export interface Attempts {
  /** How many attempts in a row have failed. */
  readonly failed: number;
  /** The next failure counts as the first one. */
  reset(): void;
}

/**
 * Repeats `operation` with exponential backoff until it resolves. Rejects with what `onRetry` throws. With a signal it
 * resolves with null when that is aborted.
 */
export async function retry<Result>(
  operation: (attempts: Attempts) => Promise<Result>,
  options: RetryOptions & { readonly signal?: undefined },
): Promise<Result>;
export async function retry<Result>(
  operation: (attempts: Attempts) => Promise<Result>,
  options: RetryOptions,
): Promise<Result | null>;
export async function retry<Result>(
  operation: (attempts: Attempts) => Promise<Result>,
  { signal, baseMs, capMs, onRetry }: RetryOptions,
): Promise<Result | null> {
  const attempts = {
    failed: 0,
    reset: () => {
      attempts.failed = 0;
    },
  };
  const isAborted = (): boolean => signal?.aborted === true;
  while (!isAborted()) {
    try {
      return await operation(attempts);
    } catch (thrown) {
      if (isAborted()) break;
      attempts.failed += 1;
      const error = toError(thrown);
      const retryInMs = backoffMs(attempts.failed, baseMs, capMs);
      await onRetry?.({ error, attempt: attempts.failed, retryInMs });
      // Rejects when the signal is aborted, which the loop checks.
      await delay(retryInMs, undefined, { signal }).catch(() => undefined);
    }
  }
  return null;
}

/** The result of `work`. Rejects with an Error of this message after `limitMs` without one; the work continues. */
export async function within<Result>(
  limitMs: number,
  work: Promise<Result>,
  message = `no answer within ${limitMs} ms`,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message)), limitMs);
  });
  return await Promise.race([work, timeout]).finally(() => clearTimeout(timer));
}

/**
 * How long to wait after failure number `attempt` (from 1), in milliseconds: exponential with full jitter, so that
 * many servers do not retry in step.
 */
export function backoffMs(attempt: number, baseMs = 100, capMs = 5_000): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 16));
  return Math.round(baseMs / 2 + Math.random() * (ceiling - baseMs / 2));
}

/** Whether a failed attempt (from 1) is logged: 1, 2, 4, 8 and so on. */
export function isWorthLogging(attempt: number): boolean {
  return Number.isInteger(Math.log2(attempt));
}

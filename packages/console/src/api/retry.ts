import { ApiError, isNotAvailable } from './api.js';

const firstDelayMs = 1_000;
const maxDelayMs = 30_000;
/** A timer with a delay of more than 24.8 days fires at once. */
const maxRetryAfterMs = 86_400_000;

/** Whether the request may succeed later: the server is unreachable or busy, or the database does not respond. */
export function isTemporary(error: unknown): boolean {
  if (!(error instanceof ApiError)) return true;
  return error.status === 0 || error.status === 429 || (error.status >= 500 && !isNotAvailable(error));
}

/** The exponential backoff before the next attempt, in milliseconds; never earlier than the server's Retry-After. */
export function retryDelayMs(failures: number, error: unknown): number {
  const backoffMs = Math.min(maxDelayMs, firstDelayMs * 2 ** Math.max(0, failures - 1));
  const leastMs = error instanceof ApiError ? Math.min(maxRetryAfterMs, error.retryAfterMs) : 0;
  // Jitter: pages that failed together do not retry together.
  return Math.max(backoffMs, leastMs) * (1 + Math.random() / 4);
}

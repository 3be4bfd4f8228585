import { bound, figure, markdownTable } from '../results.js';
import { spread } from '../statistics.js';

/** @import { LibraryClient } from '../../chaos/clients/library-client.js' */

/** Limit of a takeover, in seconds: from the kill of the reader to the delivery of a later commit by another server. */
const limitSeconds = 3;

/**
 * Resolves with the time at which one of the clients receives an event committed after `afterMs`. PostgreSQL uses the same
 * clock as this process.
 *
 * @param {readonly LibraryClient[]} clients
 * @param {number} afterMs
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
export async function awaitDelivery(clients, afterMs, signal) {
  return await new Promise((resolve, reject) => {
    const ended = () => reject(new Error('The run has ended'));
    signal.addEventListener('abort', ended, { once: true });
    for (const client of clients) {
      client.onEvent = ({ committed_at: committedAt }) => {
        if (committedAt === null || Date.parse(committedAt) <= afterMs) return;
        signal.removeEventListener('abort', ended);
        resolve(Date.now());
      };
    }
  });
}

/** @param {readonly number[]} takeoversMs one for each kill */
export function takeoverTable(takeoversMs) {
  const head = ['kills of the reader', 'seconds until another server delivers, median', 'highest'];
  // A very short run has no kills.
  const { median, high } = takeoversMs.length === 0 ? { median: NaN, high: NaN } : spread(takeoversMs);
  return markdownTable(head, [[String(takeoversMs.length), figure(median / 1_000), figure(high / 1_000)]]);
}

/** @param {readonly number[]} takeoversMs */
export function takeoverBound(takeoversMs) {
  const highestMs = takeoversMs.length === 0 ? NaN : Math.max(...takeoversMs);
  return bound(`takeover, highest of ${takeoversMs.length} kills`, highestMs / 1_000, limitSeconds, ' s');
}

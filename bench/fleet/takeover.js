import { bound, figure, markdownTable } from '../results.js';
import { spread } from '../statistics.js';

/** @import { LibraryClient } from '../../chaos/clients/library-client.js' */

/** From a kill of the reader until a client of another server is told of a later commit, in seconds. */
const limitSeconds = 3;

/**
 * When one of the clients is told of something that was committed after that time. Both are on this machine's clock,
 * which is the database's as well.
 *
 * @param {readonly LibraryClient[]} clients
 * @param {number} afterMs
 * @param {AbortSignal} signal
 * @returns {Promise<number>}
 */
export async function commitTold(clients, afterMs, signal) {
  return await new Promise((resolve, reject) => {
    const ended = () => reject(new Error('the run has ended'));
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

/** @param {readonly number[]} takeoversMs from each kill until others were told */
export function takeoverTable(takeoversMs) {
  const head = ['kills of the reader', 'seconds until others are told, median', 'highest'];
  // A run that is too short kills nobody.
  const { median, high } = takeoversMs.length === 0 ? { median: NaN, high: NaN } : spread(takeoversMs);
  return markdownTable(head, [[String(takeoversMs.length), figure(median / 1_000), figure(high / 1_000)]]);
}

/** @param {readonly number[]} takeoversMs */
export function takeoverBound(takeoversMs) {
  const highestMs = takeoversMs.length === 0 ? NaN : Math.max(...takeoversMs);
  return bound(`takeover, highest of ${takeoversMs.length} kills`, highestMs / 1_000, limitSeconds, ' s');
}

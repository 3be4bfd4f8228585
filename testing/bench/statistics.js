/**
 * Percentiles of a round, in the unit of its samples.
 *
 * @typedef {{ p50: number, p90: number, p99: number, max: number }} Percentiles
 */

/**
 * A figure over several rounds: median, lowest and highest round.
 *
 * @typedef {{ median: number, low: number, high: number }} Spread
 */

/**
 * Returns the smallest sample that at least `fraction` (0-1) of the samples do not exceed.
 *
 * @param {readonly number[]} samples at least one, in any order
 * @param {number} fraction
 * @returns {number}
 */
export function percentile(samples, fraction) {
  const sorted = [...samples].sort((left, right) => left - right);
  const rank = Math.max(1, Math.ceil(fraction * sorted.length));
  const value = sorted[rank - 1];
  if (value === undefined) throw new Error('There are no samples to take a percentile of');
  return value;
}

/**
 * @param {readonly number[]} samples
 * @returns {Percentiles}
 */
export function percentiles(samples) {
  return {
    p50: percentile(samples, 0.5),
    p90: percentile(samples, 0.9),
    p99: percentile(samples, 0.99),
    max: percentile(samples, 1),
  };
}

/**
 * @param {readonly number[]} rounds one figure for each round
 * @returns {Spread}
 */
export function spread(rounds) {
  return { median: percentile(rounds, 0.5), low: percentile(rounds, 0), high: percentile(rounds, 1) };
}

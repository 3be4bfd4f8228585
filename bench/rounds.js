/**
 * All that is measured, in the order of round number `round`, from 0: another one begins each round, so that none is
 * always measured after the same one.
 *
 * @template Measured
 * @param {readonly Measured[]} all
 * @param {number} round
 * @returns {Measured[]}
 */
export function inTurn(all, round) {
  const first = all.length === 0 ? 0 : round % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
}

/**
 * Rotates the list by `round`, from 0. Each round starts with another item, so that the order does not bias the results.
 *
 * @template Measured
 * @param {readonly Measured[]} all
 * @param {number} round
 * @returns {Measured[]}
 */
export function rotate(all, round) {
  const first = all.length === 0 ? 0 : round % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
}

/**
 * A pseudo-random number generator (mulberry32). The same seed and index give the same numbers on every machine, so every
 * input and attack can be repeated.
 */
export class SeededRandom {
  /**
   * @param {number} seed
   * @param {number} index number of the input or attack; each has its own sequence
   */
  constructor(seed, index) {
    this.state = (Math.imul(seed | 0, 0x9e3779b1) ^ Math.imul((index + 1) | 0, 0x85ebca6b)) | 0;
    // The first numbers of adjacent seeds are similar.
    this.number();
    this.number();
  }

  /** A whole number from 0 to 2 ** 32 - 1. */
  number() {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /**
   * A whole number from 0 to `limit` - 1.
   *
   * @param {number} limit
   */
  below(limit) {
    return this.number() % limit;
  }

  /**
   * True with probability 1 / `count`.
   *
   * @param {number} count
   */
  oneIn(count) {
    return this.below(count) === 0;
  }

  /**
   * @template Item
   * @param {readonly Item[]} items at least one
   * @returns {Item}
   */
  pick(items) {
    return /** @type {Item} */ (items[this.below(items.length)]);
  }

  /** @param {number} length */
  bytes(length) {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at += 1) bytes[at] = this.number();
    return bytes;
  }
}

/**
 * Numbers that look random and are the same for the same seed and index, on every machine: whatever a
 * fuzzer made of them it makes again (mulberry32).
 */
export class SeededRandom {
  /**
   * @param {number} seed
   * @param {number} index of the input or the attack: each has numbers of its own
   */
  constructor(seed, index) {
    this.state = (Math.imul(seed | 0, 0x9e3779b1) ^ Math.imul((index + 1) | 0, 0x85ebca6b)) | 0;
    // The first numbers of neighbours are alike.
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
   * A whole number from 0 up to, and without, `limit`.
   *
   * @param {number} limit
   */
  below(limit) {
    return this.number() % limit;
  }

  /**
   * True once in `of` times.
   *
   * @param {number} of
   */
  once(of) {
    return this.below(of) === 0;
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

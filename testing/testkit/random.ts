/**
 * A pseudo-random number generator (mulberry32). The same seed and index give the same numbers on every machine, so that a
 * finding can be repeated. Not for secrets.
 */
export class SeededRandom {
  #state: number;

  /** `index`: the number of an input, client or writer; each has its own sequence. */
  constructor(seed: number, index = 0) {
    this.#state = (Math.imul(seed | 0, 0x9e3779b1) ^ Math.imul((index + 1) | 0, 0x85ebca6b)) | 0;
    // The first numbers of adjacent seeds are similar.
    this.number();
    this.number();
  }

  /** A whole number from 0 to 2 ** 32 - 1. */
  number(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** A number from 0 up to, but not including, 1. */
  next(): number {
    return this.number() / 2 ** 32;
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return this.number() % limit;
  }

  /** True with probability 1 / `count`. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of the items, of which there must be at least one. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }

  /** The items in random order. */
  shuffle<Item>(items: readonly Item[]): Item[] {
    return items
      .map((item) => ({ item, key: this.number() }))
      .sort((one, other) => one.key - other.key)
      .map(({ item }) => item);
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at += 1) bytes[at] = this.number();
    return bytes;
  }
}

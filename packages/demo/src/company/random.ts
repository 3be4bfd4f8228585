/** A seeded pseudo-random number generator. Not for secrets. */
export interface Random {
  /** A number from 0 up to, but not including, 1. */
  next(): number;
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  /** Returns one of `items`. Throws RangeError if the list is empty. */
  pick<Item>(items: readonly Item[]): Item;
  /** A version 4 UUID. */
  uuid(): string;
}

/** A linear congruential generator modulo 2^64 with Knuth's MMIX constants; returns the upper 32 bits. */
export function createRandom(seed: number): Random {
  let state = BigInt.asUintN(64, BigInt(Math.trunc(seed)) * 2_654_435_769n + 1n);
  const bits = (): number => {
    state = BigInt.asUintN(64, state * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n);
    return Number(state >> 32n);
  };
  // Discards the first numbers, which are similar for adjacent seeds.
  for (let round = 0; round < 8; round += 1) bits();
  const next = (): number => bits() / 2 ** 32;
  return {
    next,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    chance: (probability) => next() < probability,
    pick: (items) => {
      const item = items[Math.floor(next() * items.length)];
      if (item === undefined) throw new RangeError('the list is empty');
      return item;
    },
    uuid: () => {
      const hex = Array.from({ length: 4 }, () => bits().toString(16).padStart(8, '0')).join('');
      const variant = '89ab'[Math.floor(next() * 4)] ?? '8';
      return [
        hex.slice(0, 8),
        hex.slice(8, 12),
        `4${hex.slice(13, 16)}`,
        variant + hex.slice(17, 20),
        hex.slice(20),
      ].join('-');
    },
  };
}

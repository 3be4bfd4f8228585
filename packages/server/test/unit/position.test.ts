import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ascending,
  coverageOfSnapshot,
  covers,
  type Coverage,
  decodeCursor,
  encodeCursor,
  maxId,
  type Position,
  uncoveredRanges,
  unionOf,
} from '../../src/events/position.js';

/** Coverages whose ids are below `limit`, listing at most `maxLength` of them. */
function coverages(limit: bigint, maxLength: number): fc.Arbitrary<Coverage> {
  return fc
    .tuple(
      fc.uniqueArray(fc.bigInt({ min: 0n, max: limit }), { maxLength: maxLength + 2, minLength: 2 }),
      fc.constantFrom('open' as const, 'delivered' as const),
    )
    .map(([unsorted, listed]) => {
      const ids = unsorted.toSorted(ascending);
      return { xmin: ids[0] ?? 0n, xmax: ids.at(-1) ?? 0n, listed, xids: ids.slice(1, -1) };
    });
}

const histories = fc.stringMatching(/^[\w-]{1,12}$/);
const positions: fc.Arbitrary<Position> = fc
  .tuple(histories, coverages(maxId, 500))
  .map(([history, coverage]) => ({ history, ...coverage }));

/** Small ids, so that each of them can be asked about. */
const smallLimit = 40n;
const smallIds = Array.from({ length: Number(smallLimit) + 3 }, (_, id) => BigInt(id));
const smallCoverages = coverages(smallLimit, 12);

describe('a coverage', () => {
  it('covers all transactions below xmin, no transaction from xmax on, and the listed ones in between', () => {
    const open: Coverage = { xmin: 10n, xmax: 20n, listed: 'open', xids: [12n, 15n] };
    const delivered: Coverage = { ...open, listed: 'delivered' };
    expect(smallIds.filter((xid) => covers(open, xid))).toEqual(
      smallIds.filter((xid) => xid < 20n && xid !== 12n && xid !== 15n),
    );
    expect(smallIds.filter((xid) => covers(delivered, xid))).toEqual(
      smallIds.filter((xid) => xid < 10n || xid === 12n || xid === 15n),
    );
  });

  it('has ranges of exactly the transactions that are neither covered nor excluded', () => {
    const leftOut = fc.uniqueArray(fc.bigInt({ min: 0n, max: smallLimit + 2n }), { maxLength: 8 });
    fc.assert(
      fc.property(smallCoverages, leftOut, (coverage, skipped) => {
        const { lows, highs } = uncoveredRanges(coverage, skipped);
        const ranges = lows.map((low, index): [bigint, bigint] => [BigInt(low), BigInt(highs[index] ?? '')]);
        for (const xid of [...smallIds, maxId]) {
          const isInRanges = ranges.some(([low, high]) => low <= xid && xid <= high);
          expect(isInRanges).toBe(!covers(coverage, xid) && !skipped.includes(xid));
        }
        for (const [index, [low, high]] of ranges.entries()) {
          expect(low <= high).toBe(true);
          // Ascending and apart, so that a statement visits the rows in their order and each once.
          const before = ranges[index - 1];
          if (before !== undefined) expect(low > before[1] + 1n).toBe(true);
        }
      }),
    );
  });

  it('covers in a union each transaction that one of the two covers', () => {
    const pairs = fc
      .tuple(smallCoverages, smallCoverages)
      .map(([one, other]): [Coverage, Coverage] => [one, { ...other, listed: one.listed }]);
    fc.assert(
      fc.property(pairs, ([one, other]) => {
        const union = unionOf(one, other);
        expect(smallIds.filter((xid) => covers(union, xid))).toEqual(
          smallIds.filter((xid) => covers(one, xid) || covers(other, xid)),
        );
      }),
    );
  });

  it('of a snapshot of a primary lists the transactions in flight, of a replica the delivered ones', () => {
    expect(coverageOfSnapshot('10:20:15,12', false)).toEqual({
      xmin: 10n,
      xmax: 20n,
      listed: 'open',
      xids: [12n, 15n],
    });
    expect(coverageOfSnapshot('10:20:', false)).toEqual({ xmin: 10n, xmax: 20n, listed: 'open', xids: [] });
    expect(coverageOfSnapshot('10:20:', true)).toEqual({
      xmin: 10n,
      xmax: 20n,
      listed: 'delivered',
      xids: [],
    });
  });
});

function forge(fields: string): string {
  return Buffer.from(fields).toString('base64url');
}

describe('a cursor', () => {
  it('decodes to the position that it was made of', () => {
    fc.assert(
      fc.property(positions, (position) => {
        expect(decodeCursor(encodeCursor(position))).toStrictEqual(position);
      }),
    );
  });

  it.each(['open', 'delivered'] as const)(
    'covers less and never more than its position if that lists more than 1,000 transactions as %s',
    (listed) => {
      const xids = Array.from({ length: 1_500 }, (_, index) => 1_000n + 2n * BigInt(index));
      const position: Position = { history: 'h', xmin: 1_000n, xmax: 5_000n, listed, xids };
      const decoded = decodeCursor(encodeCursor(position));
      if (decoded === null) throw new Error('the cursor cannot be decoded');
      expect(decoded.xids).toHaveLength(1_000);
      for (let xid = 990n; xid < 5_010n; xid += 1n) {
        if (covers(decoded, xid)) expect(covers(position, xid)).toBe(true);
      }
      // Up to the last listed transaction the cursor is exact.
      const lastListed = decoded.xids.at(-1) ?? 0n;
      for (let xid = 990n; xid <= lastListed; xid += 1n) {
        expect(covers(decoded, xid)).toBe(covers(position, xid));
      }
    },
  );

  it('is within the accepted length with 1,000 transactions over three quarters of all 32-bit ids', () => {
    // PostgreSQL assigns no more ids when the oldest one is 2 billion behind.
    const xids = Array.from({ length: 1_000 }, (_, index) => 5n + BigInt(index) * 1_600_000n);
    const position: Position = { history: 'h'.repeat(12), xmin: 5n, xmax: maxId, listed: 'open', xids };
    expect(decodeCursor(encodeCursor(position))).toStrictEqual(position);
  });

  it.each([
    ['an empty text', ''],
    ['a word', 'null'],
    ['several words', 'not a cursor'],
    ['a text that is longer than any cursor', 'x'.repeat(10_000)],
    ['a cursor that is longer than any', forge(`2|h|1|1|o|${'1.'.repeat(3_000)}1`)],
    ['a cursor with a character of another alphabet', `${forge('2|h|1|1|o|')}+`],
    ['a cursor after a space', ` ${forge('2|h|1|1|o|')}`],
    ['a cursor of version 1', forge('1|h|1|1|o|')],
    ['a cursor with a character that no history has', forge('2|h/|1|1|o|')],
    ['a cursor with a character before the history', forge('2|/h|1|1|o|')],
    ['a cursor without an xmin', forge('2|h||1|o|')],
    ['a cursor with an xmin in another notation', forge('2|h|1A|1|o|')],
    ['a cursor without an xmax', forge('2|h|1||o|')],
    ['a cursor that lists more than 1,000 transactions', forge(`2|h|1|zzz|o|0${'.1'.repeat(1_000)}`)],
    ['a cursor with a field too many', forge('2|h|1|1|o||')],
    ['a cursor with a field too few', forge('2|h|1|1|o')],
    ['a cursor with an unknown kind of list', forge('2|h|1|1|x|')],
    ['a cursor with an id of more than 63 bits', forge('2|h|zzzzzzzzzzzzz|1|o|')],
    ['a cursor whose xmax has more than 63 bits', forge('2|h|1y2p0ij32e8e7|1|o|')],
    ['a cursor whose transactions are out of order', forge('2|h|1|z|o|5.-1')],
    ['a cursor that lists a transaction twice', forge('2|h|1|z|o|5.0')],
    ['a cursor that lists a transaction beyond its xmax', forge('2|h|1|2|o|5')],
  ])('is not decoded from %s', (_, text) => {
    expect(decodeCursor(forge('2|h|1|1|o|'))).not.toBe(null);
    expect(decodeCursor(text)).toBe(null);
  });
});

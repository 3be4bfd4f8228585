import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeCursor, durableSeen, encodeCursor, type Position } from '../src/events/position.js';
import { createTestDatabase } from './database.js';

const maxId = 2n ** 63n - 1n;
const floors = fc
  .date({ min: new Date('2000-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true })
  .chain((date) =>
    fc
      .integer({ min: 0, max: 999 })
      .map((micros) => date.toISOString().replace('Z', `${String(micros).padStart(3, '0')}Z`)),
  );

/** Positions as a reader or a snapshot makes them. */
const positions: fc.Arbitrary<Position> = fc
  .record({
    history: fc.stringMatching(/^[\w-]{1,12}$/),
    floor: floors,
    seen: fc.uniqueArray(fc.bigInt({ min: 0n, max: maxId }), { maxLength: 500 }),
    watermark: fc.bigInt({ min: 0n, max: maxId }),
    // Before the first durable read nothing is certain.
    horizon: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: maxId })),
    byTime: fc.boolean(),
  })
  .map(({ seen, watermark, horizon, ...rest }) => {
    const above = seen.filter((xid) => xid >= watermark);
    return { ...rest, watermark, horizon, seen: durableSeen(above, horizon) };
  });

const ids = fc.oneof(
  { arbitrary: fc.bigInt({ min: -5n, max: 2n ** 62n }).map((value) => value.toString(36)), weight: 5 },
  fc.bigInt().map((value) => value.toString(36)),
  fc.string(),
);

/** The fields of a cursor, some of them as nobody would write them. */
const forged = fc
  .tuple(
    fc.constantFrom('1', '1', '1', '2', ''),
    fc.constantFrom('history', 'h-_', '', 'a b', 'x'.repeat(65)),
    ids,
    ids,
    fc.oneof(
      floors,
      fc.constantFrom(
        '2099-02-31T00:00:00.000000Z',
        '2099-01-01T24:00:00.000000Z',
        '0000-01-01T00:00:00.000000Z',
      ),
      fc.string(),
    ),
    fc.array(ids, { maxLength: 3 }).map((all) => all.join('.')),
  )
  .map((fields) => forge(fields.join('|')));

function forge(fields: string): string {
  return Buffer.from(fields).toString('base64url');
}

describe('a cursor', () => {
  it('says again what it was made of, and is short enough to be taken', () => {
    fc.assert(
      fc.property(positions, (position) => {
        expect(decodeCursor(encodeCursor(position))).toStrictEqual(position);
      }),
    );
  });

  it('holds no more than 400 transactions, the oldest ones, however many were delivered', () => {
    const seen = durableSeen(
      Array.from({ length: 1_000 }, (_, index) => maxId - BigInt(index) * 1_000_000_007n),
      maxId,
    );
    expect(seen).toHaveLength(400);
    const position = {
      history: 'h',
      watermark: 3n,
      horizon: maxId,
      floor: '2026-01-01T00:00:00.000000Z',
      seen,
      byTime: false,
    };
    expect(decodeCursor(encodeCursor(position))).toStrictEqual(position);
  });

  it('G10: is refused, or is a position that PostgreSQL understands, whoever wrote it', async () => {
    const database = await createTestDatabase({ schema: 'none' });
    const understood: Position[] = [];
    fc.assert(
      fc.property(fc.oneof({ arbitrary: forged, weight: 3 }, fc.string({ unit: 'binary' })), (text) => {
        const position = decodeCursor(text);
        if (position !== null) understood.push(position);
      }),
      { numRuns: 5_000 },
    );
    expect(understood.length).toBeGreaterThan(20);
    for (const { watermark, horizon, floor, seen } of understood) {
      await database.pool.query('SELECT $1::bigint, $2::bigint, $3::timestamptz, $4::bigint[]', [
        watermark.toString(),
        horizon.toString(),
        floor,
        seen.map(String),
      ]);
    }
    await database.drop();
  });

  it.each([
    ['nothing', ''],
    ['a word', 'null'],
    ['words', 'not a cursor'],
    ['more than any cursor has', 'x'.repeat(5_000)],
    ['a day that there is not', forge('1|h|1|1|2026-02-31T00:00:00.000000Z|')],
    ['a time without microseconds', forge('1|h|1|1|2026-02-01T00:00:00Z|')],
    ['a field too many', forge('1|h|1|1|2026-02-01T00:00:00.000000Z||')],
    ['a field too few', forge('1|h|1|1|2026-02-01T00:00:00.000000Z')],
    ['an id of more than 63 bits', forge('1|h|zzzzzzzzzzzzz|1|2026-02-01T00:00:00.000000Z|')],
    ['transactions out of order', forge('1|h|1|z|2026-02-01T00:00:00.000000Z|5.-1')],
    ['another version', forge('2|h|1|1|2026-02-01T00:00:00.000000Z|')],
  ])('is not %s', (_, text) => {
    expect(decodeCursor(text)).toBe(null);
  });
});

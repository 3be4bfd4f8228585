import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeCursor, type Position, uncoveredRanges } from '../src/events/position.js';
import { createTestDatabase } from './database.js';
import { anyCharacter } from '../../../testing/testkit/any-character.ts';

/** The fields of a cursor, some of which are invalid. */
const ids = fc.oneof(
  { arbitrary: fc.bigInt({ min: -5n, max: 2n ** 62n }).map((value) => value.toString(36)), weight: 5 },
  fc.bigInt().map((value) => value.toString(36)),
  fc.string(),
);
const forged = fc
  .tuple(
    fc.constantFrom('2', '2', '2', '1', ''),
    fc.constantFrom('history', 'h-_', '', 'a b', 'x'.repeat(65)),
    ids,
    ids,
    fc.constantFrom('o', 'd', 'o', 'd', 'x', ''),
    fc.array(ids, { maxLength: 3 }).map((all) => all.join('.')),
  )
  .map((fields) => forge(fields.join('|')));

function forge(fields: string): string {
  return Buffer.from(fields).toString('base64url');
}

it('G10: a cursor is refused, or is a position that PostgreSQL understands, for any input', async () => {
  const database = await createTestDatabase({ schema: 'none' });
  const understood: Position[] = [];
  fc.assert(
    fc.property(fc.oneof({ arbitrary: forged, weight: 3 }, fc.string({ unit: anyCharacter })), (text) => {
      const position = decodeCursor(text);
      if (position !== null) understood.push(position);
    }),
    { numRuns: 5_000 },
  );
  expect(understood.length).toBeGreaterThan(20);
  for (const position of understood) {
    const { lows, highs } = uncoveredRanges(position);
    await database.pool.query('SELECT $1::bigint, $2::bigint[], $3::bigint[]', [
      position.xmax.toString(),
      lows,
      highs,
    ]);
  }
  await database.drop();
});

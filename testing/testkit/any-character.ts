import fc from 'fast-check';

const surrogates = { first: 0xd8_00, count: 0x8_00 };
const last = 0x10_ff_ff - surrogates.count;

/**
 * Any Unicode character, as the unit of `fc.string`. The unit `binary` of fast-check is the same, but builds a map of the
 * 1.1 million characters, which takes a second in each process.
 */
export const anyCharacter: fc.Arbitrary<string> = fc.integer({ min: 0, max: last }).map(
  (index) => String.fromCodePoint(index < surrogates.first ? index : index + surrogates.count),
  (character) => {
    if (typeof character !== 'string' || !/^.$/su.test(character)) throw new Error('not one character');
    const codePoint = character.codePointAt(0) ?? 0;
    return codePoint < surrogates.first ? codePoint : codePoint - surrogates.count;
  },
);

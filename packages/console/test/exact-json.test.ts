import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ExactNumber, parseJson, writeJson } from '../src/api/exact-json.js';

describe('parseJson', () => {
  it.each([
    '9007199254740993',
    '-9007199254740993',
    '0.1000000000000000055',
    '1e400',
    '1.0',
    '-0',
    '12345678901234567890.50',
  ])('keeps the digits of %s, alone and within a value', (digits) => {
    expect(parseJson(digits)).toStrictEqual(new ExactNumber(digits));
    const text = `{"a":[${digits},"${digits}",{"b":${digits}}]}`;
    expect(writeJson(parseJson(text))).toBe(text);
  });

  it('returns the same as JSON.parse if JavaScript keeps all digits', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        const canonical = JSON.stringify(JSON.parse(text));
        expect(parseJson(canonical)).toStrictEqual(JSON.parse(canonical));
        expect(writeJson(parseJson(text))).toBe(writeJson(parseJson(writeJson(parseJson(text)))));
      }),
    );
  });

  it('does not change strings that look like numbers, quotes or escapes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('"', '\\', '9007199254740993', ',', ':', '1.0', '{', 'é')),
        (parts) => {
          const value = { [parts.join('')]: [parts.join(''), new ExactNumber('1.50')] };
          expect(parseJson(writeJson(value))).toStrictEqual(value);
        },
      ),
    );
  });

  it('throws for invalid JSON', () => {
    for (const text of ['<html>', '01', '1.', '{"a":1.0', '1-1']) {
      expect(() => parseJson(text)).toThrow(SyntaxError);
    }
  });
});

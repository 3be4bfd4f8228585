import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDuration } from '../../src/cli/setting-parsers.js';

describe('parseDuration', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['15m', 900_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
    ['1.5h', 5_400_000],
    ['1.001s', 1_001],
    [' 2s ', 2_000],
  ])('reads %j', (text, durationMs) => {
    expect(parseDuration(text)).toBe(durationMs);
  });

  it.each(['', 's', '10', '1 h', '1H', '-1s', '+1s', '1e3s', '.5s', '1h30m', '1w', 'NaNs', '0x10s', '١s'])(
    'refuses %j with the accepted format',
    (text) => {
      expect(() => parseDuration(text)).toThrow(
        `${JSON.stringify(text)} is not a duration: write a number and a unit, such as 500ms, 30s, 15m, 1h or 7d`,
      );
    },
  );

  it.each(['0s', '0.1ms'])('refuses %j, which would make a timer spin', (text) => {
    expect(() => parseDuration(text)).toThrow(`"${text}" is too short a duration: the minimum is 1ms`);
  });

  it('refuses a duration beyond exact milliseconds', () => {
    expect(() => parseDuration('104249992d')).toThrow('is too long a duration');
  });

  it('reads every whole number with every unit, and refuses other text in one line', () => {
    const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.entries(units)),
        fc.integer({ min: 1, max: 100_000 }),
        ([unit, ms], n) => {
          expect(parseDuration(`${n}${unit}`)).toBe(n * ms);
        },
      ),
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[\d.]{1,30}(ms|s|m|h|d)$/)), (text) => {
        try {
          const durationMs = parseDuration(text);
          expect(Number.isSafeInteger(durationMs) && durationMs > 0).toBe(true);
        } catch (error) {
          expect((error as Error).message).toMatch(
            /^".*" is (not|too short|too long) a duration[^\n]*$|^".*" is too [^\n]*$/,
          );
        }
      }),
      { numRuns: 300 },
    );
  });
});

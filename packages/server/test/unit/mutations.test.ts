import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { breakText } from '../../../../scripts/mutations/break-text.js';
import { mutations } from '../../../../scripts/mutations/table.js';

const root = new URL('../../../../', import.meta.url);

describe('the mutations', () => {
  it('have unique names, and there are at least 20', () => {
    expect(new Set(mutations.map(({ name }) => name)).size).toBe(mutations.length);
    expect(mutations.length).toBeGreaterThanOrEqual(20);
  });

  it('break each guarantee of PROTOCOL.md', () => {
    const protocol = readFileSync(new URL('PROTOCOL.md', root), 'utf8');
    const guarantees = [...protocol.matchAll(/^\| (G\d+) +\|/gm)].map(([, number]) => number);
    expect(guarantees.length).toBeGreaterThanOrEqual(10);
    const broken = new Set(mutations.map(({ guarantee }) => guarantee));
    expect(guarantees.filter((number) => !broken.has(number))).toStrictEqual([]);
  });

  it.each(mutations.map((mutation) => [mutation.name, mutation] as const))(
    '%s: its snippet occurs once in the source, and its tests exist',
    (_, { edits, tests }) => {
      const texts = new Map<string, string>();
      for (const { file, find, replace } of edits) {
        const text = texts.get(file) ?? readFileSync(new URL(file, root), 'utf8');
        texts.set(file, breakText(text, find, replace, file));
      }
      expect(tests.length).toBeGreaterThan(0);
      expect(tests.filter((file) => !existsSync(new URL(file, root)))).toStrictEqual([]);
    },
  );
});

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { guarantees, mutate } from '../../../../testing/mutations/guarantees.ts';

const root = new URL('../../../../', import.meta.url);

describe('the mutations', () => {
  it('have unique names, and break fifteen guarantees', () => {
    expect(new Set(guarantees.map(({ name }) => name)).size).toBe(15);
    expect(guarantees).toHaveLength(15);
  });

  it('break each guarantee of PROTOCOL.md', () => {
    const protocol = readFileSync(new URL('PROTOCOL.md', root), 'utf8');
    const numbers = [...protocol.matchAll(/^\| (G\d+) +\|/gm)].map(([, number = '']) => number);
    expect(numbers.length).toBeGreaterThanOrEqual(10);
    expect([...new Set(guarantees.flatMap((guarantee) => guarantee.numbers))].sort()).toStrictEqual(
      numbers.sort(),
    );
  });

  it.each(guarantees)('$name: its snippet occurs once in the source, and its test exists', (mutation) => {
    const content = readFileSync(new URL(mutation.file, root), 'utf8');
    expect(mutate(content, mutation)).not.toBe(content);
    expect(existsSync(new URL(mutation.test, root))).toBe(true);
  });
});

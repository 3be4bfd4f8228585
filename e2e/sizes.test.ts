import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { measureSizes } from '../scripts/packages/measure.js';
import { root } from './documents.js';

it('bundles, packages and the console are within the limits of sizes.json', async () => {
  const text = await readFile(new URL('sizes.json', root), 'utf8');
  const limits = JSON.parse(text) as Record<string, Record<string, number>>;
  const sizes = Object.entries(await measureSizes());
  expect(sizes.map(([kind, group]) => [kind, Object.keys(group)])).toEqual(
    Object.entries(limits).map(([kind, group]) => [kind, Object.keys(group)]),
  );
  for (const [kind, group] of sizes) {
    for (const [name, bytes] of Object.entries(group))
      expect(bytes, `${name}, ${kind}`).toBeLessThanOrEqual(limits[kind]?.[name] ?? 0);
  }
});

import { expect, it } from 'vitest';
import { budgetBytes, measureCore } from '../../size.js';

it('the core with the store is at most 5.0 kB, minified and gzipped', async () => {
  expect(await measureCore()).toBeLessThanOrEqual(budgetBytes);
});

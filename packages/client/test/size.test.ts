import { expect, it } from 'vitest';
import { budgetBytes, measureCore } from '../size.js';

it('the core with the store takes at most 4.6 kB', async () => {
  expect(await measureCore()).toBeLessThanOrEqual(budgetBytes);
});

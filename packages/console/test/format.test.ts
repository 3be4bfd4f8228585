import { expect, it } from 'vitest';
import { createFormat } from '../src/i18n/format.js';

const now = new Date(2026, 10, 29, 11, 30).getTime();

it.each([
  [new Date(2026, 10, 28, 11, 29), 'yesterday'],
  [new Date(2026, 10, 28, 11, 31), '23 hr ago'],
  [new Date(2026, 10, 27, 17, 47), '2 days ago'],
  [new Date(2026, 10, 27, 0, 1), '2 days ago'],
])('%s is %s on the 29th at 11:30', (at, text) => {
  expect(createFormat('en').ago(at.getTime(), now).replace('.', '')).toBe(text);
});

it('the exact time has its seconds', () => {
  const { dateTime } = createFormat('en-GB');
  expect(dateTime(now)).not.toBe(dateTime(now + 1_000));
});

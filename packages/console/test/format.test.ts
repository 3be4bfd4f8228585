import { expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { createFormat } from '../src/i18n/format.js';
import { ru } from '../src/i18n/ru.js';

const now = new Date(2026, 10, 29, 11, 30).getTime();

it.each([
  [now + 3_000, 'just now', 'только что'],
  [now - 4_999, 'just now', 'только что'],
  [now - 12_000, '12 s ago', '12 с назад'],
  [now - 59_999, '59 s ago', '59 с назад'],
  [now - 60_000, '1 min ago', '1 мин назад'],
  [now - 3_600_000, '1 h ago', '1 ч назад'],
  [new Date(2026, 10, 28, 11, 31).getTime(), '23 h ago', '23 ч назад'],
  [new Date(2026, 10, 28, 11, 29).getTime(), 'yesterday', 'вчера'],
  [new Date(2026, 10, 27, 17, 47).getTime(), '2 days ago', 'позавчера'],
  [new Date(2026, 10, 26, 0, 1).getTime(), '3 days ago', '3 дня назад'],
  [new Date(2026, 9, 1).getTime(), '59 days ago', '59 дней назад'],
  [new Date(2026, 4, 29).getTime(), '6 months ago', '6 месяцев назад'],
  [new Date(2025, 10, 20).getTime(), 'last year', 'в прошлом году'],
  [new Date(2023, 10, 20).getTime(), '3 years ago', '3 года назад'],
])('formats %i at 11:30 on the 29th as "%s" and "%s"', (at, english, russian) => {
  expect(createFormat('en', en.time).ago(at, now)).toBe(english);
  expect(createFormat('ru', ru.time).ago(at, now)).toBe(russian);
});

it('the exact time has its seconds', () => {
  const { dateTime } = createFormat('en-GB', en.time);
  expect(dateTime(now)).not.toBe(dateTime(now + 1_000));
});

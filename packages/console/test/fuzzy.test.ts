import { expect, it } from 'vitest';
import { fuzzyScore } from '../src/shell/fuzzy.js';

const best = (query: string, texts: readonly string[]): string[] =>
  texts
    .flatMap((text) => {
      const score = fuzzyScore(query, text);
      return score === null ? [] : [{ text, score }];
    })
    .toSorted((one, other) => one.score - other.score)
    .map(({ text }) => text);

it.each([
  // The beginning of the text, of a word, the middle, then letters in order.
  [
    'cart',
    ['re-cartoon', 'Big cart', 'scarto', 'Cart', 'coat rental', 'banner'],
    ['Cart', 'Big cart', 're-cartoon', 'scarto', 'coat rental'],
  ],
  ['chkout', ['checkout', 'chalk about'], ['checkout', 'chalk about']],
  ['shop prod', ['Web shop prod', 'Web shop dev', 'Billing prod'], ['Web shop prod']],
  ['zz', ['cart'], []],
  ['  ', ['b', 'a'], ['b', 'a']],
  ['ДОСТ', ['Быстрая доставка'], ['Быстрая доставка']],
])('%j finds the best first', (query, texts, expected) => {
  expect(best(query, texts)).toEqual(expected);
});

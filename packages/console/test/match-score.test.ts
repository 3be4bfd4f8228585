import { expect, it } from 'vitest';
import { matchScore } from '../src/shell/match-score.js';

const best = (query: string, texts: readonly string[]): string[] =>
  texts
    .flatMap((text) => {
      const score = matchScore(query, text);
      return score === null ? [] : [{ text, score }];
    })
    .toSorted((one, other) => one.score - other.score)
    .map(({ text }) => text);

it.each([
  // The beginning of the text, of a word, then the middle.
  [
    'cart',
    ['re-cartoon', 'Big cart', 'scarto', 'Cart', 'coat rental', 'banner'],
    ['Cart', 'Big cart', 're-cartoon', 'scarto'],
  ],
  ['shop prod', ['Web shop prod', 'Web shop dev', 'Billing prod'], ['Web shop prod']],
  ['zz', ['cart'], []],
  ['  ', ['b', 'a'], ['b', 'a']],
  ['ДОСТ', ['Быстрая доставка'], ['Быстрая доставка']],
])('%j finds the best first', (query, texts, expected) => {
  expect(best(query, texts)).toEqual(expected);
});

import { expect, it } from 'vitest';
import { en } from '../src/i18n/en.js';
import { ru } from '../src/i18n/ru.js';

/** The messages by their path, e.g. `features.count`. */
function flatten(messages: object, prefix = ''): Map<string, unknown> {
  return new Map(
    Object.entries(messages).flatMap(([key, value]: [string, unknown]) =>
      typeof value === 'object' && value !== null
        ? [...flatten(value, `${prefix}${key}.`)]
        : [[`${prefix}${key}`, value] as const],
    ),
  );
}

const english = flatten(en);
const russian = flatten(ru);
const paths = [...english.keys()];

type Message = (...args: unknown[]) => string;

/** Distinct numbers: both `${name}` and formatted counts contain them. */
const argumentSets: readonly (readonly (number | null)[])[] = [
  [7, 13],
  [1, 13],
  [13, 13],
  [null, null],
  [0, 0],
];

/** For each set of arguments, which of them the text contains. */
function placeholders(message: Message): boolean[][] {
  return argumentSets.map((args) => {
    const text = message(...args);
    return args.slice(0, message.length).map((arg) => arg !== null && text.includes(String(arg)));
  });
}

it('all languages have the same messages', () => {
  expect([...russian.keys()].sort()).toEqual([...paths].sort());
});

it('each message has the same placeholders in all languages', () => {
  const different = paths.filter((path) => {
    const [first, second] = [english.get(path), russian.get(path)];
    if (typeof first !== 'function' || typeof second !== 'function') return typeof first !== typeof second;
    return JSON.stringify(placeholders(first as Message)) !== JSON.stringify(placeholders(second as Message));
  });
  expect(different).toEqual([]);
});

it('no message is empty', () => {
  const empty = [...english, ...russian].filter(([, message]) => message === '').map(([path]) => path);
  expect(empty).toEqual([]);
});

it('no Russian message is left in English', () => {
  // The last one only joins two others.
  const sameInBoth = /^(fields\.(id|cron_expr)|operators\.(gt|gte|lt|lte)|features\.happened)$/;
  const textOf = (message: unknown): string =>
    typeof message === 'function' ? (message as Message)('7', '13') : String(message);
  const untranslated = paths.filter(
    (path) => !sameInBoth.test(path) && !/[а-яё]/i.test(textOf(russian.get(path))),
  );
  expect(untranslated).toEqual([]);
});

it.each([
  [1, '1 флаг'],
  [2, '2 флага'],
  [5, '5 флагов'],
  [11, '11 флагов'],
  [21, '21 флаг'],
  [104, '104 флага'],
])('counts %i flags in Russian as "%s"', (count, text) => {
  expect(ru.features.count(count, count)).toBe(text);
});

it.each([
  [0, '0 flags'],
  [1, '1 flag'],
  [2, '2 flags'],
])('counts %i flags in English as "%s"', (count, text) => {
  expect(en.features.count(count, count)).toBe(text);
});

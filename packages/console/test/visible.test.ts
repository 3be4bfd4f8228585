import { expect, it } from 'vitest';
import { avatarName, nameOf, visible, withVisibleArguments } from '../src/i18n/visible.js';

it.each([
  ['not \u202edekcolb', 'not [U+202E]dekcolb'],
  ['\u202a\u202b\u202c\u202d', '[U+202A][U+202B][U+202C][U+202D]'],
  ['\u2066\u2067\u2068\u2069\u200e\u200f\u061c', '[U+2066][U+2067][U+2068][U+2069][U+200E][U+200F][U+061C]'],
  ['pay\u200bpal\u00ad\ufeff\u2060\u180e', 'pay[U+200B]pal[U+00AD][U+FEFF][U+2060][U+180E]'],
  ['a\u200db\ufe0f\u3164\u{e0041}', 'a[U+200D]b[U+FE0F][U+3164][U+E0041]'],
  ['\u0000\u001b[31m\u007f\u2028', '[U+0000][U+001B][31m[U+007F][U+2028]'],
])('the hidden characters of %j are shown', (text, shown) => {
  expect(visible(text)).toBe(shown);
});

it.each(['line\nbreak\tand tab', 'Ж, é, 日本, שלום, العربية', '👩🏽‍💻 ❤️ 1️⃣ 👨‍👩‍👧'])(
  '%j is shown unchanged',
  (text) => {
    expect(visible(text)).toBe(text);
  },
);

it.each([
  ['owner (flagcast guard)', 'owner'],
  ['alice', 'alice'],
  ['(flagcast guard)', '(flagcast guard)'],
])('the avatar of %j has the initials of %j', (username, name) => {
  expect(avatarName(username)).toBe(name);
});

it('a key of the database never matches an inherited property of the messages', () => {
  const names = { name: 'Name' };
  expect(['name', 'constructor', '__proto__', 'toString'].map((key) => nameOf(names, key))).toEqual([
    'Name',
    'constructor',
    '__proto__',
    'toString',
  ]);
});

it('messages show the invisible characters of their arguments', () => {
  const texts = withVisibleArguments({
    by: (name: string | null) => `by ${name ?? 'no author'}`,
    deep: { no: 'no' },
  });
  expect([texts.by('\u202eeve'), texts.by(null), texts.deep.no]).toEqual([
    'by [U+202E]eve',
    'by no author',
    'no',
  ]);
});

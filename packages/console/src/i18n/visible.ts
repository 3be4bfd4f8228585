/**
 * Characters that are not seen but change how the text around them is read or compared: those that override the
 * direction of text, zero-width and control characters. Line breaks and tabs are not among them, nor are joiners
 * and variation selectors within emoji.
 */
const hidden =
  /(?<![\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d|(?<!\p{Emoji})[\ufe00-\ufe0f]|(?!\u200d|[\ufe00-\ufe0f]|[\t\n\r])[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}\p{Zl}\p{Zp}]/gu;

/** A text of the database as it is shown: each hidden character as its code point, such as `[U+202E]`. */
export function visible(text: string): string {
  return text.replace(
    hidden,
    (character) => `[U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
  );
}

/** The name of which an avatar shows the initials: without a note such as in `owner (flagcast guard)`. */
export function avatarName(username: string): string {
  return visible(username.replace(/(?<=\S) +\([^()]*\)$/, ''));
}

/** What `names` calls `key`; a key of the database that has no name is shown as it is. */
export function nameOf(names: Readonly<Record<string, string>>, key: string): string {
  return Object.hasOwn(names, key) ? (names[key] ?? '') : visible(key);
}

/** The same texts, whose functions show their arguments by `visible`. */
export function withVisibleArguments<Messages extends object>(texts: Messages): Messages {
  return Object.fromEntries(
    Object.entries(texts).map(([name, value]: [string, unknown]) => [name, withVisible(value)]),
  ) as Messages;
}

function withVisible(value: unknown): unknown {
  if (typeof value === 'function') {
    return (...given: unknown[]): unknown =>
      (value as (...args: unknown[]) => unknown)(
        ...given.map((each) => (typeof each === 'string' ? visible(each) : each)),
      );
  }
  if (Array.isArray(value)) return value.map(withVisible);
  return typeof value === 'object' && value !== null ? withVisibleArguments(value) : value;
}

/**
 * Invisible characters that change how the text around them is read or compared: direction overrides, zero-width and
 * control characters. Not among them: line breaks, tabs, and the joiners and variation selectors of emoji.
 */
const hidden =
  /(?<![\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d|(?<!\p{Emoji})[\ufe00-\ufe0f]|(?!\u200d|[\ufe00-\ufe0f]|[\t\n\r])[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}\p{Zl}\p{Zp}]/gu;

/** Replaces each invisible character by its code point, such as `[U+202E]`. Use it for all text of the database. */
export function visible(text: string): string {
  return text.replace(
    hidden,
    (character) => `[U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
  );
}

/** As the server counts: in code points. */
export const countCharacters = (text: string): number => Array.from(text).length;

/** The name that an avatar derives its initials from: without a note such as in `owner (flagcast guard)`. */
export function avatarName(username: string): string {
  return visible(username.replace(/(?<=\S) +\([^()]*\)$/, ''));
}

/** The message for a key of the database, such as a field or action; the key itself if there is no message. */
export function nameOf(names: Readonly<Record<string, string>>, key: string): string {
  return Object.hasOwn(names, key) ? (names[key] ?? '') : visible(key);
}

/** The same messages, whose functions apply `visible` to their string arguments. */
export function withVisibleArguments<Messages extends object>(messages: Messages): Messages {
  return Object.fromEntries(
    Object.entries(messages).map(([name, value]: [string, unknown]) => [name, withVisible(value)]),
  ) as Messages;
}

function withVisible(value: unknown): unknown {
  if (typeof value === 'function') {
    return (...args: unknown[]): unknown =>
      (value as (...args: unknown[]) => unknown)(
        ...args.map((each) => (typeof each === 'string' ? visible(each) : each)),
      );
  }
  return typeof value === 'object' && value !== null ? withVisibleArguments(value) : value;
}

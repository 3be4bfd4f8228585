/** A number whose digits a JavaScript number cannot keep. */
export class ExactNumber {
  readonly digits: string;

  constructor(digits: string) {
    this.digits = digits;
  }
}

/** Strings and numbers in JSON. */
const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * Parses JSON. Numbers that JavaScript would write with other digits become ExactNumber. They are marked as strings that
 * begin with NUL, which PostgreSQL does not allow in text.
 */
export function parseJson(text: string): unknown {
  const marked = text.replace(tokens, (token) =>
    token.startsWith('"') || String(Number(token)) === token ? token : `"\\u0000${token}"`,
  );
  if (marked === text) return JSON.parse(text);
  return JSON.parse(marked, (_name, value: unknown) =>
    typeof value === 'string' && value.startsWith('\0') ? new ExactNumber(value.slice(1)) : value,
  );
}

/** Writes the result of `parseJson` as JSON, with all digits. */
export function writeJson(value: unknown): string {
  if (value instanceof ExactNumber) return value.digits;
  if (Array.isArray(value)) return `[${value.map(writeJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([name, member]) => `${JSON.stringify(name)}:${writeJson(member)}`,
  );
  return `{${members.join(',')}}`;
}

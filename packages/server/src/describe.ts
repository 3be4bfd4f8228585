import { redactUrl } from './auth/request-token.js';

/** An error in one line: its code, where it has one, and its message, without passwords and tokens. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return scrub(String(error));
  // Of the system or of PostgreSQL; our own errors have codes for programs, and say it all.
  const code = 'code' in error && /^[A-Z\d_]+$/.test(String(error.code)) ? String(error.code) : null;
  // A host name with several addresses fails with one error for each and no message of its own.
  const message =
    error.message === '' && error instanceof AggregateError
      ? error.errors.map((each) => (each instanceof Error ? each.message : String(each))).join('; ')
      : error.message;
  if (message === '') return code ?? error.name;
  return scrub(code === null || message.includes(code) ? message : `${code}: ${message}`);
}

/** A text as one line that can be logged or shown: no passwords of URLs, no tokens, no control characters. */
export function scrub(text: string): string {
  return printable(redactUrl(text))
    .replace(/\S+/g, withoutUserInfo)
    .replace(/\b(password|secret|token)=[^&\s]+/gi, '$1=[redacted]');
}

/**
 * Without what stands before the last @ of a URL: a password that was not percent-encoded may hold one.
 * Looked for from both ends, so that a long text is gone through once.
 */
function withoutUserInfo(word: string): string {
  const start = word.indexOf('://');
  const end = word.lastIndexOf('@');
  return start === -1 || end < start ? word : `${word.slice(0, start)}://[redacted]${word.slice(end)}`;
}

/** A text without what would steer the terminal that shows it (line breaks, escapes, text direction). */
export function printable(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '�');
}

/**
 * The same JSON, without what steers a terminal, changes the direction of text, or is the end of a line for some
 * programs.
 */
export function printableJson(json: string): string {
  return json.replace(/[\x7f-\x9f\u2028\u2029]|\p{Cf}/gu, (character) =>
    Array.from({ length: character.length }, (_unit, index) => escaped(character.charCodeAt(index))).join(''),
  );
}

function escaped(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

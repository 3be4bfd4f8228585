import { redactUrl } from './auth/request-token.js';

/** What was thrown, as an Error: JavaScript can throw anything. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** An error in one line: its code and its message, without passwords and tokens. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return scrub(String(error));
  // A code of the system or of PostgreSQL. The messages of our own errors need no code.
  const code = 'code' in error && /^[A-Z\d_]+$/.test(String(error.code)) ? String(error.code) : null;
  // A connection to a host with several addresses fails with one error for each and no message.
  const message =
    error.message === '' && error instanceof AggregateError
      ? error.errors.map((each) => (each instanceof Error ? each.message : String(each))).join('; ')
      : error.message;
  if (message === '') return code ?? error.name;
  return scrub(code === null || message.includes(code) ? message : `${code}: ${message}`);
}

/** A text as one line without passwords of URLs, tokens and control characters. */
export function scrub(text: string): string {
  return printable(redactUrl(text))
    .replace(/\S+/g, withoutUserInfo)
    .replace(/\b(password|secret|token)=[^&\s]+/gi, '$1=[redacted]');
}

/**
 * Without the text before the last @ of a URL, except in the example of our own messages: a password may contain @. Linear
 * in the length of the word.
 */
function withoutUserInfo(word: string): string {
  const start = word.indexOf('://');
  const end = word.lastIndexOf('@');
  const isExample = word.slice(start + '://'.length, end) === 'user:password';
  return start === -1 || end < start || isExample
    ? word
    : `${word.slice(0, start)}://[redacted]${word.slice(end)}`;
}

/** A text without characters that control a terminal: line breaks, escapes, text direction. */
export function printable(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '�');
}

/** JSON with escapes for the characters that control a terminal, change the text direction or end a line. */
export function printableJson(json: string): string {
  return json.replace(/[\x7f-\x9f\u2028\u2029]|\p{Cf}/gu, (character) =>
    Array.from({ length: character.length }, (_unit, index) => escaped(character.charCodeAt(index))).join(''),
  );
}

function escaped(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

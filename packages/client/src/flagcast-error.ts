/**
 * The error that ended a channel or the client, or that the server returned for a request.
 *
 * - `code`: the server's error code, e.g. `forbidden`, `unknown_project`, `token_invalid`; or `bad_url`.
 * - `closeCode`: a close code of PROTOCOL.md. Below 4500 a retry can succeed, from 4500 on it cannot. Undefined if
 *   no connection was involved.
 * - `retryAfterMs`: the delay that the server requested, in milliseconds; 0 if it requested none.
 *
 * Throw one from `getToken` if there will be no further token (the user has signed out): the client then ends with
 * this error and does not retry.
 */
export class FlagcastError extends Error {
  override readonly name = 'FlagcastError';
  declare readonly code: string;
  declare readonly closeCode: number | undefined;
  declare readonly retryAfterMs: number;

  constructor(code: string, message: string, closeCode?: number, retryAfterMs = 0) {
    super(message);
    this.code = code;
    this.closeCode = closeCode;
    this.retryAfterMs = retryAfterMs;
  }
}

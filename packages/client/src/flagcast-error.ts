/**
 * What ended a channel or the client for good, or what the server answered to one request.
 *
 * - `code`: the server's word for it, e.g. `forbidden`, `unknown_project`, `token_invalid`; or `bad_url`.
 * - `closeCode`: as in PROTOCOL.md; below 4500 trying again helps, from 4500 on it does not. Undefined
 *   where no connection was involved.
 * - `retryAfterMs`: how long the server asked to wait, in milliseconds; 0 where it did not.
 *
 * Throw one from `getToken` to say that there will be no token any more (the user has signed out): the
 * client then ends with it in place of asking again.
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

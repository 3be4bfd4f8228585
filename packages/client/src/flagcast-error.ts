/** What a FlagcastError contains besides its code and message. */
export interface FlagcastErrorDetails {
  readonly closeCode?: number | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly url?: string | undefined;
  readonly attempt?: number | undefined;
  readonly delayMs?: number | undefined;
  readonly cause?: unknown;
}

/**
 * The error that ended a channel or the client, or a failure that is retried.
 *
 * - `code`: the server's error code, e.g. `forbidden`, `unknown_project`, `token_invalid`; or one of the client:
 *   `bad_url`, `bad_token`, `connection_lost`, `token_failed`.
 * - `closeCode`: a close code of PROTOCOL.md. Below 4500 a retry can succeed, from 4500 on it cannot. Undefined if
 *   no connection was involved.
 * - `retryAfterMs`: the delay that the server requested, in milliseconds; 0 if it requested none.
 * - With a lost connection: its `url`; `attempt`, how many attempts have failed in a row; and `delayMs`, after which
 *   the next one starts.
 * - `cause`: the error that `getToken` or the network threw.
 *
 * Throw one from `getToken` if there will be no further token (the user has signed out): the client then ends with
 * this error and does not retry.
 */
export class FlagcastError extends Error {
  override readonly name = 'FlagcastError';
  declare readonly code: string;
  declare readonly closeCode: number | undefined;
  declare readonly retryAfterMs: number;
  declare readonly url: string | undefined;
  declare readonly attempt: number | undefined;
  declare readonly delayMs: number | undefined;

  constructor(code: string, message: string, { cause, ...details }: FlagcastErrorDetails = {}) {
    super(message, { cause });
    Object.assign(this, { code, retryAfterMs: 0, ...details });
  }
}

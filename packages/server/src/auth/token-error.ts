export type TokenErrorCode =
  | 'token_missing'
  | 'token_malformed'
  | 'token_expired'
  | 'token_wrong_type'
  | 'token_invalid'
  /** The server's fault, not the token's: answer 503, not 401. `cause` says why, for the log. */
  | 'keys_unavailable';

/** Why a token was refused, in one line that can be shown to its sender: it never holds the token. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
  readonly code: TokenErrorCode;

  constructor(code: TokenErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

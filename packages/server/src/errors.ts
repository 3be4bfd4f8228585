/**
 * The codes of the errors of the library and of the command. The codes of refused requests and of `error` messages are
 * in @flagcast/protocol. docs/reference.md lists both.
 */
export const flagcastErrorCodes = {
  invalid_options: 'An option of createFlagcast is missing, malformed, or excludes another one.',
  closed: 'Flagcast was closed before it was ready, or is started again after it was closed.',
} as const;

/** A key of `flagcastErrorCodes`. */
export type FlagcastErrorCode = keyof typeof flagcastErrorCodes;

/** An error of Flagcast. `code` is stable; `message` is one line that says what is wrong and how to fix it. */
export class FlagcastError extends Error {
  override readonly name = 'FlagcastError';
  readonly code: FlagcastErrorCode;

  constructor(code: FlagcastErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * - `read-only`: the server is a replica, or its transactions are read-only
 * - `unsupported-version`: PostgreSQL older than 14
 * - `foreign-schema`: a schema `flagcast` exists that Flagcast did not make
 * - `tables-missing`: no contract tables (or columns) to attach to
 * - `tables-present`: --tables was given, and some of the tables exist
 * - `right-missing`: the role lacks a right
 * - `locked`: another session held a lock for too long
 * - `dependent`: objects of the host depend on Flagcast's
 * - `role-unfit`: the server cannot have a role with this name
 * - `plan-changed`: the database has changed since the plan was confirmed
 * - `other-build`: installed by a newer or an altered Flagcast
 * - `failed`: anything else
 */
export type InstallErrorCode =
  | 'read-only'
  | 'unsupported-version'
  | 'foreign-schema'
  | 'tables-missing'
  | 'tables-present'
  | 'right-missing'
  | 'locked'
  | 'dependent'
  | 'role-unfit'
  | 'plan-changed'
  | 'other-build'
  | 'failed';

/** Why nothing was installed or uninstalled. The message is one line: what is wrong, and how to fix it. */
export class InstallError extends Error {
  override readonly name = 'InstallError';
  readonly code: InstallErrorCode;

  constructor(code: InstallErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const textOf = (value: unknown, key: string): string => {
  if (typeof value !== 'object' || value === null) return '';
  const text: unknown = Reflect.get(value, key);
  return typeof text === 'string' ? text : '';
};

const oneLine = (text: string, separator: string): string =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join(separator);

/** Converts an error of PostgreSQL or of the migration runner to an InstallError. Returns an InstallError unchanged. */
export function toInstallError(error: unknown): InstallError {
  if (error instanceof InstallError) return error;
  const cause = { cause: error };
  const message = oneLine(error instanceof Error ? error.message : String(error), ' ');
  const detail = oneLine(textOf(error, 'detail'), '; ');
  switch (textOf(error, 'code')) {
    case '42501':
      return new InstallError(
        'right-missing',
        `Nothing was changed, because the role lacks a right: ${message}. Grant it, or connect as the owner.`,
        cause,
      );
    case '55P03':
    case '40P01':
      return new InstallError(
        'locked',
        'Nothing was changed, because another transaction held a lock that is needed (on one of the tables, or another install). Try again when there is less traffic.',
        cause,
      );
    case '2BP01':
      return new InstallError(
        'dependent',
        `Nothing was changed, because other objects depend on Flagcast's: ${detail === '' ? message : detail}. Drop those first, then try again.`,
        cause,
      );
    case '25006':
      return new InstallError(
        'read-only',
        'This server accepts no writes (a replica, or default_transaction_read_only is on). Connect to the primary.',
        cause,
      );
    default:
      return new InstallError(
        'failed',
        `Nothing was changed, because of an error: ${message}${detail === '' ? '' : ` (${detail})`}`,
        cause,
      );
  }
}

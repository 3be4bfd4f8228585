export type InstallErrorCode =
  /** The server is a replica, or its transactions are read-only. */
  | 'read-only'
  /** PostgreSQL is older than 14. */
  | 'unsupported-version'
  /** A schema `flagcast` exists that Flagcast did not create. */
  | 'foreign-schema'
  /** The database lacks contract tables or columns. */
  | 'tables-missing'
  /** --tables was given, and some of the tables exist. */
  | 'tables-present'
  /** The role lacks a privilege. */
  | 'right-missing'
  /** Another session held a lock for too long. */
  | 'locked'
  /** Objects of the host depend on Flagcast's. */
  | 'dependent'
  /** --role is not a name that a role can have. */
  | 'role-unfit'
  /** The database has changed since the plan was confirmed. */
  | 'plan-changed'
  /** A newer Flagcast has installed. */
  | 'other-build'
  | 'failed';

/** Nothing was installed or uninstalled. The message is one line: what is wrong, and how to fix it. */
export class InstallError extends Error {
  override readonly name = 'InstallError';
  readonly code: InstallErrorCode;

  constructor(code: InstallErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const oneLine = (text: string, separator: string): string => text.trim().replaceAll(/\s*\n\s*/g, separator);

/** Converts an error of PostgreSQL to an InstallError. Returns an InstallError unchanged. */
export function toInstallError(error: unknown): InstallError {
  if (error instanceof InstallError) return error;
  const { code = '', detail = '' } = error as { readonly code?: string; readonly detail?: string };
  const message = oneLine(error instanceof Error ? error.message : String(error), ' ');
  const details = oneLine(detail, '; ');
  const locked =
    'Nothing was changed, because another transaction holds a lock on one of the tables. Try again when there is less traffic.';
  const [kind, text] = (
    {
      '42501': [
        'right-missing',
        `Nothing was changed, because the role lacks a privilege: ${message}. Grant it, or connect as the owner.`,
      ],
      '55P03': ['locked', locked],
      '40P01': ['locked', locked],
      '2BP01': ['dependent', dependentMessage(details === '' ? message : details)],
      '25006': [
        'read-only',
        'This server accepts no writes: it is a replica, or default_transaction_read_only is on. Connect to the primary.',
      ],
    } as const
  )[code] ?? [
    'failed',
    `Nothing was changed, because of an error: ${message}${details === '' ? '' : ` (${details})`}`,
  ];
  return new InstallError(kind, text, { cause: error });
}

export const dependentMessage = (dependents: string): string =>
  `Nothing was changed, because other objects depend on Flagcast's: ${dependents}. Drop them first, then try again.`;

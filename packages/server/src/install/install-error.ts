import { errorCode } from '../postgres/errors.js';

/** Nothing was installed or uninstalled. The message is one line: what is wrong, and how to fix it. */
export class InstallError extends Error {
  override readonly name = 'InstallError';
}

/** Whether a lock of another session was not released in time. */
export const isLocked = (error: unknown): boolean => ['55P03', '40P01'].includes(errorCode(error) ?? '');

/** Converts an error of PostgreSQL to an InstallError. Returns an InstallError unchanged. */
export function toInstallError(error: unknown): InstallError {
  if (error instanceof InstallError) return error;
  const oneLine = (text: string, separator: string): string => text.trim().replaceAll(/\s*\n\s*/g, separator);
  const message = oneLine(error instanceof Error ? error.message : String(error), ' ');
  const detail = oneLine((error as { readonly detail?: string }).detail ?? '', '; ');
  const text: Readonly<Record<string, string>> = {
    '42501': `Nothing was changed, because the role lacks a privilege: ${message}. Grant it, or connect as the owner.`,
    '2BP01': dependentMessage(detail === '' ? message : detail),
    '25006':
      'This server accepts no writes: it is a replica, or default_transaction_read_only is on. Connect to the primary.',
  };
  const other = `Nothing was changed, because of an error: ${message}${detail === '' ? '' : ` (${detail})`}`;
  return new InstallError(text[errorCode(error) ?? ''] ?? other, { cause: error });
}

export const dependentMessage = (dependents: string): string =>
  `Nothing was changed, because other objects depend on Flagcast's: ${dependents}. Drop them first, then try again.`;

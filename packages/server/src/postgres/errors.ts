import pg from 'pg';

/** The session cannot be used any more, and its pending statements were not answered. */
export class SessionLostError extends Error {
  override readonly name = 'SessionLostError';
}

/** No session of the database was free in time. */
export class NoFreeSessionError extends Error {
  override readonly name = 'NoFreeSessionError';
}

/** The COMMIT of a transaction was not answered: it may have been committed, or may still be. */
export class CommitOutcomeUnknownError extends Error {
  override readonly name = 'CommitOutcomeUnknownError';
}

/** The code of a system error (`ENOENT`) or of a PostgreSQL error (`53100`); undefined without one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

const fixesOfConnections: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'start PostgreSQL, or correct the host and port in',
  EAI_AGAIN: 'correct the host in',
  ENOTFOUND: 'correct the host in',
  '28P01': 'correct the user or password, with @, / and : percent-encoded, in',
  '3D000': 'create the database, or correct its name in',
};

/** How to fix what has prevented a connection of a command. */
export function connectionFix(error: unknown): string {
  const setting = '--database-url or DATABASE_URL';
  // The error of pg has no code.
  if (error instanceof Error && error.message.includes('client password must be a string')) {
    return `add the password to ${setting} (postgresql://user:password@host:5432/database), or set PGPASSWORD`;
  }
  return `${fixesOfConnections[errorCode(error) ?? ''] ?? 'resolve the error, or correct'} ${setting}`;
}

/** Whether PostgreSQL refused a statement and the session continues. */
export function isRefusedStatement(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && !/^(08|25P0[34]|57P)/.test(error.code ?? '');
}

/** Whether PostgreSQL itself refused the COMMIT. After a lost connection, a shutdown or a pooler's error the outcome is unknown. */
export function isRollback(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !/^(08|57P|58|XX)/.test(error.code ?? '');
}

/** No such table, schema or column; no privilege; no such operator; a value of another type. */
const missingCodes = new Set(['42P01', '3F000', '42703', '42501', '42883', '42804', '22P02']);

/** Whether a read failed because the database does not have the tables it is for, or the role may not read them. */
export function isMissing(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && missingCodes.has(error.code ?? '');
}

/** Whether a value caused the error: data exception, program limit exceeded. */
export function isOfData(error: unknown): boolean {
  return /^(22|54)/.test(errorCode(error) ?? '');
}

/** Whether a text of a statement or its result has no equivalent in the other encoding, UTF-8 or that of the database. */
export function isUndecodable(error: unknown): boolean {
  return ['22021', '22P05'].includes(errorCode(error) ?? '');
}

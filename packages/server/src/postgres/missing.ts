import pg from 'pg';

/**
 * What PostgreSQL says of a statement that is for other tables than there are, or that the role may
 * not read: no such table, schema or column; no right; no such operator, no such form of a value.
 */
const codes = new Set(['42P01', '3F000', '42703', '42501', '42883', '42804', '22P02']);

/** Whether a read failed because the database has not what it reads, or does not let this role read it. */
export function isMissing(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && codes.has(error.code ?? '');
}

/** The code of a system error (`ENOENT`) or of a PostgreSQL error (`53100`); undefined without one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

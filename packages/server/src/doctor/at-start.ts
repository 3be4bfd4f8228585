import type { Logger } from 'pino';
import { examine, type ExamineOptions } from './examine.js';

/** Short, because the server has other things to do, and the database may have, too. */
const queryTimeoutMs = 3_000;

/**
 * Logs what flagcast doctor would warn of, a line for each: `doctor_warning` with the finding, its
 * consequence and what mends it. Leaves out the test of LISTEN, which the listener itself makes. Never rejects.
 */
export async function logWarnings(
  databaseUrl: string,
  {
    logger,
    ...attached
  }: Pick<ExamineOptions, 'view' | 'overlapMs' | 'authorizeSql'> & { readonly logger: Logger },
): Promise<void> {
  const { role, findings } = await examine(databaseUrl, { ...attached, listen: false, queryTimeoutMs });
  // A database that does not answer now is the reader's to tell of.
  if (role === null) return;
  for (const { id, level, what, consequence, mend } of findings) {
    if (level !== 'warning' && level !== 'error') continue;
    logger.warn({ event: 'doctor_warning', finding: id, what, consequence, mend: mend?.text });
  }
}

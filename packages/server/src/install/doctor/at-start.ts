import type { Logger } from '../../operations/log.js';
import { examine, type ExamineOptions } from './examine.js';

/** Shorter than the command's, because the server starts meanwhile. */
const queryTimeoutMs = 3_000;

/**
 * Logs the warnings and errors of `flagcast doctor` when a server starts: one line `doctor_warning` for each. Leaves
 * out what the server itself is about to change or to notice: LISTEN and retention. Never rejects.
 */
export async function logWarnings(
  databaseUrl: string,
  {
    logger,
    ...options
  }: Pick<
    ExamineOptions,
    'view' | 'overlapMs' | 'authorizeSql' | 'writes' | 'userClaim' | 'databaseConnections'
  > & {
    readonly logger: Logger;
  },
): Promise<void> {
  const { role, findings } = await examine(databaseUrl, { ...options, listen: false, queryTimeoutMs });
  // The reader reports a database that does not answer.
  if (role === null) return;
  for (const { id, level, message, consequence, fix } of findings) {
    if ((level !== 'warning' && level !== 'error') || id === 'retention') continue;
    logger('doctor_warning', { finding: id, message, consequence, fix: fix?.text });
  }
}

import { describeError } from '../../describe.js';
import { connectionFix } from '../../postgres/errors.js';
import { Session } from '../../postgres/session.js';
import type { Logger } from '../../operations/log.js';
import {
  advice,
  defaultSettings,
  error,
  ok,
  readFacts,
  warning,
  type Checks,
  type Finding,
  type Settings,
} from './facts.js';
import { logChecks } from './log-checks.js';
import { rightsChecks } from './rights-checks.js';
import { serverChecks } from './server-checks.js';

export type ExamineOptions = Partial<Omit<Settings, 'databaseUrl'>>;

/** The result of an examination. */
export interface Examination {
  /** Null without a connection. */
  readonly role: string | null;
  readonly findings: readonly Finding[];
}

/** All checks, in the order of the report. */
const checks: Checks = { ...logChecks, ...rightsChecks, ...serverChecks };

/**
 * Examines a database through the connection string of `flagcast serve`. Changes nothing, not even the session, which
 * may be a pooler's. Never rejects: a check that fails is a finding.
 */
export async function examine(databaseUrl: string, options: ExamineOptions = {}): Promise<Examination> {
  const settings: Settings = { ...defaultSettings, ...options, databaseUrl };
  const { queryTimeoutMs } = settings;
  const findings: Finding[] = [];
  const startedAtMs = performance.now();
  let client: Session | null = null;
  try {
    const applicationName = 'flagcast doctor';
    const database = { url: databaseUrl };
    client = await Session.open({ database, applicationName, queryTimeoutMs, values: 'text' });
    const tookMs = Math.round(performance.now() - startedAtMs);
    const facts = await readFacts(client, settings);
    findings.push({ id: 'connection', ...ok(`connected as role ${facts.role} in ${tookMs} ms`) });
    for (const [id, check] of Object.entries(checks)) {
      try {
        findings.push(...[await check(facts)].flat().map((result) => ({ id, ...result })));
      } catch (failure) {
        const result = warning(
          `the check failed (${describeError(failure)})`,
          'its result is unknown',
          advice('resolve the error, then run flagcast doctor again'),
        );
        findings.push({ id, ...result });
      }
    }
    return { role: facts.role, findings };
  } catch (failure) {
    const result = error(
      `the connection failed (${describeError(failure)})`,
      'nothing else could be checked',
      advice(connectionFix(failure)),
    );
    return { role: null, findings: [{ id: 'connection', ...result }] };
  } finally {
    client?.discard();
  }
}

/** The time-out of queries when a server starts, in milliseconds: shorter, because clients connect meanwhile. */
const startTimeoutMs = 3_000;

/**
 * Logs a line `doctor_warning` for each warning and error when a server starts. Leaves out what the server itself
 * changes or notices: LISTEN and retention. Never rejects.
 */
export async function logWarnings(
  databaseUrl: string,
  { logger, ...options }: ExamineOptions & { readonly logger: Logger },
): Promise<void> {
  const limits = { listen: false, queryTimeoutMs: startTimeoutMs };
  const { role, findings } = await examine(databaseUrl, { ...options, ...limits });
  // The reader reports a failed connection.
  if (role === null) return;
  for (const { id, severity, message, consequence, fix } of findings) {
    if ((severity !== 'warning' && severity !== 'error') || id === 'retention') continue;
    logger('doctor_warning', { finding: id, message, consequence, fix: fix?.text });
  }
}

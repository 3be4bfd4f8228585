import type pg from 'pg';
import { discardSession, openSession } from '../database/session.js';
import { describeError } from '../describe.js';
import { checkTransactions } from './activity-check.js';
import { checkClock } from './clock-check.js';
import { checkIndexes } from './cost-checks.js';
import { readFacts, type Facts } from './facts.js';
import { advice, ok, type Finding } from './finding.js';
import { checkListen } from './listen-check.js';
import { checkAuthorization, checkRights, checkRowSecurity } from './rights-checks.js';
import { checkInstallation, checkTriggers, checkView } from './schema-checks.js';
import { checkCommitTimes, checkGuarantee, checkReplica, checkVersion, checkWake } from './server-checks.js';

export interface ExamineOptions {
  /** What serve is told to read, by FLAGCAST_VIEW. Default null. */
  readonly view?: string | null;
  /** How far serve looks back in a view without transaction ids, in milliseconds. Default 60,000. */
  readonly overlapMs?: number;
  /** What serve is told to ask who may see what, by FLAGCAST_AUTHORIZE_SQL. Default null. */
  readonly authorizeSql?: string | null;
  /** From what age on an open transaction is worth a word, in milliseconds. Default 60,000. */
  readonly oldTransactionMs?: number;
  /** After this many milliseconds without an answer a question is given up. Default 10,000. */
  readonly queryTimeoutMs?: number;
  /** Whether to open two more connections and see whether LISTEN works. Default true. */
  readonly listen?: boolean;
  /** Where LISTEN goes. Default null: to the database's URL. */
  readonly listenUrl?: string | null;
  /** This machine's clock, in milliseconds since the epoch. */
  readonly now?: () => number;
}

/** What is known of a database after it was looked at. */
export interface Examination {
  /** Null where there was no connection. */
  readonly role: string | null;
  readonly findings: readonly Finding[];
}

/**
 * Looks at a database with the eyes of `flagcast serve`, over the connection string that it would get.
 * Changes nothing, also not the session, which may be a pooler's. Never rejects: what cannot be looked at is a finding, too.
 */
export async function examine(databaseUrl: string, options: ExamineOptions = {}): Promise<Examination> {
  const { view = null, overlapMs = 60_000, authorizeSql = null } = options;
  const { oldTransactionMs = 60_000, queryTimeoutMs = 10_000, listen = true, now = Date.now } = options;
  const listenUrl = options.listenUrl ?? null;
  const startedAtMs = performance.now();
  let client: pg.Client | null = null;
  try {
    client = await openSession({ databaseUrl, applicationName: 'flagcast doctor', queryTimeoutMs });
    const tookMs = Math.round(performance.now() - startedAtMs);
    const facts = await readFacts(client, { view, overlapMs, authorizeSql });
    const connected = ok('connection', `connected as role ${facts.role} in ${tookMs} ms`);
    return {
      role: facts.role,
      findings: [
        connected,
        ...(await runChecks(client, facts, {
          databaseUrl,
          listenUrl,
          oldTransactionMs,
          queryTimeoutMs,
          listen,
          now,
        })),
      ],
    };
  } catch (error) {
    const finding: Finding = {
      id: 'connection',
      level: 'error',
      what: `no connection (${describeError(error)})`,
      consequence: 'nothing else could be looked at',
      mend: advice('mend that, or correct --database-url or DATABASE_URL'),
    };
    return { role: null, findings: [finding] };
  } finally {
    if (client !== null) discardSession(client);
  }
}

async function runChecks(
  client: pg.Client,
  facts: Facts,
  options: Required<Omit<ExamineOptions, 'view' | 'overlapMs' | 'authorizeSql'>> & {
    readonly databaseUrl: string;
  },
): Promise<Finding[]> {
  const { databaseUrl, listenUrl, oldTransactionMs, queryTimeoutMs, listen, now } = options;
  const findings: Finding[] = [];
  const checks: Readonly<Record<string, () => Finding | Finding[] | Promise<Finding | Finding[]>>> = {
    version: () => checkVersion(facts),
    replica: () => checkReplica(facts),
    guarantee: () => checkGuarantee(facts),
    installation: async () => await checkInstallation(client, facts),
    rights: () => checkRights(facts),
    authorization: async () => await checkAuthorization(client, facts),
    'row-security': async () => await checkRowSecurity(client, facts),
    // Without a schema there is nothing of ours to look at.
    ...(facts.state.installed
      ? {
          view: async () => await checkView(client, facts),
          triggers: () => checkTriggers(facts),
          wake: () => checkWake(facts),
        }
      : {}),
    ...(listen
      ? {
          listen: async () =>
            await checkListen(client, facts, { databaseUrl, listenUrl, timeoutMs: queryTimeoutMs }),
        }
      : {}),
    index: async () => await checkIndexes(client),
    transactions: async () => await checkTransactions(client, facts, oldTransactionMs),
    clock: async () => await checkClock(client, now),
    'commit-times': () => checkCommitTimes(facts),
  };
  for (const [id, check] of Object.entries(checks)) {
    try {
      findings.push(...[await check()].flat());
    } catch (error) {
      findings.push({
        id,
        level: 'warning',
        what: `could not be looked at (${describeError(error)})`,
        consequence: 'it is not known how things stand with it',
        mend: advice('see to what the error says, then run flagcast doctor again'),
      });
    }
  }
  return findings;
}

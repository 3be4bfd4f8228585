import type pg from 'pg';
import { parseUserClaim } from '../../auth/user-claim.js';
import { Session } from '../../postgres/session.js';
import { defaultDatabaseConnections } from '../../postgres/session-budget.js';
import { describeError } from '../../describe.js';
import { checkTransactions } from './activity-check.js';
import { checkClock } from './clock-check.js';
import { readFacts, type Facts } from './facts.js';
import { advice, ok, type Finding } from './finding.js';
import { checkLock } from './lock-check.js';
import { checkListen } from './listen-check.js';
import {
  checkIndexes,
  checkLog,
  checkLogSize,
  checkRetention,
  checkWriteCost,
  readLogFacts,
} from './log-checks.js';
import { checkAuthorization, checkRights, checkRowSecurity, checkWrites } from './rights-checks.js';
import { checkSessions } from './session-check.js';
import {
  checkCommitTimes,
  checkEncoding,
  checkReplica,
  checkReplication,
  checkVersion,
  checkWake,
} from './server-checks.js';
import { checkGuarantee, checkInstallation } from './source-checks.js';

export interface ExamineOptions {
  /** The view of FLAGCAST_VIEW. Default null. */
  readonly view?: string | null;
  /** How far `flagcast serve` looks back where there is no event log, in milliseconds. Default 60,000. */
  readonly overlapMs?: number;
  /** The query of FLAGCAST_AUTHORIZE_SQL. Default null. */
  readonly authorizeSql?: string | null;
  /** Whether `flagcast serve` takes changes (FLAGCAST_WRITES). Default false. */
  readonly writes?: boolean;
  /** FLAGCAST_JWT_USER_CLAIM. Default null. */
  readonly userClaim?: string | null;
  /** How many sessions `flagcast serve` may have (FLAGCAST_DB_CONNECTIONS). Default 10. */
  readonly databaseConnections?: number;
  /** From this age on an open transaction is reported, in milliseconds. Default 60,000. */
  readonly oldTransactionMs?: number;
  /** The time-out of each query, in milliseconds. Default 10,000. */
  readonly queryTimeoutMs?: number;
  /** Whether to open two more connections and test LISTEN. Default true. */
  readonly listen?: boolean;
  /** The URL for LISTEN. Default null: the database's URL. */
  readonly listenUrl?: string | null;
  /** This machine's clock, in milliseconds since the epoch. */
  readonly now?: () => number;
}

/** The result of an examination. */
export interface Examination {
  /** Null where there was no connection. */
  readonly role: string | null;
  readonly findings: readonly Finding[];
}

/**
 * Examines a database through the connection string of `flagcast serve`. Changes nothing, also not the session, which
 * may be a pooler's. Never rejects: a check that fails is a finding, too.
 */
export async function examine(databaseUrl: string, options: ExamineOptions = {}): Promise<Examination> {
  const { view = null, overlapMs = 60_000, authorizeSql = null, writes = false } = options;
  const userClaim = options.userClaim ?? null;
  const byEmail = userClaim !== null && parseUserClaim(userClaim).column === 'email';
  const { databaseConnections = defaultDatabaseConnections } = options;
  const { oldTransactionMs = 60_000, queryTimeoutMs = 10_000, listen = true, now = Date.now } = options;
  const listenUrl = options.listenUrl ?? null;
  const startedAtMs = performance.now();
  let client: Session | null = null;
  try {
    client = await Session.open({
      database: { url: databaseUrl },
      applicationName: 'flagcast doctor',
      queryTimeoutMs,
      values: 'text',
    });
    const tookMs = Math.round(performance.now() - startedAtMs);
    const facts = await readFacts(client, { view, overlapMs, authorizeSql, writes, byEmail });
    const connected = ok('connection', `connected as role ${facts.role} in ${tookMs} ms`);
    return {
      role: facts.role,
      findings: [
        connected,
        ...(await runChecks(client, facts, {
          databaseUrl,
          listenUrl,
          databaseConnections,
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
      message: `no connection (${describeError(error)})`,
      consequence: 'nothing else could be checked',
      fix: advice('resolve the error, or correct --database-url or DATABASE_URL'),
    };
    return { role: null, findings: [finding] };
  } finally {
    client?.discard();
  }
}

async function runChecks(
  client: pg.Client,
  facts: Facts,
  options: Required<Omit<ExamineOptions, 'view' | 'overlapMs' | 'authorizeSql' | 'writes' | 'userClaim'>> & {
    readonly databaseUrl: string;
  },
): Promise<Finding[]> {
  const { databaseUrl, listenUrl, databaseConnections, oldTransactionMs, queryTimeoutMs, listen, now } =
    options;
  const findings: Finding[] = [];
  const logFacts = facts.eventSource?.reason === 'event_log' ? readLogFacts(client) : null;
  // Awaited by several checks, each of which reports its failure.
  logFacts?.catch(() => undefined);
  const checks: Readonly<Record<string, () => Finding | Finding[] | Promise<Finding | Finding[]>>> = {
    version: () => checkVersion(facts),
    replica: () => checkReplica(facts),
    ...(facts.isLocked ? { locks: async () => await checkLock(client) } : {}),
    // Where a lock hides the event source, these would report that there is none.
    ...(facts.isLocked && facts.eventSource === null
      ? {}
      : {
          guarantee: () => checkGuarantee(facts),
          installation: async () => await checkInstallation(client, facts),
        }),
    rights: () => checkRights(facts),
    writes: () => checkWrites(facts),
    authorization: async () => await checkAuthorization(client, facts),
    'row-security': async () => await checkRowSecurity(client, facts),
    ...(logFacts === null
      ? {}
      : {
          log: async () => checkLog(facts, await logFacts),
          'log-size': async () => checkLogSize(await logFacts),
          retention: async () => checkRetention(await logFacts),
          'write-cost': () => checkWriteCost(facts),
          wake: () => checkWake(facts),
        }),
    ...(listen
      ? {
          listen: async () =>
            await checkListen(client, facts, { databaseUrl, listenUrl, timeoutMs: queryTimeoutMs }),
        }
      : {}),
    sessions: async () => await checkSessions(client, facts, databaseConnections),
    index: async () => await checkIndexes(client),
    transactions: async () => await checkTransactions(client, facts, oldTransactionMs),
    clock: async () => await checkClock(client, now),
    encoding: () => checkEncoding(facts),
    replication: () => checkReplication(facts),
    'commit-times': () => checkCommitTimes(facts),
  };
  for (const [id, check] of Object.entries(checks)) {
    try {
      findings.push(...[await check()].flat());
    } catch (error) {
      findings.push({
        id,
        level: 'warning',
        message: `could not be checked (${describeError(error)})`,
        consequence: 'its state is not known',
        fix: advice('resolve the error, then run flagcast doctor again'),
      });
    }
  }
  return findings;
}

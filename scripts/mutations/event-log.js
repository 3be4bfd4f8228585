/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const eventLogMutations = [
  {
    name: 'full-page-reduces-coverage',
    guarantee: 'G4',
    broken: 'After a full page, events that were delivered earlier are delivered again.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: 'const xmax = last === null ? snapshot.xmax : maxOf(before.xmax, last.xid + 1n);',
        replace: 'const xmax = last === null ? snapshot.xmax : maxOf(last.xid, last.xid + 1n);',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`],
  },
  {
    name: 'large-transaction-truncated',
    guarantee: 'G1',
    broken: 'A transaction with more than two pages of rows is not delivered completely.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: 'if (rows.length >= limit) this.#partial.set(xid, afterSeq);',
        replace: 'if (rows.length > limit) this.#partial.set(xid, afterSeq);',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`],
  },
  {
    name: 'partial-transaction-covered',
    guarantee: 'G5',
    broken: 'A cursor covers a transaction that was delivered only partly.',
    edits: [
      {
        file: `${server}reader/log-progress.ts`,
        find: 'if (partial.length === 0) return this.#coverage;',
        replace: 'if (partial.length >= 0) return this.#coverage;',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`],
  },
  {
    name: 'uncertain-events-repeated',
    guarantee: 'G4',
    broken: 'After a reconnect, events that a crash could have lost are delivered again.',
    edits: [
      {
        file: `${server}reader/unflushed-rows.ts`,
        find: 'return this.#uncertain.get(row.xid)?.delete(fingerprintOf(row)) === true;',
        replace: 'return this.#uncertain.get(row.xid)?.delete(fingerprintOf(row)) === null;',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`],
  },
  {
    name: 'lost-commits-unnoticed',
    guarantee: 'G5',
    broken: 'A crash that lost delivered commits is not noticed.',
    edits: [
      {
        file: `${server}reader/unflushed-rows.ts`,
        find: 'if (fingerprints.size > 0) return true;',
        replace: 'if (fingerprints.size > 1e9) return true;',
      },
    ],
    tests: [`${test}unit/log-progress.test.ts`],
  },
  {
    name: 'pages-unbounded',
    broken: 'One read returns a large transaction completely, and exceeds the statement time-out.',
    edits: [
      {
        file: `${server}reader/log-statements.ts`,
        find: 'export const pageRows = 500;',
        replace: 'export const pageRows = 500_000;',
      },
    ],
    tests: [`${test}field-cases-size.test.ts`],
  },
  {
    name: 'one-row-stops-reader',
    guarantee: 'G10',
    broken: 'A row that cannot be decoded stops the reader.',
    edits: [
      {
        file: `${server}reader/page-size.ts`,
        find: "const isOfData = code.startsWith('22') ||",
        replace: "const isOfData = code.startsWith('99') ||",
      },
    ],
    tests: [`${test}field-cases.test.ts`],
  },
  {
    name: 'follow-up-missing',
    broken: 'The reader reads only once after a notification, while transactions without one are in flight.',
    edits: [
      {
        file: `${server}reader/follow-up.ts`,
        find: 'const pauseMs = (isReplica ? replicaPausesMs : pausesMs)[this.#step];',
        replace: 'const pauseMs = (isReplica ? replicaPausesMs : pausesMs)[this.#step + 100];',
      },
    ],
    tests: [`${test}follow-up.test.ts`],
  },
  {
    name: 'log-gap-unnoticed',
    guarantee: 'G5',
    broken: 'A cursor is resumed although a trigger was missing and events were not logged meanwhile.',
    edits: [
      {
        file: `${server}reader/read-history.ts`,
        find: "if (before === '' || before === this.#triggers) return null;",
        replace: "if (before !== '-' || before === this.#triggers) return null;",
      },
    ],
    tests: [`${test}field-cases.test.ts`],
  },
  {
    name: 'overdue-read-is-fresh',
    guarantee: 'G12',
    broken: 'A server whose read gets no response counts as fresh.',
    edits: [
      {
        file: `${server}reader/freshness.ts`,
        find: "> this.#options.staleAfterMs) return 'read_overdue';",
        replace: "> this.#options.staleAfterMs * 1e6) return 'read_overdue';",
      },
    ],
    tests: [`${test}freshness.test.ts`],
  },
  {
    name: 'lost-privilege-unnoticed',
    guarantee: 'G12',
    broken: 'A server that lost the privilege to read features continues without their state.',
    edits: [
      {
        file: `${server}reader/event-source.ts`,
        find: 'if (before?.hasState === true) refuseForbidden(features);',
        replace: 'if (before?.hasState === false) refuseForbidden(features);',
      },
    ],
    tests: [`${test}field-cases.test.ts`],
  },
  {
    name: 'ids-of-another-cluster',
    guarantee: 'G5',
    broken: 'A log with the transaction ids of another cluster is read like its own.',
    edits: [
      {
        file: `${server}reader/reading-session.ts`,
        find: "if (isOwn === 'true') return;",
        replace: "if (isOwn !== '') return;",
      },
    ],
    tests: [`${test}install-hazards.test.ts`],
  },
  {
    name: 'replication-not-logged',
    guarantee: 'G1',
    broken: 'The triggers do not fire for rows applied by logical replication.',
    edits: [
      {
        file: `${server}install/plan.ts`,
        find: 'ENABLE ALWAYS TRIGGER ${triggerName}',
        replace: 'ENABLE TRIGGER ${triggerName}',
      },
    ],
    tests: [`${test}field-cases.test.ts`],
  },
  {
    name: 'expired-cursor-accepted',
    guarantee: 'G5',
    broken:
      'A client whose cursor is older than the log gets only a part of the missed events, without a resync.',
    edits: [
      {
        file: `${server}replay/missed-events.ts`,
        find: 'expired: BigInt(lows[0] ?? position.xmax.toString()) <= deletedXid,',
        replace: 'expired: BigInt(lows[0] ?? position.xmax.toString()) + deletedXid < 0n,',
      },
    ],
    tests: [`${test}resume.test.ts`],
  },
];

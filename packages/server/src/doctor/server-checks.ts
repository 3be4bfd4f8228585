import pg from 'pg';
import type { Facts } from './facts.js';
import { advice, ok, sql, type Finding } from './finding.js';

const oldestMajor = 14;
const newestTestedMajor = 18;

/** PostgreSQL's version. */
export function checkVersion({ version, versionText }: Facts): Finding {
  const major = Math.floor(version / 10_000);
  const id = 'version';
  if (major < oldestMajor) {
    return {
      id,
      level: 'error',
      what: `PostgreSQL ${versionText}, which is too old`,
      consequence: `Flagcast reads by functions that came with PostgreSQL ${oldestMajor}: it cannot run`,
      mend: advice(`upgrade to PostgreSQL ${oldestMajor} or newer`),
    };
  }
  if (major > newestTestedMajor) {
    return {
      id,
      level: 'note',
      what: `PostgreSQL ${versionText} is newer than those that this Flagcast was tested with`,
      consequence: 'most likely none',
      mend: advice('look for a newer Flagcast'),
    };
  }
  return ok(id, `PostgreSQL ${versionText}`);
}

/** Primary or replica. */
export function checkReplica({ replica }: Facts): Finding {
  if (!replica) return ok('replica', 'a primary');
  return {
    id: 'replica',
    level: 'note',
    what: 'a replica',
    consequence:
      'changes come as late as the replica is, and with the poll unless FLAGCAST_LISTEN_URL leads to the primary; features cannot be changed through it',
    mend: advice(
      'attach to the primary, if its load allows; or set FLAGCAST_LISTEN_URL to the primary, whose notifications then wake the reader',
    ),
  };
}

/** Whether the triggers tell of changes at all. */
export function checkWake({ maxPreparedTransactions, notify, database }: Facts): Finding {
  const id = 'wake';
  const consequence = 'changes come with the next poll (1 s by default) instead of at once';
  const on = sql(`ALTER DATABASE ${pg.escapeIdentifier(database)} SET flagcast.notify = 'on';`);
  if (notify === 'off') {
    return {
      id,
      level: 'note',
      what: "the triggers are silent: flagcast.notify is 'off'",
      consequence,
      mend: on,
    };
  }
  if (notify === 'on') {
    return maxPreparedTransactions === 0
      ? ok(id, 'the triggers tell of changes')
      : ok(
          id,
          "the triggers tell of changes (flagcast.notify is 'on'): a writer that prepares transactions must set it 'off'",
        );
  }
  if (maxPreparedTransactions === 0) return ok(id, 'the triggers tell of changes');
  return {
    id,
    level: 'warning',
    what: `the triggers stay silent, because max_prepared_transactions is ${maxPreparedTransactions}: PostgreSQL refuses to prepare a transaction that has notified`,
    consequence,
    mend: { ...on, text: `${on.text} -- if no writer of these tables prepares its transactions` },
  };
}

/** Whether the database notes when transactions were committed. */
export function checkCommitTimes({ tracksCommitTimes }: Facts): Finding {
  if (tracksCommitTimes) return ok('commit-times', 'commit times are recorded');
  return {
    id: 'commit-times',
    level: 'note',
    what: 'commit times are not recorded (track_commit_timestamp is off)',
    consequence:
      'events do not tell when they were committed, so the delay from there to a screen cannot be measured',
    mend: sql('ALTER SYSTEM SET track_commit_timestamp = on; -- and restart PostgreSQL'),
  };
}

/** What the reader promises. */
export function checkGuarantee({ eventSource, noEventSource, overlapMs }: Facts): Finding {
  const id = 'guarantee';
  if (eventSource === null) {
    return {
      id,
      level: 'error',
      what: `there is nothing to read events from: ${noEventSource}`,
      consequence: 'flagcast serve does not start',
      mend: advice('see above'),
    };
  }
  if (eventSource.guarantee === 'exact') {
    return ok(id, 'exact: every committed event is delivered, however late its transaction commits');
  }
  const seconds = `${overlapMs / 1_000} s`;
  return {
    id,
    level: 'warning',
    what: `overlap: serve reads ${eventSource.name} by created_at and looks back ${seconds}`,
    consequence: `an event is missed if it is committed more than ${seconds} after its created_at`,
    mend: advice('run flagcast install'),
  };
}

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
      message: `PostgreSQL ${versionText} is too old`,
      consequence: `Flagcast needs functions of PostgreSQL ${oldestMajor}: it cannot run`,
      fix: advice(`upgrade to PostgreSQL ${oldestMajor} or newer`),
    };
  }
  if (major > newestTestedMajor) {
    return {
      id,
      level: 'note',
      message: `PostgreSQL ${versionText} is newer than the versions that this Flagcast was tested with`,
      consequence: 'probably none',
      fix: advice('look for a newer Flagcast'),
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
    message: 'a replica',
    consequence:
      'events are delayed by the replication lag, and until the next poll unless FLAGCAST_LISTEN_URL names the primary; features cannot be changed through this server; it cannot delete old rows of the event log',
    fix: advice(
      'attach to the primary, if its load allows; or set FLAGCAST_LISTEN_URL to the primary, whose notifications then wake the reader; and let one server read the primary',
    ),
  };
}

/** Encodings in which each byte has an equivalent in UTF-8. */
const completeEncodings = new Set([
  'UTF8',
  'LATIN1',
  'LATIN2',
  'LATIN4',
  'LATIN5',
  'LATIN9',
  'LATIN10',
  'ISO_8859_5',
  'KOI8R',
]);

/** Whether each text of the database can be converted to UTF-8. */
export function checkEncoding({ encoding }: Facts): Finding {
  const id = 'encoding';
  if (completeEncodings.has(encoding)) return ok(id, encoding);
  return {
    id,
    level: 'note',
    message:
      encoding === 'SQL_ASCII'
        ? 'SQL_ASCII: PostgreSQL does not check which encoding a text has'
        : `${encoding}: some bytes have no equivalent in UTF-8`,
    consequence:
      'an event whose feature has a text that cannot be converted comes without the state of the feature (feature_unreadable); other events are not affected',
    fix: advice('correct the text, or move to a database with the encoding UTF8'),
  };
}

/** Whether the triggers notify the reader. */
export function checkWake({ maxPreparedTransactions, notify, database }: Facts): Finding {
  const id = 'wake';
  const consequence = 'events come with the next poll (1 s by default) instead of at once';
  const on = sql(`ALTER DATABASE ${pg.escapeIdentifier(database)} SET flagcast.notify = 'on';`);
  if (notify === 'off') {
    return {
      id,
      level: 'note',
      message: "the triggers do not notify: flagcast.notify is 'off'",
      consequence,
      fix: on,
    };
  }
  if (notify === 'on') {
    return maxPreparedTransactions === 0
      ? ok(id, 'the triggers notify the reader')
      : ok(
          id,
          "the triggers notify the reader (flagcast.notify is 'on'): a writer that uses PREPARE TRANSACTION must set it to 'off'",
        );
  }
  if (maxPreparedTransactions === 0) return ok(id, 'the triggers notify the reader');
  return {
    id,
    level: 'warning',
    message: `the triggers do not notify, because max_prepared_transactions is ${maxPreparedTransactions}: PREPARE TRANSACTION fails in a transaction that has notified`,
    consequence,
    fix: { ...on, text: `${on.text} -- if no writer of these tables uses PREPARE TRANSACTION` },
  };
}

/** Whether logical replication that writes this database's tables is logged. */
export function checkReplication({ subscriptions, eventSource, state }: Facts): Finding {
  const id = 'replication';
  if (subscriptions === 0) return ok(id, 'no subscription of logical replication writes this database');
  const count = `${subscriptions} subscription${subscriptions === 1 ? '' : 's'} of logical replication`;
  const skipped = state.triggers
    .filter(({ enabled }) => enabled === 'O')
    .map(({ table }) => `public.${table}`);
  if (eventSource?.hasHostTriggers !== true || skipped.length === 0) {
    return ok(id, `${count}: what ${subscriptions === 1 ? 'it writes' : 'they write'} is logged, too`);
  }
  return {
    id,
    level: 'warning',
    message: `${count}, but the triggers on ${skipped.join(', ')} do not fire for what replication writes`,
    consequence: 'changes that arrive by replication are not logged, so they are never delivered',
    fix: sql(skipped.map((table) => `ALTER TABLE ${table} ENABLE ALWAYS TRIGGER flagcast_log;`).join(' ')),
  };
}

/** Whether the database records when transactions were committed. */
export function checkCommitTimes({ tracksCommitTimes }: Facts): Finding {
  if (tracksCommitTimes) return ok('commit-times', 'commit times are recorded');
  return {
    id: 'commit-times',
    level: 'note',
    message: 'commit times are not recorded (track_commit_timestamp is off)',
    consequence: 'events have no committed_at, so the delay from the commit to a screen cannot be measured',
    fix: sql('ALTER SYSTEM SET track_commit_timestamp = on; -- and restart PostgreSQL'),
  };
}

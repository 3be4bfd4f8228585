import pg from 'pg';
import type { Facts } from './facts.js';
import type { EventView } from '../reader/event-view.js';
import { advice, ok, sql, type Finding, type Mend } from './finding.js';

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

/** Who may be late and by how much without being lost. */
export function checkGuarantee(facts: Facts): Finding {
  const { seesActivity, tracksActivities, replica, role, eventView } = facts;
  const id = 'guarantee';
  if (eventView === null) {
    return {
      id,
      level: 'error',
      what: `there is nothing to read events from: ${facts.noEventView}`,
      consequence: 'flagcast serve does not start',
      mend: advice('see above'),
    };
  }
  if (eventView.guarantee === 'overlap') return overlapFinding(facts, eventView);
  if (seesActivity && tracksActivities && !replica) {
    return ok(id, 'exact: every committed event is delivered, however late its transaction commits');
  }
  return {
    id,
    level: replica ? 'note' : 'warning',
    what: `exact, unless a transaction was open for more than an hour before it commits an event: ${hiddenBecause(facts)}`,
    consequence:
      'an event of a transaction that was open for longer is not delivered live; and each read looks an hour back',
    mend: replica
      ? advice('attach to the primary')
      : seesActivity
        ? sql('ALTER SYSTEM SET track_activities = on; SELECT pg_reload_conf();')
        : grantActivity(role),
  };
}

/** A view without transaction ids. */
function overlapFinding(
  { seesActivity, tracksActivities, replica, role, overlapMs }: Facts,
  { name }: EventView,
): Finding {
  const id = 'guarantee';
  const what = `overlap: the view ${name} does not tell which transaction wrote an event`;
  const seconds = `${overlapMs / 1_000} s`;
  const exact = 'run flagcast install, or give the view a column xid';
  if (seesActivity && tracksActivities && !replica) {
    return {
      id,
      level: 'note',
      what: `${what}; serve looks back for ${seconds}, and as far as the oldest open transaction began`,
      consequence: `an event is missed if its created_at is more than ${seconds} older than the transaction that wrote it`,
      mend: advice(exact),
    };
  }
  return {
    id,
    level: 'warning',
    what: `${what}, and ${hiddenBecause({ seesActivity, replica, role })}: serve looks back for ${seconds}`,
    consequence: `an event that is committed more than ${seconds} after its created_at comes late to who is connected, and not at all to who comes back after it; flagcast_late_events_total counts those`,
    mend: replica || seesActivity ? advice(exact) : grantActivity(role, ` -- or ${exact}`),
  };
}

function hiddenBecause({
  replica,
  seesActivity,
  role,
}: Pick<Facts, 'replica' | 'seesActivity' | 'role'>): string {
  if (replica) return 'the sessions that write are on another server';
  return seesActivity
    ? 'sessions do not show what they do (track_activities is off)'
    : `role ${role} may not see since when the transactions of others are open`;
}

function grantActivity(role: string, comment = ''): Mend {
  return sql(`GRANT pg_read_all_stats TO ${pg.escapeIdentifier(role)};${comment}`);
}

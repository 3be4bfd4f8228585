import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { describeError } from '../../describe.js';
import { receivesNotifications } from '../../postgres/notification-check.js';
import { Session } from '../../postgres/session.js';
import { historyStatement } from '../../reader/log-statements.js';
import { roleConnectionLimit } from '../../postgres/database-sessions.js';
import { logChecks } from './log-checks.js';
import { describeSession, readLockHolder, type SessionFacts } from '../install-lock.js';
import {
  advice,
  error,
  note,
  ok,
  queryJson,
  sql,
  warning,
  type Checks,
  type Facts,
  type Result,
} from './facts.js';

const oldestMajor = 14;

/** Clocks that differ by less than this are ok, in milliseconds. */
const tolerableSkewMs = 1_000;
const clockRounds = 3;

/** A notification that takes longer counts as lost, in milliseconds. */
const notificationTimeoutMs = 3_000;

/**
 * Checks that a NOTIFY of one session reaches another session that listens, through the connection strings of the
 * server. A pooler in transaction mode drops notifications without an error.
 */
async function checkListen({
  client,
  replica,
  databaseUrl,
  listenUrl,
  queryTimeoutMs,
}: Facts): Promise<Result> {
  if (replica && listenUrl === null) return ok('not tested: a replica has no notifications');
  const open = async (): Promise<Session> =>
    await Session.open({
      database: { url: listenUrl ?? databaseUrl },
      applicationName: 'flagcast doctor',
      queryTimeoutMs,
      values: 'text',
    });
  const name = listenUrl === null ? 'LISTEN' : 'LISTEN through FLAGCAST_LISTEN_URL';
  let listener: Session | null = null;
  try {
    listener = await open();
    if (listenUrl !== null) {
      const [read, listened] = [await identify(client), await identify(listener)];
      if (read.database !== listened.database) {
        return noNotifications(
          'FLAGCAST_LISTEN_URL leads to another database than DATABASE_URL',
          'set it to the same database, directly on its primary',
        );
      }
      if (listened.replica) {
        return noNotifications(
          'FLAGCAST_LISTEN_URL leads to a replica, which does not support LISTEN',
          'set it to the primary',
        );
      }
    }
    const startedAtMs = performance.now();
    const isReceived = await receivesNotifications(listener, open, {
      channel: `flagcast_doctor_${randomBytes(8).toString('hex')}`,
      timeoutMs: Math.min(queryTimeoutMs, notificationTimeoutMs),
    });
    if (isReceived) return ok(`${name} works (${Math.round(performance.now() - startedAtMs)} ms)`);
    return noNotifications(
      `${name} receives nothing: a pooler in transaction mode drops notifications`,
      `set FLAGCAST_LISTEN_URL to a connection string that bypasses the pooler${listenUrl === null ? '; DATABASE_URL may use it' : ''}`,
    );
  } catch (error) {
    return noNotifications(
      `${name} could not be tested (${describeError(error)})`,
      `resolve the error${listenUrl === null ? '' : ', or correct FLAGCAST_LISTEN_URL'}`,
    );
  } finally {
    listener?.discard();
  }
}

function noNotifications(message: string, fix: string): Result {
  return warning(
    message,
    'the reader is not notified: events arrive with the next poll (1 s by default)',
    advice(fix),
  );
}

/** Identifies the database: the same on a primary and its replicas. Only a primary shows its timeline. */
async function identify(client: pg.Client): Promise<{ database: string | undefined; replica: boolean }> {
  const { rows } = await client.query<[string, string | null]>({ text: historyStatement, rowMode: 'array' });
  return { database: rows[0]?.[0], replica: rows[0]?.[1] === null };
}

/** Encodings in which each byte has an equivalent in UTF-8. */
const completeEncodings = new Set(
  'UTF8 LATIN1 LATIN2 LATIN4 LATIN5 LATIN9 LATIN10 ISO_8859_5 KOI8R'.split(' '),
);

/** The checks that a locked table makes impossible: those of the source of events. */
const skippedChecks = Object.keys(logChecks)
  .filter((id) => id !== 'index')
  .join(', ');

export const serverChecks: Checks = {
  listen: async (facts) => (facts.listen ? await checkListen(facts) : []),
  version: ({ serverVersion, versionText }) => {
    if (serverVersion < oldestMajor * 10_000) {
      return error(
        `PostgreSQL ${versionText} is too old`,
        'flagcast serve does not work',
        advice(`upgrade to PostgreSQL ${oldestMajor} or newer`),
      );
    }
    return ok(`PostgreSQL ${versionText}`);
  },
  replica: ({ replica }) => {
    if (!replica) return ok('a primary');
    return note(
      'a replica',
      'events are delayed by the replication lag and, unless FLAGCAST_LISTEN_URL leads to the primary, until the next poll; this server cannot change features or delete old rows of the event log',
      advice(
        'attach to the primary, or set FLAGCAST_LISTEN_URL to the primary and let one server read the primary',
      ),
    );
  },
  /** Finds the session that has locked a table so that it cannot be read. */
  locks: async ({ client, isLocked, grants }) => {
    const tables = grants.flatMap(({ object }) => /^public\.(.*)/.exec(object)?.[1] ?? []);
    // The only mode that blocks reads. A locked view of the host can have any tables.
    const holder = await readLockHolder(client, {
      tables: isLocked ? null : tables,
      mode: 'AccessExclusiveLock',
    });
    if (!isLocked && holder === null) return [];
    const skipped = isLocked ? `these checks were not possible: ${skippedChecks}; ` : '';
    return error(
      holder === null
        ? 'a table was locked by another session, which has released it'
        : `a table cannot be read: ${holder.name} holds ${holder.lock}`,
      `${skipped}until the lock is released, requests that read the table are answered with 503, and events are late`,
      holder === null
        ? advice('run flagcast doctor again')
        : sql(`${holder.end}; -- its uncommitted changes are lost`),
    );
  },
  /** Compares the sessions that a server may use with the limit of the role and with max_connections. */
  sessions: async ({ client, role, superuser, databaseConnections }) => {
    // roleLimit is -1 without a limit.
    const { available, used, usedByRole, roleLimit } = await queryJson<
      Record<'available' | 'used' | 'usedByRole' | 'roleLimit', number>
    >(
      client,
      `SELECT json_build_object(
      'available', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int,
      'used', (SELECT sum(numbackends) FROM pg_stat_database),
      'usedByRole', (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user),
      'roleLimit', (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_roles WHERE rolname = current_user)
    )::text`,
    );
    const isLimited = roleLimit >= 0;
    const limit = isLimited ? `may have ${roleLimit}` : `has no limit${superuser ? ' (superuser)' : ''}`;
    const message = `a server uses up to ${databaseConnections} sessions; role ${role} ${limit}; ${used} of ${available} sessions of PostgreSQL are in use, ${usedByRole} by this role`;
    const raise = sql(
      `ALTER ROLE ${pg.escapeIdentifier(role)} CONNECTION LIMIT ${Math.max(databaseConnections, roleConnectionLimit)};`,
    );
    if (isLimited && roleLimit < databaseConnections) {
      return warning(
        message,
        'PostgreSQL refuses sessions that the server needs: requests are answered with 503',
        raise,
      );
    }
    if (used - usedByRole + (isLimited ? roleLimit : databaseConnections) > available) {
      return warning(
        message,
        'servers can use all sessions that the host needs',
        advice(
          'raise max_connections, or lower FLAGCAST_DB_CONNECTIONS and the CONNECTION LIMIT of the role',
        ),
      );
    }
    if (isLimited || superuser) return ok(message);
    const consequence = 'only FLAGCAST_DB_CONNECTIONS limits the sessions of each server';
    return note(message, consequence, raise);
  },
  /** Reports the oldest open transaction. */
  transactions: async ({ client, eventSource, oldTransactionMs }) => {
    const oldest = await queryJson<SessionFacts | null>(
      client,
      `SELECT to_json(o)::text FROM (SELECT) AS always LEFT JOIN (
       SELECT pid, NULL AS gid, usename::text AS role, application_name AS application, state,
         extract(epoch FROM clock_timestamp() - xact_start) AS seconds
       FROM pg_stat_activity
       WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
         AND backend_type NOT IN ('autovacuum worker', 'walsender')
       UNION ALL
       SELECT NULL, gid, owner::text, NULL, NULL, extract(epoch FROM clock_timestamp() - prepared)
       FROM pg_prepared_xacts WHERE database = current_database()
       ORDER BY seconds DESC LIMIT 1
     ) AS o ON true`,
    );
    const seconds = oldest?.seconds ?? 0;
    if (oldest === null || seconds * 1_000 < oldTransactionMs) {
      return ok('no other transaction that this role may see is open for a long time');
    }
    const { name, end } = describeSession(oldest);
    const message = `a transaction is open for a long time: ${name}`;
    const fix = sql(`${end}; -- its uncommitted changes are lost`);
    if (eventSource?.guarantee === 'overlap') {
      const consequence = `until this transaction ends, each read repeats the last ${Math.round(seconds)} s`;
      return warning(message, consequence, fix);
    }
    return note(message, 'no event is lost or delayed, but vacuum cannot remove newer dead rows', fix);
  },
  /** Compares the database's clock with this machine's, by the fastest of three queries. */
  clock: async ({ client, now }) => {
    let best = { skewMs: 0, roundTripMs: Infinity };
    for (let round = 0; round < clockRounds; round += 1) {
      const sentAtMs = now();
      const databaseMs = await queryJson<number>(
        client,
        'SELECT to_json(extract(epoch FROM clock_timestamp()) * 1000)::text',
      );
      const receivedAtMs = now();
      const roundTripMs = receivedAtMs - sentAtMs;
      if (roundTripMs < best.roundTripMs) {
        best = { skewMs: databaseMs - (sentAtMs + receivedAtMs) / 2, roundTripMs };
      }
    }
    const skewMs = Math.max(0, Math.abs(best.skewMs) - best.roundTripMs / 2);
    if (skewMs < tolerableSkewMs) {
      return ok('the clocks of the database and of this machine differ by less than a second');
    }
    return warning(
      `the database's clock is ${(skewMs / 1_000).toFixed(1)} s ${best.skewMs > 0 ? 'ahead of' : 'behind'} this machine's`,
      'no event is lost, but measured delays and the expiry of tokens are wrong by this difference',
      advice('synchronize both machines with a time server, e.g. timedatectl set-ntp true'),
    );
  },
  /** Checks whether every text can be converted to UTF-8. */
  encoding: ({ encoding }) => {
    if (completeEncodings.has(encoding)) return ok(encoding);
    return note(
      `${encoding}: a text may have bytes that have no equivalent in UTF-8`,
      'an event whose feature has such a text is delivered without the state of the feature (feature_unreadable); snapshots and other answers have its bytes escaped',
      advice('correct the text, or move to a database with the encoding UTF8'),
    );
  },
  /** Checks whether rows that logical replication writes into this database are logged. */
  replication: ({ subscriptions, eventSource, state }) => {
    if (subscriptions === 0) return ok('no subscription of logical replication writes this database');
    const count = `${subscriptions} subscription${subscriptions === 1 ? '' : 's'} of logical replication`;
    const skipped = state.triggers
      .filter(({ enabled }) => enabled === 'O')
      .map(({ table }) => `public.${table}`);
    if (eventSource?.hasHostTriggers !== true || skipped.length === 0)
      return ok(`${count}: replicated rows are logged`);
    return warning(
      `${count}, but the triggers on ${skipped.join(', ')} do not fire for replicated rows`,
      'replicated changes are not logged, so they are never delivered',
      sql(skipped.map((table) => `ALTER TABLE ${table} ENABLE ALWAYS TRIGGER flagcast_log;`).join(' ')),
    );
  },
  'commit-times': ({ tracksCommitTimes }) => {
    if (tracksCommitTimes) return ok('commit times are recorded');
    return note(
      'commit times are not recorded (track_commit_timestamp is off)',
      'events have no committed_at, so the delay from commit to screen cannot be measured',
      sql('ALTER SYSTEM SET track_commit_timestamp = on; -- and restart PostgreSQL'),
    );
  },
};

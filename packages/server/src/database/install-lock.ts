import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { printable } from '../describe.js';
import { InstallError, toInstallError } from './install-error.js';
import { hostTriggers } from '../host/host-triggers.js';
import { schemaName } from './install-objects.js';
import { backoffMs } from './session.js';
import { inTransaction } from './transaction.js';

/** How install and uninstall wait for the locks of others. */
export interface LockPatience {
  /** How long one attempt waits for a lock, in milliseconds: as long the host's own writes may queue behind it. Default 500. */
  readonly lockTimeoutMs?: number;
  /** How often it is tried, with a pause of a random length up to 4 s in between. Default 5. */
  readonly attempts?: number;
  /** Hears of every attempt that failed and will be followed by another one. Default: nobody. */
  readonly onRetry?: (failure: LockFailure) => void;
}

export interface LockFailure {
  readonly attempt: number;
  readonly attempts: number;
  readonly retryInMs: number;
  /** Who holds the lock, as far as the database tells; else that somebody does. */
  readonly holder: string;
}

/** Any two numbers that no host is likely to use: they name the lock that installers take turns with. */
const installerLock = [1_179_404_103, 1] as const;
const defaultLockTimeoutMs = 500;
const defaultAttempts = 5;

/** What every transaction of an installer begins with: names resolve in pg_catalog only. */
export function openingStatements(lockTimeoutMs = defaultLockTimeoutMs): string[] {
  return [
    `SET LOCAL lock_timeout = '${lockTimeoutMs}ms';`,
    'SET LOCAL search_path = pg_catalog, pg_temp;',
    `SELECT pg_advisory_xact_lock(${installerLock.join(', ')});`,
  ];
}

/**
 * Runs `work` in one transaction of `client`, in which installers take turns and waits for locks are
 * short (a waiting ALTER blocks the host's own queries behind it). Where a lock is not to be had it is
 * tried again, all of it. Throws InstallError: then nothing has changed.
 */
export async function asInstaller<Result>(
  client: pg.ClientBase,
  patience: LockPatience,
  work: () => Promise<Result>,
): Promise<Result> {
  const { lockTimeoutMs, attempts = defaultAttempts, onRetry } = patience;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await inTransaction(client, async () => {
        for (const statement of openingStatements(lockTimeoutMs)) await client.query(statement);
        return await work();
      });
    } catch (error) {
      const failure = toInstallError(error);
      if (failure.code !== 'locked') throw failure;
      const { text, mend } = await describeHolder(client);
      if (attempt >= attempts) {
        throw new InstallError(
          'locked',
          `Nothing was changed, because ${text} in the way (${attempts} attempts). Try again at a quieter moment${mend}.`,
          { cause: error },
        );
      }
      const retryInMs = backoffMs(attempt, 500, 4_000);
      onRetry?.({ attempt, attempts, retryInMs, holder: text });
      await delay(retryInMs);
    }
  }
}

/**
 * Reading (ACCESS SHARE, ROW SHARE) is in the way of DROP only; whoever writes is so of CREATE
 * TRIGGER as well, and is named first.
 */
const holderStatement = `
SELECT l.pid, x.gid, a.usename::text AS role, a.application_name AS application, a.state,
  floor(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)))::int AS seconds,
  coalesce(n.nspname || '.' || c.relname, '') AS relation
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
-- A prepared transaction has no process; the lock on its own id tells which one it is.
LEFT JOIN pg_catalog.pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
  AND own.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
WHERE l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (
    (l.locktype = 'advisory' AND l.classid = ${installerLock[0]} AND l.objid = ${installerLock[1]})
    OR (l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', '${schemaName}')
      AND (c.relname = ANY ($1::text[]) OR n.nspname = '${schemaName}'))
  )
ORDER BY l.mode IN ('AccessShareLock', 'RowShareLock'), coalesce(a.xact_start, x.prepared), l.pid
LIMIT 1`;

interface Holder {
  readonly pid: number | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly seconds: number | null;
  readonly relation: string;
}

/** Who is in the way, asked after the attempt: by then it may have gone. */
async function describeHolder(client: pg.ClientBase): Promise<{ text: string; mend: string }> {
  const unknown = { text: 'a lock that is needed was held by somebody else, who was', mend: '' };
  try {
    const { rows } = await client.query<Holder>(holderStatement, [hostTriggers.map(({ table }) => table)]);
    const [holder] = rows;
    if (holder === undefined) return unknown;
    const lock = holder.relation === '' ? 'the lock of another install' : `a lock on ${holder.relation}`;
    if (holder.pid === null) {
      const gid = printable(holder.gid ?? '');
      return {
        text: `the prepared transaction ${JSON.stringify(gid)}, which holds ${lock}, is`,
        mend: `, or end it: COMMIT PREPARED or ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`,
      };
    }
    const known = [
      holder.role === null ? '' : `role ${holder.role}`,
      (holder.application ?? '') === '' ? '' : `application ${String(holder.application)}`,
      holder.state ?? '',
      holder.seconds === null ? '' : `for ${holder.seconds} s`,
    ].filter((part) => part !== '');
    return {
      text: printable(`process ${holder.pid} (${known.join(', ')}), which holds ${lock}, is`),
      mend: `, or end it: SELECT pg_terminate_backend(${holder.pid})`,
    };
  } catch {
    // Only a nicety of the message; what matters is that the lock was not to be had.
    return unknown;
  }
}

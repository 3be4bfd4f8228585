import type pg from 'pg';
import { printable } from '../describe.js';
import { retry } from '../retry.js';
import { InstallError, toInstallError } from './install-error.js';
import { hostTriggers } from '../host/host-triggers.js';
import { schemaName } from './objects.js';
import { inTransaction } from '../postgres/transaction.js';

/** How install and uninstall wait for the locks of others. */
export interface LockWait {
  /** How long an attempt waits for each lock, in milliseconds. The host's own writes queue behind it meanwhile. Default 500. */
  readonly lockTimeoutMs?: number;
  /** The number of attempts, with a random pause of up to 4 s in between. Default 5. */
  readonly attempts?: number;
  /** Called after each failed attempt that is followed by another one. Default: nothing. */
  readonly onRetry?: (failure: LockFailure) => void;
}

export interface LockFailure {
  readonly attempt: number;
  readonly attempts: number;
  readonly retryInMs: number;
  /** Describes the session that holds the lock, as far as it is known. */
  readonly holder: string;
}

/** The key of the advisory lock of installers. A host is unlikely to use these numbers. */
const installerLock = [1_179_404_103, 1] as const;
const defaultLockTimeoutMs = 500;
const defaultAttempts = 5;

/** The first statements of an installer's transaction: names resolve in pg_catalog only. */
export function openingStatements(lockTimeoutMs = defaultLockTimeoutMs): string[] {
  return [
    `SET LOCAL lock_timeout = '${lockTimeoutMs}ms';`,
    'SET LOCAL search_path = pg_catalog, pg_temp;',
    `SELECT pg_advisory_xact_lock(${installerLock.join(', ')});`,
  ];
}

/**
 * Runs `work` in one transaction of `client`. Only one installer runs at a time, and waits for locks are short,
 * because a waiting ALTER blocks the host's own queries behind it. Retries all of it after a lock time-out. Throws
 * InstallError: then nothing has changed.
 */
export async function asInstaller<Result>(
  client: pg.ClientBase,
  patience: LockWait,
  work: () => Promise<Result>,
): Promise<Result> {
  const { lockTimeoutMs, attempts = defaultAttempts, onRetry } = patience;
  return await retry(
    async () =>
      await inTransaction(client, async () => {
        for (const statement of openingStatements(lockTimeoutMs)) await client.query(statement);
        return await work();
      }),
    {
      baseMs: 500,
      capMs: 4_000,
      onRetry: async ({ error, attempt, retryInMs }) => {
        const failure = toInstallError(error);
        if (failure.code !== 'locked') throw failure;
        const { text, fix } = await describeHolder(client);
        if (attempt >= attempts) {
          throw new InstallError(
            'locked',
            `Nothing was changed, because ${text} in the way (${attempts} attempts). Try again later${fix}.`,
            { cause: error },
          );
        }
        onRetry?.({ attempt, attempts, retryInMs, holder: text });
      },
    },
  );
}

/**
 * Sessions that read (ACCESS SHARE, ROW SHARE) block DROP only. Sessions that write block CREATE TRIGGER as well, and
 * are named first.
 */
const holderStatement = `
SELECT l.pid::text, x.gid, a.usename::text AS role, a.application_name AS application, a.state,
  floor(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)))::int::text AS seconds,
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
      AND ($1::text[] IS NULL OR c.relname = ANY ($1) OR n.nspname = '${schemaName}'))
  )
  AND ($2::text IS NULL OR l.mode = $2)
ORDER BY l.mode IN ('AccessShareLock', 'RowShareLock'), coalesce(a.xact_start, x.prepared), l.pid
LIMIT 1`;

interface Holder {
  readonly pid: string | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly seconds: string | null;
  readonly relation: string;
}

/** A session or prepared transaction that holds a lock. The texts are safe to print. */
export interface LockHolder {
  /** E.g. `process 4711 (role app, application psql, idle in transaction, for 14 s)`. */
  readonly name: string;
  /** E.g. `a lock on public.audit_log`. */
  readonly lock: string;
  /** The SQL that ends it. */
  readonly endStatement: string;
}

/**
 * The holder of a lock on one of these tables of the host (null: any), or on one of Flagcast's; with `mode` only of such
 * a lock. Null if there is none any more.
 */
export async function readLockHolder(
  client: pg.ClientBase,
  {
    tables,
    mode,
  }: { readonly tables: readonly string[] | null; readonly mode: 'AccessExclusiveLock' | null },
): Promise<LockHolder | null> {
  const { rows } = await client.query<Holder>(holderStatement, [tables, mode]);
  const [holder] = rows;
  if (holder === undefined) return null;
  const lock = holder.relation === '' ? 'the lock of another install' : `a lock on ${holder.relation}`;
  if (holder.pid === null) {
    const gid = printable(holder.gid ?? '');
    return {
      name: `the prepared transaction ${JSON.stringify(gid)}`,
      lock: printable(lock),
      endStatement: `ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`,
    };
  }
  const known = [
    holder.role === null ? '' : `role ${holder.role}`,
    (holder.application ?? '') === '' ? '' : `application ${String(holder.application)}`,
    holder.state ?? '',
    holder.seconds === null ? '' : `for ${holder.seconds} s`,
  ].filter((part) => part !== '');
  return {
    name: printable(`process ${holder.pid} (${known.join(', ')})`),
    lock: printable(lock),
    endStatement: `SELECT pg_terminate_backend(${holder.pid})`,
  };
}

/** Describes the session that holds the lock. It may have ended since the attempt. */
async function describeHolder(client: pg.ClientBase): Promise<{ text: string; fix: string }> {
  const unknown = { text: 'another session that held a lock was', fix: '' };
  try {
    const holder = await readLockHolder(client, {
      tables: hostTriggers.map(({ table }) => table),
      mode: null,
    });
    if (holder === null) return unknown;
    const { name, lock, endStatement } = holder;
    const commit = endStatement.startsWith('ROLLBACK') ? 'COMMIT PREPARED or ' : '';
    return { text: `${name}, which holds ${lock}, is`, fix: `, or end it: ${commit}${endStatement}` };
  } catch {
    // Only details of the message are missing.
    return unknown;
  }
}

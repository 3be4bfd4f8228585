import type pg from 'pg';
import { printable } from '../describe.js';
import { hostTriggers } from '../host/host-triggers.js';
import { inTransaction } from '../postgres/statements.js';
import { retry } from '../retry.js';
import { InstallError, isLocked, toInstallError } from './refusals.js';
import { schemaName } from './sql-files.js';

/** How install and uninstall wait for locks of other sessions. */
export interface LockWait {
  /** How long an attempt waits for each lock, in milliseconds. The host's own writes wait behind it. Default 500. */
  readonly lockTimeoutMs?: number;
  /** The number of attempts, with a random pause of up to 4 s in between. Default 5. */
  readonly attempts?: number;
  /** Called after each failed attempt before a retry. Default: nothing. */
  readonly onRetry?: (failure: LockFailure) => void;
}

export interface LockFailure {
  readonly attempt: number;
  readonly attempts: number;
  readonly retryInMs: number;
  /** The session that holds the lock, and the lock, e.g. `process 4711 (role app) holds a lock on public.audit_log`. */
  readonly holder: string;
}

/** The key of the advisory lock of installers. A host is unlikely to use these numbers. */
const installerLock = [1_179_404_103, 1] as const;
const defaultLockTimeoutMs = 500;
const defaultAttempts = 5;

/**
 * The first statements of an installer's transaction: names resolve in pg_catalog only. As a replica's session its rows in
 * Flagcast's tables would be dropped, like those that replication writes.
 */
export function openingStatements(lockTimeoutMs = defaultLockTimeoutMs): string[] {
  return [
    `SET LOCAL lock_timeout = '${lockTimeoutMs}ms';`,
    'SET LOCAL search_path = pg_catalog, pg_temp;',
    "SELECT set_config('session_replication_role', 'origin', true) WHERE current_setting('session_replication_role') <> 'origin';",
    `SELECT pg_advisory_xact_lock(${installerLock.join(', ')});`,
  ];
}

/**
 * Runs `work` in one transaction of `client`, one installer at a time. Waits for locks are short, because the host's
 * queries wait behind an ALTER that waits. Retries the transaction after a lock time-out. Throws InstallError: then
 * nothing has changed.
 */
export async function asInstaller<Result>(
  client: pg.ClientBase,
  { lockTimeoutMs, attempts = defaultAttempts, onRetry }: LockWait,
  work: () => Promise<Result>,
): Promise<Result> {
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
        if (!isLocked(error)) throw toInstallError(error);
        const { text, fix } = await describeHolder(client);
        if (attempt >= attempts) {
          throw new InstallError(
            `Nothing was changed after ${attempts} attempts, because ${text}. Try again later${fix}.`,
            { cause: error },
          );
        }
        onRetry?.({ attempt, attempts, retryInMs, holder: text });
      },
    },
  );
}

/** A session of pg_stat_activity, or a prepared transaction. */
export interface SessionFacts {
  /** Null for a prepared transaction. */
  readonly pid: number | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  /** The age of its transaction. */
  readonly seconds: number | null;
}

/** A session in a printable text, e.g. `process 4711 (role app, idle in transaction, for 14 s)`, and the SQL that ends it. */
export function describeSession(session: SessionFacts): { readonly name: string; readonly end: string } {
  const { pid, role, application, state, seconds } = session;
  const gid = printable(session.gid ?? '');
  const details = [
    role === null ? '' : `role ${role}`,
    (application ?? '') === '' ? '' : `application ${String(application)}`,
    state ?? '',
    seconds === null ? '' : `for ${Math.floor(seconds)} s`,
  ].filter((part) => part !== '');
  const subject = pid === null ? `prepared transaction ${JSON.stringify(gid)}` : `process ${pid}`;
  return {
    name: printable(details.length === 0 ? subject : `${subject} (${details.join(', ')})`),
    end:
      pid === null
        ? `ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`
        : `SELECT pg_terminate_backend(${pid})`,
  };
}

/**
 * The holder of a lock. Sessions that read (ACCESS SHARE, ROW SHARE) block DROP only; sessions that write also block
 * CREATE TRIGGER and come first.
 */
const holderStatement = `
SELECT json_build_object(
  'pid', l.pid, 'gid', x.gid, 'role', coalesce(a.usename, x.owner), 'application', a.application_name, 'state', a.state,
  'seconds', extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)),
  'lock', coalesce('a lock on ' || n.nspname || '.' || c.relname, 'the lock of another install')
)::text AS holder
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_class c ON l.locktype = 'relation' AND c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
-- A prepared transaction has no process; the lock on its own id identifies it.
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

/**
 * The holder of a lock on one of these tables of the host (null: any table) or on one of Flagcast's; with `mode` only of
 * a lock in that mode. Null if the lock has been released.
 */
export async function readLockHolder(
  client: pg.ClientBase,
  {
    tables,
    mode,
  }: { readonly tables: readonly string[] | null; readonly mode: 'AccessExclusiveLock' | null },
): Promise<{ readonly name: string; readonly lock: string; readonly end: string } | null> {
  const { rows } = await client.query<{ holder: string }>(holderStatement, [tables, mode]);
  if (rows[0] === undefined) return null;
  const holder = JSON.parse(rows[0].holder) as SessionFacts & { readonly lock: string };
  return { ...describeSession(holder), lock: printable(holder.lock) };
}

async function describeHolder(client: pg.ClientBase): Promise<{ text: string; fix: string }> {
  const tables = hostTriggers.map(({ table }) => table);
  // Without an answer the message only lacks details.
  const holder = await readLockHolder(client, { tables, mode: null }).catch(() => null);
  if (holder === null) return { text: 'another session held a lock', fix: '' };
  const commit = holder.end.startsWith('ROLLBACK') ? 'COMMIT PREPARED or ' : '';
  return { text: `${holder.name} holds ${holder.lock}`, fix: `, or end it: ${commit}${holder.end}` };
}

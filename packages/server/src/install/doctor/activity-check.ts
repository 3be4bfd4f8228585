import pg from 'pg';
import { printable } from '../../describe.js';
import { askJson, type Facts } from './facts.js';
import { ok, sql, type Finding } from './finding.js';

interface OpenTransaction {
  readonly pid: number | null;
  readonly gid: string | null;
  readonly role: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly ageMs: number;
  readonly writes: boolean;
}

/** The oldest open transaction, and the oldest one that has written. */
export async function checkTransactions(
  client: pg.ClientBase,
  { replica, readsStats, role, eventSource }: Facts,
  oldAfterMs: number,
): Promise<Finding[]> {
  const open = await askJson<OpenTransaction[]>(
    client,
    `SELECT coalesce(json_agg(o ORDER BY o."ageMs" DESC), '[]')::text FROM (
       SELECT pid, NULL AS gid, usename::text AS role, application_name AS application, state,
         extract(epoch FROM clock_timestamp() - xact_start) * 1000 AS "ageMs", backend_xid IS NOT NULL AS writes
       FROM pg_stat_activity
       WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
         AND backend_type NOT IN ('autovacuum worker', 'walsender')
       UNION ALL
       SELECT NULL, gid, owner::text, NULL, 'prepared', extract(epoch FROM clock_timestamp() - prepared) * 1000, true
       FROM pg_prepared_xacts WHERE database = current_database()
     ) AS o`,
  );
  const old = open.filter(({ ageMs }) => ageMs >= oldAfterMs);
  const writer = old.find(({ writes }) => writes);
  const reader = old.find(({ writes }) => !writes);
  const isExact = eventSource?.guarantee !== 'overlap';
  const findings = [writer, reader]
    .filter((each) => each !== undefined)
    .map((each) => describe(each, isExact));
  if (findings.length > 0) return findings;
  const oldest = open[0];
  const limit = replica ? ' on this replica' : readsStats ? '' : `, as far as role ${role} may see`;
  return [
    ok(
      'transactions',
      oldest === undefined
        ? `no other transaction is open${limit}`
        : `the oldest open transaction is ${(oldest.ageMs / 1_000).toFixed(1)} s old${limit}`,
    ),
  ];
}

function describe(transaction: OpenTransaction, isExact: boolean): Finding {
  const { pid, gid, role, application, state, ageMs, writes } = transaction;
  const age = `${Math.round(ageMs / 1_000)} s`;
  const owner = [`role ${role ?? 'unknown'}`, application ?? '', state ?? ''].filter((part) => part !== '');
  const name =
    pid === null ? `the prepared transaction ${JSON.stringify(gid)}` : `the transaction of process ${pid}`;
  return {
    id: 'transactions',
    level: isExact ? 'note' : 'warning',
    message: printable(
      `${name} (${owner.join(', ')}) has been open for ${age}${writes ? ' and has written' : ''}`,
    ),
    consequence: isExact
      ? `no event is lost and no other event is delayed; ${writes ? 'its own events are delivered when it commits, until then the reader reads up to six more times after each event, and ' : ''}vacuum cannot remove rows that were deleted since it began`
      : `every read looks back for ${age}, until it ends`,
    fix: sql(
      pid === null
        ? `ROLLBACK PREPARED ${pg.escapeLiteral(gid ?? '')}; -- or COMMIT PREPARED, to keep its changes`
        : `SELECT pg_terminate_backend(${pid}); -- its uncommitted changes are lost`,
    ),
  };
}

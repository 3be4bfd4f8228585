import pg from 'pg';
import { printable } from '../describe.js';
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

/** The transactions that hold the next read back: the oldest that has written, and the oldest of all. */
export async function checkTransactions(
  client: pg.ClientBase,
  { replica }: Facts,
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
  const findings = [writer, reader].filter((each) => each !== undefined).map(describe);
  if (findings.length > 0) return findings;
  const oldest = open[0];
  const unseen = replica ? ', as far as a replica shows' : '';
  return [
    ok(
      'transactions',
      oldest === undefined
        ? `no other transaction is open${unseen}`
        : `the oldest open transaction is ${(oldest.ageMs / 1_000).toFixed(1)} s old${unseen}`,
    ),
  ];
}

function describe(transaction: OpenTransaction): Finding {
  const { pid, gid, role, application, state, ageMs, writes } = transaction;
  const age = `${Math.round(ageMs / 1_000)} s`;
  const owner = [`role ${role ?? 'unknown'}`, application ?? '', state ?? ''].filter((part) => part !== '');
  const name =
    pid === null ? `the prepared transaction ${JSON.stringify(gid)}` : `the transaction of process ${pid}`;
  return {
    id: 'transactions',
    level: 'warning',
    what: printable(
      `${name} (${owner.join(', ')}) has been open for ${age}${writes ? ' and has written' : ''}`,
    ),
    consequence: writes
      ? 'nothing is lost, but every read reads again what was written since it began, until it ends'
      : `nothing is lost, but every read looks back for ${age}, until it ends`,
    mend: sql(
      pid === null
        ? `ROLLBACK PREPARED ${pg.escapeLiteral(gid ?? '')}; -- or COMMIT PREPARED, if it is to be kept`
        : `SELECT pg_terminate_backend(${pid}); -- what it has not committed is lost`,
    ),
  };
}

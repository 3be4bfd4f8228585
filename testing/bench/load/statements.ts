import type pg from 'pg';

/**
 * Returns the number of executions since the reset of each statement, by its id. `matches`: only of statements that match
 * this regular expression. Needs the extension pg_stat_statements.
 */
export async function countCalls(client: pg.Client, matches = ''): Promise<ReadonlyMap<string, number>> {
  const { rows } = await client.query<{ id: string; calls: number }>(
    `SELECT queryid::text AS id, sum(calls)::integer AS calls FROM pg_stat_statements
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND query NOT LIKE '%pg_stat_statements%' AND query ~* $1 GROUP BY queryid`,
    [matches],
  );
  return new Map(rows.map(({ id, calls }) => [id, calls]));
}

/** @import pg from 'pg' */

/**
 * Number of executions of a statement since `reset`.
 *
 * @typedef {{ readonly id: string, readonly query: string, readonly calls: number }} StatementCount
 */

/** PostgreSQL settings that counting needs. */
export const countingSettings = { shared_preload_libraries: 'pg_stat_statements' };

/**
 * @param {pg.Client} client of the database whose statements are counted
 */
export async function startCounting(client) {
  await client.query('CREATE EXTENSION pg_stat_statements');
  return {
    reset: async () => {
      await client.query('SELECT pg_stat_statements_reset()');
    },
    /** @returns {Promise<readonly StatementCount[]>} */
    counts: async () => {
      /** @type {pg.QueryResult<StatementCount>} */
      const { rows } = await client.query(
        `SELECT queryid::text AS id, min(query) AS query, sum(calls)::integer AS calls FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND query NOT LIKE '%pg_stat_statements%'
         GROUP BY queryid ORDER BY calls DESC`,
      );
      return rows;
    },
  };
}

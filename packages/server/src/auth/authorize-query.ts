import type pg from 'pg';
import type { SessionSource } from '../postgres/session-pool.js';
import type { ChannelSource } from './callback-authorization.js';

/**
 * A query of the host over its own tables: one parameter `$1`, the users as text[]; the columns user_id, project_id,
 * environment_id, environment_key, of any type, and optionally project_name and environment_name. Each lookup is a
 * READ ONLY transaction.
 */
export function querySource(pool: SessionSource, sql: string): ChannelSource {
  return {
    name: 'FLAGCAST_AUTHORIZE_SQL',
    find: async (userIds, projectIds) => {
      // No user has an id that PostgreSQL's text cannot hold.
      const values: unknown[] = [userIds.filter((userId) => !userId.includes('\0'))];
      if (projectIds !== null) values.push(projectIds);
      const condition = projectIds === null ? '' : 'AND a.project_id::text = ANY ($2::text[])';
      return await pool.use(
        async (session) => (await queryReadOnly(session, channelStatement(sql, condition), values)).rows,
      );
    },
  };
}

/** Throws the error of PostgreSQL if the query cannot be prepared, lacks a column or would write. */
export async function checkAuthorizeQuery(client: pg.ClientBase, sql: string): Promise<void> {
  await queryReadOnly(client, channelStatement(sql, ''), [[]]);
}

/**
 * The conditions are outside of the host's query: PostgreSQL pushes them down where it can, and they hold where the
 * query leaves them out. `asked` comes first, so that `$1` is text[] wherever it is used.
 */
function channelStatement(sql: string, condition: string): string {
  return `SELECT a.user_id::text AS "userId", a.project_id::text AS "projectId",
  a.environment_id::text AS "environmentId", a.environment_key::text AS "environmentKey",
  to_jsonb(a) ->> 'project_name' AS "projectName", to_jsonb(a) ->> 'environment_name' AS "environmentName"
FROM (SELECT $1::text[] AS users) asked, (
${sql.replace(/[;\s]+$/, '')}
) a
WHERE a.user_id::text = ANY (asked.users) ${condition}`;
}

/** If this rejects, the session is still in the transaction. */
async function queryReadOnly(
  client: pg.ClientBase,
  statement: string,
  values: unknown[],
): Promise<pg.QueryResult<object>> {
  await client.query('BEGIN READ ONLY');
  const result = await client.query<object>(statement, values);
  await client.query('COMMIT');
  return result;
}

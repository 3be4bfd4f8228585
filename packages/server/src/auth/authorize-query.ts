import type pg from 'pg';
import type { SessionSource } from '../postgres/session-pool.js';
import type { ChannelSource } from './callback-authorization.js';

/** How the setting is called in what people read. */
const name = 'FLAGCAST_AUTHORIZE_SQL';

/**
 * The channels by a query of the host, over its own tables: one parameter `$1`, the users as text[],
 * and the columns user_id, project_id, environment_id, environment_key, of any type, and where it
 * has them project_name and environment_name. Each look-up is a READ ONLY transaction of its own.
 */
export function queriedChannels(pool: SessionSource, sql: string): ChannelSource {
  const ofUsers = statement(sql, '');
  const ofProjects = statement(sql, 'AND a.project_id::text = ANY ($2::text[])');
  return {
    name,
    find: async (userIds, projectIds) => {
      // Nobody has an id that PostgreSQL's text cannot hold.
      const asked = userIds.filter((userId) => !userId.includes('\0'));
      return await pool.use(
        async (session) =>
          await readOnly(session, async () => {
            const { rows } =
              projectIds === null
                ? await session.query<object>(ofUsers, [asked])
                : await session.query<object>(ofProjects, [asked, projectIds]);
            return rows;
          }),
      );
    },
  };
}

/**
 * Throws what PostgreSQL says where the query cannot be prepared, lacks a column or would write.
 */
export async function checkAuthorizeQuery(client: pg.ClientBase, sql: string): Promise<void> {
  await readOnly(client, async () => await client.query(statement(sql, ''), [[]]));
}

/**
 * The conditions stand outside of the host's query: PostgreSQL pushes them down where it can, and they
 * hold where the query leaves them out. `asked` comes first, so that `$1` is text[] wherever it is used.
 */
function statement(sql: string, condition: string): string {
  return `SELECT a.user_id::text AS "userId", a.project_id::text AS "projectId",
  a.environment_id::text AS "environmentId", a.environment_key::text AS "environmentKey",
  to_jsonb(a) ->> 'project_name' AS "projectName", to_jsonb(a) ->> 'environment_name' AS "environmentName"
FROM (SELECT $1::text[] AS users) asked, (
${sql.replace(/[;\s]+$/, '')}
) a
WHERE a.user_id::text = ANY (asked.users) ${condition}`;
}

/** The session is still in the transaction when this rejects. */
async function readOnly<Result>(client: pg.ClientBase, work: () => Promise<Result>): Promise<Result> {
  await client.query('BEGIN READ ONLY');
  const result = await work();
  await client.query('COMMIT');
  return result;
}

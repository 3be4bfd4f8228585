import type pg from 'pg';
import type { Identity } from './user-claim.js';
import { Rights } from '../host/rights.js';
import type { Lifecycle } from '../lifecycle.js';
import { isUndecodable } from '../postgres/errors.js';
import { findExpressible, isAscii, QueryBatcher } from '../postgres/query-batcher.js';
import type { SessionSource } from '../postgres/session-pool.js';
import {
  ApprovalsScope,
  type Authorization,
  type Channel,
  type ChannelRefusal,
  type ChannelRequest,
  type User,
  type Viewer,
  viewerKey,
  type VisibleProject,
} from './authorization.js';
import { type Authorize, type AuthorizedChannel, channelSchema, withTimeout } from './host-callbacks.js';

/** Finds the channels of users: a function of the host, or its query. */
export interface ChannelSource {
  /** For errors. */
  readonly name: string;
  /** With project ids, channels of other projects may be left out. */
  find(userIds: readonly string[], projectIds: readonly string[] | null): Promise<unknown>;
}

interface Question {
  readonly userId: string;
  /** Null: all projects. */
  readonly projectId: string | null;
}

export function functionSource(authorize: Authorize): ChannelSource {
  return { name: 'authorize()', find: async (userIds) => await authorize(userIds) };
}

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
      const users = userIds.filter((userId) => !userId.includes('\0'));
      const query = async (
        some: readonly string[],
        projects: readonly string[] | null,
      ): Promise<object[]> => {
        const condition = projects === null ? '' : 'AND a.project_id::text = ANY ($2::text[])';
        const values = projects === null ? [some] : [some, projects];
        return await pool.use(
          async (session) => (await queryReadOnly(session, channelStatement(sql, condition), values)).rows,
        );
      };
      let projects = projectIds;
      if (projects?.every(isAscii) === false) {
        try {
          return await query(users, projects);
        } catch (error) {
          if (!isUndecodable(error)) throw error;
          // Or the id of a user.
          projects = null;
        }
      }
      return await findExpressible(
        users,
        (userId) => userId,
        async (some) => await query(some, projects),
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
  await client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY');
  const result = await client.query<object>(statement, values);
  await client.query('COMMIT');
  return result;
}

/**
 * Authorization by a list of the channels of each user, from the host. There are no other rights, and a user cannot
 * learn whether a project exists that they may not see. Nothing is cached; lookups at the same time are combined.
 */
export class CallbackAuthorization implements Authorization {
  readonly #source: ChannelSource;
  readonly #lifecycle: Lifecycle;
  /** The channels by user. */
  readonly #batcher = new QueryBatcher(async (questions: readonly Question[]) => {
    const userIds = [...new Set(questions.map(({ userId }) => userId))];
    const projectIds = [...new Set(questions.map(({ projectId }) => projectId))].filter((id) => id !== null);
    const isAboutAll = questions.some(({ projectId }) => projectId === null);
    const byUser = new Map(userIds.map((userId): [string, AuthorizedChannel[]] => [userId, []]));
    for (const channel of await this.#find(userIds, isAboutAll ? null : projectIds)) {
      byUser.get(channel.userId)?.push(channel);
    }
    return byUser;
  });
  #hasWarned = false;

  constructor(source: ChannelSource, lifecycle: Lifecycle) {
    this.#source = source;
    this.#lifecycle = lifecycle;
  }

  /** Every user of a valid token exists: there is no table of users. */
  findUser({ user, username }: Pick<Identity, 'user' | 'username'>): Promise<User | null> {
    const [id = ''] = Object.values<string>(user);
    return Promise.resolve({ id, username: username ?? id, active: true, superuser: false });
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    const { projectId } = wanted;
    // No project has an id that PostgreSQL's text cannot hold.
    if (projectId.includes('\0')) return 'forbidden';
    const channels = (await this.#channelsOf(userId, projectId)).filter(
      (channel) => channel.projectId === projectId,
    );
    if (channels.length === 0) return 'forbidden';
    const found = channels.find((channel) =>
      'environmentKey' in wanted
        ? channel.environmentKey === wanted.environmentKey
        : channel.environmentId === wanted.environmentId,
    );
    if (found === undefined) return 'unknown_environment';
    const { environmentId, environmentKey } = found;
    return { projectId, environmentId, environmentKey };
  }

  async recheck(viewers: readonly Viewer[]): Promise<Set<string>> {
    const userIds = [...new Set(viewers.map(({ userId }) => userId))];
    if (userIds.length === 0) return new Set();
    return new Set((await this.#find(userIds, null)).map(viewerKey));
  }

  async approvalsScopes(userIds: readonly string[]): Promise<Map<string, ApprovalsScope>> {
    const scopes = userIds.map(async (userId): Promise<[string, ApprovalsScope]> => [
      userId,
      new ApprovalsScope({ channels: await this.#channelsOf(userId, null) }),
    ]);
    return new Map(await Promise.all(scopes));
  }

  async visibleProjects(userId: string): Promise<VisibleProject[]> {
    const projects = new Map<string, Map<string, AuthorizedChannel>>();
    for (const channel of await this.#channelsOf(userId, null)) {
      const environments = projects.get(channel.projectId) ?? new Map<string, AuthorizedChannel>();
      projects.set(channel.projectId, environments);
      if (!environments.has(channel.environmentId)) environments.set(channel.environmentId, channel);
    }
    return [...projects]
      .map(([id, environments]): [string, AuthorizedChannel[]] => [id, [...environments.values()]])
      .map(([id, channels]) => ({
        id,
        name: channels.find(({ projectName }) => projectName)?.projectName ?? id,
        environments: channels.map(({ environmentId, environmentKey, environmentName }) => ({
          id: environmentId,
          key: environmentKey,
          name: environmentName ?? environmentKey,
        })),
      }))
      .sort((one, other) => compare(one.name, other.name) || compare(one.id, other.id));
  }

  async rightsOf(userId: string): Promise<Rights> {
    const projects = await this.visibleProjects(userId);
    return new Rights({
      id: userId,
      username: userId,
      superuser: false,
      granted: Object.fromEntries(projects.map(({ id }) => [id, ['project.view']])),
      environments: Object.fromEntries(
        projects.map((project) => [project.id, project.environments.map(({ id }) => id)]),
      ),
    });
  }

  async #channelsOf(userId: string, projectId: string | null): Promise<AuthorizedChannel[]> {
    return (await this.#batcher.ask({ userId, projectId })).get(userId) ?? [];
  }

  /** Ignores rows that are not channels, or of other users: this can only take rights away. */
  async #find(userIds: readonly string[], projectIds: string[] | null): Promise<AuthorizedChannel[]> {
    const { name } = this.#source;
    const rows = await withTimeout(name, async () => await this.#source.find(userIds, projectIds));
    if (!Array.isArray(rows)) throw new Error(`${name} did not return a list of channels`);
    const channels = rows.flatMap((row) => channelSchema.safeParse(row).data ?? []);
    if (channels.length < rows.length && !this.#hasWarned) {
      this.#hasWarned = true;
      this.#lifecycle.emit('access:rows-ignored', { source: name, rows: rows.length - channels.length });
    }
    const asked = new Set(userIds);
    return channels.filter(({ userId }) => asked.has(userId));
  }
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}

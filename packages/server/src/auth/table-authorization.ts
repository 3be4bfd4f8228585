import { readRights, type Rights } from '../host/rights.js';
import { findExpressible, isAscii, QueryBatcher } from '../postgres/query-batcher.js';
import type { Queries } from '../postgres/session-pool.js';
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
import type { Identity, TokenUser } from './user-claim.js';

type UserColumn = 'id' | 'username' | 'email';

interface UserQuestion {
  readonly column: UserColumn;
  readonly value: string;
}

/** Values that PostgreSQL's types accept; null where a value of the client cannot exist. */
interface ChannelQuestion {
  readonly userId: string | null;
  readonly projectId: string;
  readonly environmentKey: string | null;
  readonly environmentId: string | null;
}

interface ChannelRow extends Omit<Channel, 'environmentId'> {
  readonly position: number;
  readonly allowed: boolean;
  /** Null where the project has no such environment. */
  readonly environmentId: string | null;
}

/** Whether a row `viewer` of users may see a row `project` of projects. */
const mayView = `viewer.is_active AND (
  viewer.is_superuser OR EXISTS (
    SELECT FROM public.memberships membership
    JOIN public.role_permissions granted ON granted.role_id = membership.role_id
    JOIN public.permissions permission ON permission.id = granted.permission_id
    WHERE membership.user_id = viewer.id
      AND membership.project_id = project.id
      AND permission.key = 'project.view'
  )
)`;

/**
 * SQL for whether a user has one of the values. The first condition on a text uses the host's index. The second compares
 * all characters, also in a column of citext or with a collation that ignores case: an issuer may have both spellings as
 * different users.
 */
function userCondition(column: UserColumn, values: string): string {
  if (column === 'id') return `u.id = ANY (${values}::bigint[])`;
  return `u.${column} = ANY (${values}::text[]) AND u.${column}::text COLLATE "C" = ANY (${values}::text[])`;
}

const channelStatement = `
SELECT asked.position::integer AS position, viewer.id IS NOT NULL AS allowed,
  project.id::text AS "projectId", e.id::text AS "environmentId", e.key::text AS "environmentKey"
FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::bigint[])
  WITH ORDINALITY AS asked (user_id, project_id, key, id, position)
JOIN public.projects project ON project.id = asked.project_id AND project.archived_at IS NULL
LEFT JOIN public.environments e ON e.project_id = project.id AND (e.key::text = asked.key OR e.id = asked.id)
LEFT JOIN public.users viewer ON viewer.id = asked.user_id AND ${mayView}`;

const recheckStatement = `
SELECT asked.position::integer AS position
FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS asked (user_id, project_id, position)
JOIN public.users viewer ON viewer.id = asked.user_id
JOIN public.projects project ON project.id = asked.project_id AND project.archived_at IS NULL
WHERE ${mayView}`;

/** Set by set, because a subquery for each of thousands of users would read their memberships one by one. */
const scopesStatement = `
WITH environments AS MATERIALIZED (
  SELECT environment.project_id, string_agg(environment.id::text || ' ' || environment.key, ',' ORDER BY environment.id) AS keys
  FROM public.environments environment GROUP BY environment.project_id
)
SELECT viewer.id::text AS "userId",
  CASE WHEN viewer.is_superuser THEN (
    SELECT coalesce(json_agg(project.id::text), '[]') FROM public.projects project WHERE project.archived_at IS NOT NULL
  ) END AS archived,
  CASE WHEN viewer.is_superuser THEN (
    SELECT md5(string_agg(environments.keys, ';' ORDER BY environments.project_id)) FROM environments
  ) END AS environments,
  coalesce(json_object_agg(granted.project_id, granted.roles) FILTER (WHERE granted.project_id IS NOT NULL), '{}') AS projects
FROM public.users viewer
LEFT JOIN (
  SELECT membership.user_id, membership.project_id,
    array_to_json(array_agg(DISTINCT membership.role_id::text || ' ' || permission.key) || min(environments.keys)) AS roles
  FROM public.memberships membership
  JOIN public.role_permissions given ON given.role_id = membership.role_id
  JOIN public.permissions permission ON permission.id = given.permission_id
    AND permission.key IN ('project.view', 'project.manage', 'feature.manage')
  JOIN public.projects project ON project.id = membership.project_id AND project.archived_at IS NULL
  LEFT JOIN environments ON environments.project_id = project.id
  WHERE membership.user_id = ANY ($1::bigint[])
  GROUP BY membership.user_id, membership.project_id
  HAVING bool_or(permission.key = 'project.view')
) granted ON granted.user_id = viewer.id
WHERE viewer.is_active AND viewer.id = ANY ($1::bigint[])
GROUP BY viewer.id`;

const projectsStatement = `
SELECT project.id::text AS id, project.name::text AS name,
  coalesce(
    (
      SELECT json_agg(
        json_build_object('id', environment.id::text, 'key', environment.key, 'name', environment.name)
        ORDER BY environment.id
      )
      FROM public.environments environment
      WHERE environment.project_id = project.id
    ),
    '[]'
  ) AS environments
FROM public.projects project
JOIN public.users viewer ON viewer.id = $1::bigint
WHERE project.archived_at IS NULL AND ${mayView}
ORDER BY project.name, project.id`;

/** Asks questions at the same time, without those whose text the encoding of the database does not have. */
function expressibleBatcher<Question, Key, Answer>(
  textOf: (question: Question) => string | null,
  find: (questions: readonly Question[]) => Promise<Map<Key, Answer>>,
): QueryBatcher<Question, Map<Key, Answer>> {
  return new QueryBatcher(async (questions: readonly Question[]) => {
    const found = await findExpressible(questions, textOf, async (some) => [...(await find(some))]);
    return new Map(found);
  });
}

/**
 * Authorization by Togglr's tables: users, memberships and roles. Questions that come at the same time share one query;
 * no result is cached. Methods reject only with the errors of the pool.
 */
export class TableAuthorization implements Authorization {
  readonly #pool: Queries;
  readonly #users = expressibleBatcher(
    ({ value }: UserQuestion) => value,
    async (questions) => await this.#findUsers(questions),
  );
  readonly #channels = expressibleBatcher(
    ({ environmentKey }: ChannelQuestion) => environmentKey,
    async (questions) => await this.#findChannels(questions),
  );

  readonly #scopes = new QueryBatcher(
    async (questions: readonly (readonly string[])[]) => await this.#findScopes(questions.flat()),
  );

  constructor(pool: Queries) {
    this.#pool = pool;
  }

  async findUser({ user }: Pick<Identity, 'user'>): Promise<User | null> {
    const [column, value] = userKeyOf(user);
    if (value === null) return null;
    const found = (await this.#users.ask({ column, value })).get(`${column} ${value}`) ?? [];
    // The host's column may have no unique index.
    return found.length === 1 ? (found[0] ?? null) : null;
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    const projectId = parseUuid(wanted.projectId);
    if (projectId === null) return 'unknown_project';
    const question: ChannelQuestion = {
      userId: parseBigint(userId),
      projectId,
      environmentKey: 'environmentKey' in wanted ? parseText(wanted.environmentKey) : null,
      environmentId: 'environmentId' in wanted ? parseBigint(wanted.environmentId) : null,
    };
    const found = (await this.#channels.ask(question)).get(question);
    if (found !== undefined) return found;
    // The database may have the project, and no such key in its encoding.
    return isAscii(question.environmentKey ?? '')
      ? 'unknown_project'
      : await this.openChannel(userId, { projectId, environmentId: '' });
  }

  async recheck(viewers: readonly Viewer[]): Promise<Set<string>> {
    const asked = viewers.filter(
      ({ userId, projectId }) => parseBigint(userId) !== null && parseUuid(projectId) !== null,
    );
    if (asked.length === 0) return new Set();
    const { rows } = await this.#pool.query<{ position: number }>(recheckStatement, [
      asked.map(({ userId }) => userId),
      asked.map(({ projectId }) => projectId),
    ]);
    const allowed = new Set(rows.map(({ position }) => position - 1));
    return new Set(asked.filter((_, index) => allowed.has(index)).map(viewerKey));
  }

  async approvalsScopes(userIds: readonly string[]): Promise<Map<string, ApprovalsScope>> {
    return await this.#scopes.ask(userIds);
  }

  /** Without archived projects; environments by id. */
  async visibleProjects(userId: string): Promise<VisibleProject[]> {
    const id = parseBigint(userId);
    if (id === null) return [];
    return (await this.#pool.query<VisibleProject>(projectsStatement, [id])).rows;
  }

  /** Throws HttpProblem if the user does not exist any more or is not active. */
  async rightsOf(userId: string, projectId?: string): Promise<Rights> {
    return await readRights(this.#pool, userId, projectId ?? null);
  }

  /** The users by `column value`. */
  async #findUsers(questions: readonly UserQuestion[]): Promise<Map<string, User[]>> {
    const values = new Map<UserColumn, Set<string>>();
    for (const { column, value } of questions) {
      values.set(column, (values.get(column) ?? new Set()).add(value));
    }
    const selects = [...values.keys()].map(
      (column, index) => `
SELECT '${column} ' || u.${column}::text AS key, json_build_object(
  'id', u.id::text, 'username', u.username::text, 'active', u.is_active, 'superuser', u.is_superuser
) AS user FROM public.users u WHERE ${userCondition(column, `$${index + 1}`)}`,
    );
    const { rows } = await this.#pool.query<{ key: string; user: User }>(
      selects.join('\nUNION ALL\n'),
      [...values.values()].map((each) => [...each]),
    );
    const users = new Map<string, User[]>();
    for (const { key, user } of rows) users.set(key, [...(users.get(key) ?? []), user]);
    return users;
  }

  async #findScopes(userIds: readonly string[]): Promise<Map<string, ApprovalsScope>> {
    const { rows } = await this.#pool.query<{
      userId: string;
      archived: string[] | null;
      environments: string | null;
      projects: Record<string, string[]>;
    }>(scopesStatement, [[...new Set(userIds)].filter((userId) => parseBigint(userId) !== null)]);
    return new Map(
      rows.map(({ userId, archived, environments, projects }) => [
        userId,
        new ApprovalsScope(archived === null ? { projects } : { archived, environments: environments ?? '' }),
      ]),
    );
  }

  async #findChannels(
    questions: readonly ChannelQuestion[],
  ): Promise<Map<ChannelQuestion, Channel | ChannelRefusal>> {
    const { rows } = await this.#pool.query<ChannelRow>(channelStatement, [
      questions.map(({ userId }) => userId),
      questions.map(({ projectId }) => projectId),
      questions.map(({ environmentKey }) => environmentKey),
      questions.map(({ environmentId }) => environmentId),
    ]);
    const answers = new Map<ChannelQuestion, Channel | ChannelRefusal>();
    // Connections keep the channel: those of one environment share the object.
    const channels = new Map<string, Channel>();
    for (const { position, allowed, environmentId, ...names } of rows) {
      const question = questions[position - 1];
      if (question === undefined) continue;
      if (!allowed) answers.set(question, 'forbidden');
      else if (environmentId === null) answers.set(question, 'unknown_environment');
      else {
        const channel = channels.get(environmentId) ?? { environmentId, ...names };
        channels.set(environmentId, channel);
        answers.set(question, channel);
      }
    }
    return answers;
  }
}

function userKeyOf(user: TokenUser): [UserColumn, string | null] {
  if ('id' in user) return ['id', parseBigint(user.id)];
  return 'username' in user ? ['username', parseText(user.username)] : ['email', parseText(user.email)];
}

function parseUuid(text: string): string | null {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text) ? text : null;
}

function parseBigint(text: string): string | null {
  if (!/^\d{1,19}$/.test(text)) return null;
  const value = BigInt(text);
  return value >= 2n ** 63n ? null : value.toString();
}

/** Text of PostgreSQL holds every character but NUL. */
function parseText(text: string): string | null {
  return text.includes('\0') ? null : text;
}

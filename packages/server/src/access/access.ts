import type { Pool } from 'pg';
import { readRights, type Rights } from '../changes/rights.js';
import {
  type Authority,
  type ChannelRefusal,
  type Viewer,
  viewerKey,
  type VisibleProject,
} from './authority.js';
import type { Identity } from './token.js';

/** One environment of one project, as the database spells its ids. */
export interface Channel {
  readonly projectId: string;
  readonly environmentId: string;
  readonly environmentKey: string;
}

export type ChannelRequest =
  | { readonly projectId: string; readonly environmentKey: string }
  | { readonly projectId: string; readonly environmentId: string };

export interface User {
  readonly id: string;
  readonly username: string;
  /** An inactive user may see nothing. */
  readonly active: boolean;
  readonly superuser: boolean;
}

const CHANNEL_CACHE_MS = 5_000;
const MAX_BIGINT = 2n ** 63n - 1n;

/** The one rule of who may see what, over a row `viewer` of users and a row `project` of projects. */
const MAY_VIEW = `viewer.is_active AND (
  viewer.is_superuser OR EXISTS (
    SELECT FROM public.memberships membership
    JOIN public.role_permissions granted ON granted.role_id = membership.role_id
    JOIN public.permissions permission ON permission.id = granted.permission_id
    WHERE membership.user_id = viewer.id
      AND membership.project_id = project.id
      AND permission.key = 'project.view'
  )
)`;

const PAIRS_THAT_MAY_VIEW = `
SELECT pair.position::integer AS position
FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS pair (user_id, project_id, position)
JOIN public.users viewer ON viewer.id = pair.user_id
JOIN public.projects project ON project.id = pair.project_id
WHERE ${MAY_VIEW}`;

const VISIBLE_PROJECTS = `
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
WHERE project.archived_at IS NULL AND ${MAY_VIEW}
ORDER BY project.name, project.id`;

function channelStatement(condition: string): string {
  return `
SELECT project.id::text AS project_id, environment.id::text AS environment_id, environment.key::text AS environment_key
FROM public.projects project
LEFT JOIN public.environments environment ON environment.project_id = project.id AND ${condition}
WHERE project.id = $1::uuid`;
}

function userStatement(condition: string): string {
  return `
SELECT id::text AS id, username::text AS username, is_active AS active, is_superuser AS superuser
FROM public.users
WHERE ${condition}`;
}

/**
 * Who may see what by Togglr's tables: users, memberships and roles. Equal questions that are under way at the same
 * time share one query. Nothing that decides a permission is kept after its query. A method
 * rejects only with the pool's errors: the database is away, a query timed out, a table is
 * missing.
 */
export class Access implements Authority {
  readonly #pool: Pool;
  readonly #underWay = new Map<string, Promise<unknown>>();
  /** By question, oldest first. What was not found is not kept: it may be made the next moment. */
  readonly #channels = new Map<string, { readonly channel: Channel; readonly staleAtMs: number }>();

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** The channel of a request, at most five seconds old. Archived projects keep their channels. */
  async resolveChannel(
    request: ChannelRequest,
  ): Promise<Channel | 'unknown_project' | 'unknown_environment'> {
    const projectId = parseUuid(request.projectId);
    if (projectId === null) return 'unknown_project';
    const byKey = 'environmentKey' in request;
    const environment = byKey ? parseText(request.environmentKey) : parseBigint(request.environmentId);
    // A malformed environment of an unknown project is still an unknown project: ask for none.
    const condition = byKey ? 'environment.key = $2::text' : 'environment.id = $2::bigint';

    const question = JSON.stringify(['channel', byKey, projectId, environment]);
    const cached = this.#channels.get(question);
    if (cached !== undefined && performance.now() < cached.staleAtMs) return cached.channel;
    return await this.#share(question, async () => {
      const { rows } = await this.#pool.query<{
        project_id: string;
        environment_id: string | null;
        environment_key: string | null;
      }>(channelStatement(condition), [projectId, environment]);
      const row = rows[0];
      if (row === undefined) return 'unknown_project';
      if (row.environment_id === null || row.environment_key === null) return 'unknown_environment';
      const channel: Channel = {
        projectId: row.project_id,
        environmentId: row.environment_id,
        environmentKey: row.environment_key,
      };
      this.#remember(question, channel);
      return channel;
    });
  }

  /** The user whom a token names; null if there is none: then refuse the token like a bad one. */
  async findUser(identity: Pick<Identity, 'user'>): Promise<User | null> {
    const byId = 'id' in identity.user;
    const value = 'id' in identity.user ? parseBigint(identity.user.id) : parseText(identity.user.username);
    if (value === null) return null;
    return await this.#share(JSON.stringify(['user', byId, value]), async () => {
      const condition = byId ? 'id = $1::bigint' : 'username = $1::text';
      const { rows } = await this.#pool.query<User>(userStatement(condition), [value]);
      return rows[0] ?? null;
    });
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    const channel = await this.resolveChannel(wanted);
    if (channel === 'unknown_project') return channel;
    return (await this.mayView(userId, wanted.projectId)) ? channel : 'forbidden';
  }

  /** Whether the project exists and the user is active and a superuser or a member with `project.view`. */
  async mayView(userId: string, projectId: string): Promise<boolean> {
    return await this.#share(JSON.stringify(['view', userId, projectId]), async () => {
      const [allowed] = await this.#mayView([{ userId, projectId }]);
      return allowed === true;
    });
  }

  /** A role counts in a whole project, so each pair of a user and a project is asked for once. */
  async recheck(viewers: readonly Viewer[]): Promise<Set<string>> {
    const pairs = new Map(
      viewers.map(({ userId, projectId }) => [JSON.stringify([userId, projectId]), { userId, projectId }]),
    );
    const answers = await this.#mayView([...pairs.values()]);
    const allowed = new Set([...pairs.keys()].filter((_, index) => answers[index]));
    return new Set(
      viewers
        .filter(({ userId, projectId }) => allowed.has(JSON.stringify([userId, projectId])))
        .map(viewerKey),
    );
  }

  /** For each pair whether it may view now, by one query for all of them. */
  async #mayView(pairs: readonly { userId: string; projectId: string }[]): Promise<boolean[]> {
    const asked = pairs.flatMap((pair, index) => {
      const userId = parseBigint(pair.userId);
      const projectId = parseUuid(pair.projectId);
      return userId === null || projectId === null ? [] : [{ userId, projectId, index }];
    });
    const answers = pairs.map(() => false);
    if (asked.length === 0) return answers;
    const { rows } = await this.#pool.query<{ position: number }>(PAIRS_THAT_MAY_VIEW, [
      asked.map((pair) => pair.userId),
      asked.map((pair) => pair.projectId),
    ]);
    for (const { position } of rows) {
      const index = asked[position - 1]?.index;
      if (index !== undefined) answers[index] = true;
    }
    return answers;
  }

  /** The projects that the user may view, without archived ones, by name; environments by id. */
  async visibleProjects(userId: string): Promise<VisibleProject[]> {
    const value = parseBigint(userId);
    if (value === null) return [];
    return await this.#share(JSON.stringify(['projects', value]), async () => {
      const { rows } = await this.#pool.query<VisibleProject>(VISIBLE_PROJECTS, [value]);
      return rows;
    });
  }

  /** Throws ChangeRefusedError where the user does not exist (any more) or is not active. */
  async rightsOf(userId: string, projectId?: string): Promise<Rights> {
    return await readRights(this.#pool, userId, projectId ?? null);
  }

  /** `question` names the method too, so that an answer always has the type that its asker expects. */
  async #share<Answer>(question: string, ask: () => Promise<Answer>): Promise<Answer> {
    const underWay = this.#underWay.get(question) as Promise<Answer> | undefined;
    if (underWay !== undefined) return await underWay;
    const answer = ask().finally(() => this.#underWay.delete(question));
    this.#underWay.set(question, answer);
    return await answer;
  }

  #remember(question: string, channel: Channel): void {
    const nowMs = performance.now();
    for (const [oldQuestion, { staleAtMs }] of this.#channels) {
      if (staleAtMs > nowMs) break;
      this.#channels.delete(oldQuestion);
    }
    this.#channels.delete(question);
    this.#channels.set(question, { channel, staleAtMs: nowMs + CHANNEL_CACHE_MS });
  }
}

function parseUuid(text: string): string | null {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text) ? text.toLowerCase() : null;
}

function parseBigint(text: string): string | null {
  if (!/^\d{1,19}$/.test(text)) return null;
  const value = BigInt(text);
  return value > MAX_BIGINT ? null : value.toString();
}

/** PostgreSQL's text holds every character but this one. */
function parseText(text: string): string | null {
  return text.includes('\0') ? null : text;
}

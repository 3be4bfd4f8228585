import type { Queries } from '../postgres/session-pool.js';
import { readRights, type Rights } from '../host/rights.js';
import {
  type Authorization,
  type ChannelRefusal,
  type Viewer,
  viewerKey,
  type VisibleProject,
} from './authorization.js';
import { HostDirectory, MAY_VIEW } from '../host/host-directory.js';
import type { Identity } from './token-verifier.js';

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

/**
 * Who may see what by Togglr's tables: users, memberships and roles. Questions that come at the same
 * time share one query. Nothing that decides a permission is kept after its query. A method
 * rejects only with the pool's errors: the database is away, a query timed out, a table is
 * missing.
 */
export class TableAuthorization implements Authorization {
  readonly #pool: Queries;
  readonly #lookUps: HostDirectory;
  readonly #underWay = new Map<string, Promise<unknown>>();
  /** By question, oldest first. What was not found is not kept: it may be made the next moment. */
  readonly #channels = new Map<string, { readonly channel: Channel; readonly staleAtMs: number }>();
  /** How often the channels were forgotten. */
  #generation = 0;

  constructor(pool: Queries) {
    this.#pool = pool;
    this.#lookUps = new HostDirectory(pool);
  }

  /** The channel of a request, at most five seconds old. Archived projects have none. */
  async resolveChannel(
    request: ChannelRequest,
  ): Promise<Channel | 'unknown_project' | 'unknown_environment'> {
    const projectId = parseUuid(request.projectId);
    if (projectId === null) return 'unknown_project';
    const byKey = 'environmentKey' in request;
    const environment = byKey ? parseText(request.environmentKey) : parseBigint(request.environmentId);

    const question = JSON.stringify([byKey, projectId, environment]);
    const cached = this.#channels.get(question);
    if (cached !== undefined && performance.now() < cached.staleAtMs) return cached.channel;
    const generation = this.#generation;
    // A malformed environment of an unknown project is still an unknown project: ask for none.
    const about = byKey ? 'channel_by_key' : 'channel_by_id';
    const found = await this.#lookUps.channel(about, projectId, environment);
    if (found === null) return 'unknown_project';
    const { environmentId, environmentKey } = found;
    if (environmentId === null || environmentKey === null) return 'unknown_environment';
    const channel: Channel = { projectId: found.projectId, environmentId, environmentKey };
    // The answer may be older than the change for which the channels were forgotten.
    return generation === this.#generation ? this.#remember(question, channel) : channel;
  }

  /** Environments or projects have changed: every channel is looked up again. */
  forgetChannels(): void {
    this.#generation += 1;
    this.#channels.clear();
  }

  /** The user whom a token names; null if there is none, or more than one: then refuse the token like a bad one. */
  async findUser(identity: Pick<Identity, 'user'>): Promise<User | null> {
    const { user } = identity;
    if ('id' in user) {
      const id = parseBigint(user.id);
      return id === null ? null : await this.#lookUps.user('user_by_id', id);
    }
    const about = 'username' in user ? 'user_by_name' : 'user_by_email';
    const text = parseText('username' in user ? user.username : user.email);
    return text === null ? null : await this.#lookUps.user(about, text);
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    const [channel, allowed] = await Promise.all([
      this.resolveChannel(wanted),
      this.mayView(userId, wanted.projectId),
    ]);
    if (channel === 'unknown_project') return channel;
    return allowed ? channel : 'forbidden';
  }

  /** Whether the project exists and the user is active and a superuser or a member with `project.view`. */
  async mayView(userId: string, projectId: string): Promise<boolean> {
    const pair = parsePair({ userId, projectId });
    return pair !== null && (await this.#lookUps.mayView(pair.userId, pair.projectId));
  }

  /** A role counts in a whole project, so each pair of a user and a project is asked for once. */
  async recheck(viewers: readonly Viewer[]): Promise<Set<string>> {
    const pairs = new Map(
      viewers.flatMap(({ userId, projectId }) => {
        const pair = parsePair({ userId, projectId });
        return pair === null ? [] : [[JSON.stringify([userId, projectId]), pair]];
      }),
    );
    const answers = await this.#lookUps.mayViewEach([...pairs.values()]);
    const allowed = new Set([...pairs.keys()].filter((_, index) => answers[index]));
    return new Set(
      viewers
        .filter(({ userId, projectId }) => allowed.has(JSON.stringify([userId, projectId])))
        .map(viewerKey),
    );
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

  /** Throws HttpProblem where the user does not exist (any more) or is not active. */
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

  /** Who asked together gets the same object: thousands of connections keep it. */
  #remember(question: string, channel: Channel): Channel {
    const nowMs = performance.now();
    for (const [oldQuestion, { staleAtMs }] of this.#channels) {
      if (staleAtMs > nowMs) break;
      this.#channels.delete(oldQuestion);
    }
    const known = this.#channels.get(question)?.channel;
    if (known?.environmentId === channel.environmentId && known.environmentKey === channel.environmentKey) {
      return known;
    }
    this.#channels.delete(question);
    this.#channels.set(question, { channel, staleAtMs: nowMs + CHANNEL_CACHE_MS });
    return channel;
  }
}

interface Pair {
  readonly userId: string;
  readonly projectId: string;
}

/** As PostgreSQL's types take them; null where one of the two cannot exist. */
function parsePair(pair: Pair): Pair | null {
  const userId = parseBigint(pair.userId);
  const projectId = parseUuid(pair.projectId);
  return userId === null || projectId === null ? null : { userId, projectId };
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

import { Rights } from '../host/rights.js';
import type { Lifecycle } from '../lifecycle.js';
import type { Channel, ChannelRequest, User } from './table-authorization.js';
import {
  type Authorization,
  type ChannelRefusal,
  type Viewer,
  viewerKey,
  type VisibleProject,
} from './authorization.js';
import type { Authorize, AuthorizedChannel } from './authorize.js';
import { QueryBatcher } from '../postgres/query-batcher.js';
import { withTimeout } from './with-timeout.js';
import type { Identity } from './token-verifier.js';

/** Where the channels are looked up. */
export interface ChannelSource {
  /** Names the source in an error. */
  readonly name: string;
  /** Those of these users; with projects, those of others may be left out. */
  find(userIds: readonly string[], projectIds: readonly string[] | null): Promise<unknown>;
}

interface Asked {
  readonly userId: string;
  readonly projectId: string | null;
}

/** The source that a function of the host is. */
export function hostChannels(authorize: Authorize): ChannelSource {
  return { name: 'authorize()', find: async (userIds) => await authorize(userIds) };
}

/**
 * Who may see what by a list of channels for each user, which the host gives. There are no other
 * rights, and nobody learns whether a project exists that they may not see. The list is asked for
 * each time; those who ask at the same time are asked for together.
 */
export class CallbackAuthorization implements Authorization {
  readonly #source: ChannelSource;
  readonly #lifecycle: Lifecycle;
  /** By user; a project of null is all of them. */
  readonly #gathered: QueryBatcher<Asked, Map<string, AuthorizedChannel[]>>;
  #hasWarned = false;

  constructor(source: ChannelSource, lifecycle: Lifecycle) {
    this.#source = source;
    this.#lifecycle = lifecycle;
    this.#gathered = new QueryBatcher(async (questions) => {
      const userIds = new Set(questions.map(({ userId }) => userId));
      const projectIds = new Set(questions.flatMap(({ projectId }) => projectId ?? []));
      const isAboutAll = questions.some(({ projectId }) => projectId === null);
      const found = await this.#find([...userIds], isAboutAll ? null : [...projectIds]);
      const byUser = new Map([...userIds].map((userId): [string, AuthorizedChannel[]] => [userId, []]));
      for (const channel of found) byUser.get(channel.userId)?.push(channel);
      return byUser;
    });
  }

  /** Whom a token names exists: there is no table that could say otherwise. */
  findUser({ user, username }: Pick<Identity, 'user' | 'username'>): Promise<User | null> {
    // Users of the host's own are identified by one text, whatever it is.
    const [id = ''] = Object.values<string>(user);
    return Promise.resolve({ id, username: username ?? id, active: true, superuser: false });
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    const { projectId } = wanted;
    // PostgreSQL's text holds every character but this one: no project has it in its id.
    if (projectId.includes('\0')) return 'forbidden';
    const mine = await this.#ask({ userId, projectId });
    const ofProject = mine.filter((channel) => channel.projectId === projectId);
    if (ofProject.length === 0) return 'forbidden';
    const found = ofProject.find((channel) =>
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

  async visibleProjects(userId: string): Promise<VisibleProject[]> {
    const projects = new Map<string, { name: string | null; environments: Map<string, AuthorizedChannel> }>();
    for (const channel of await this.#ask({ userId, projectId: null })) {
      let project = projects.get(channel.projectId);
      if (project === undefined) {
        project = { name: null, environments: new Map() };
        projects.set(channel.projectId, project);
      }
      project.name ??= textOf(channel.projectName);
      if (!project.environments.has(channel.environmentId)) {
        project.environments.set(channel.environmentId, channel);
      }
    }
    return [...projects]
      .map(([id, { name, environments }]) => ({
        id,
        name: name ?? id,
        environments: [...environments.values()].map(
          ({ environmentId, environmentKey, environmentName }) => ({
            id: environmentId,
            key: environmentKey,
            name: textOf(environmentName) ?? environmentKey,
          }),
        ),
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

  async #ask(asked: Asked): Promise<AuthorizedChannel[]> {
    return (await this.#gathered.ask(asked)).get(asked.userId) ?? [];
  }

  async #find(userIds: readonly string[], projectIds: string[] | null): Promise<AuthorizedChannel[]> {
    const { name } = this.#source;
    const rows = await withTimeout(name, async () => await this.#source.find(userIds, projectIds));
    return this.#check(rows, new Set(userIds));
  }

  /** What is no channel, or somebody else's, is left out: it can only take rights away. */
  #check(rows: unknown, userIds: ReadonlySet<string>): AuthorizedChannel[] {
    const { name } = this.#source;
    if (!Array.isArray(rows)) throw new Error(`${name} did not answer a list of channels`);
    const channels = rows.filter(isChannel);
    if (channels.length < rows.length && !this.#hasWarned) {
      this.#hasWarned = true;
      this.#lifecycle.emit('access:rows-ignored', { source: name, rows: rows.length - channels.length });
    }
    return channels.filter(({ userId }) => userIds.has(userId));
  }
}

function isChannel(row: unknown): row is AuthorizedChannel {
  if (typeof row !== 'object' || row === null) return false;
  const { userId, projectId, environmentId, environmentKey } = row as Partial<AuthorizedChannel>;
  return [userId, projectId, environmentId, environmentKey].every(
    (value) => typeof value === 'string' && value !== '',
  );
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}

import { hash } from 'node:crypto';
import type { Rights } from '../host/rights.js';
import type { Identity } from './user-claim.js';

/** One environment of one project, with the ids as the database writes them. */
export interface Channel {
  readonly projectId: string;
  readonly environmentId: string;
  readonly environmentKey: string;
}

export type ChannelRequest =
  | { readonly projectId: string; readonly environmentKey: string }
  | { readonly projectId: string; readonly environmentId: string };

/** A channel, or the approvals feed with the id of the scope that the client knows. */
export type SubscriptionRequest =
  | ChannelRequest
  | { readonly feed: 'approvals'; readonly scope: string | null };

export interface User {
  readonly id: string;
  readonly username: string;
  /** An inactive user may see nothing. */
  readonly active: boolean;
  readonly superuser: boolean;
}

export interface VisibleProject {
  readonly id: string;
  readonly name: string;
  readonly environments: readonly { readonly id: string; readonly key: string; readonly name: string }[];
}

/** A user who is connected to a channel. */
export interface Viewer {
  readonly userId: string;
  readonly projectId: string;
  readonly environmentId: string;
}

/** The key of a viewer in the result of `Authorization.recheck`. */
export function viewerKey({ userId, projectId, environmentId }: Viewer): string {
  return JSON.stringify([userId, projectId, environmentId]);
}

/** The ids of a channel. */
export type ChannelIds = Pick<Channel, 'projectId' | 'environmentId'>;

/**
 * What a user may view: every project but the archived ones, projects with all of their environments, or single
 * environments.
 */
export type Viewable =
  | { readonly archived: readonly string[]; readonly environments: string }
  /** Each project with the user's roles in it, their permissions, which decide who may approve, and its environments. */
  | { readonly projects: Readonly<Record<string, readonly string[]>> }
  | { readonly channels: readonly Channel[] };

/** Which channels a user's approvals feed contains. */
export class ApprovalsScope {
  readonly viewable: Viewable;
  /**
   * Equal for equal scopes. A user with other roles or permissions in a project has another scope, and so has one whose
   * environments have other keys. Clients get it with the snapshot, and send it back to resume.
   */
  readonly id: string;
  readonly #ids: ReadonlySet<string>;

  constructor(viewable: Viewable) {
    this.viewable = viewable;
    let key: unknown[];
    if ('archived' in viewable) {
      this.#ids = new Set(viewable.archived);
      key = [viewable.environments, ...viewable.archived.toSorted()];
    } else if ('projects' in viewable) {
      this.#ids = new Set(Object.keys(viewable.projects));
      key = Object.entries(viewable.projects).toSorted(byFirst);
    } else {
      this.#ids = new Set(viewable.channels.map(idOf));
      key = viewable.channels.map((channel) => idOf(channel) + channel.environmentKey).toSorted();
    }
    this.id = hash('sha256', JSON.stringify(key), 'base64url').slice(0, 22);
  }

  /** The parallel parameters of a query: projects, and an environment of each or null for all; both null: all projects that are not archived. */
  get parameters(): { projectIds: string[] | null; environmentIds: (string | null)[] | null } {
    if ('archived' in this.viewable) return { projectIds: null, environmentIds: null };
    if ('projects' in this.viewable) {
      const projectIds = Object.keys(this.viewable.projects);
      return { projectIds, environmentIds: projectIds.map(() => null) };
    }
    const { channels } = this.viewable;
    return {
      projectIds: channels.map(({ projectId }) => projectId),
      environmentIds: channels.map(({ environmentId }) => environmentId),
    };
  }

  includes({ projectId, environmentId }: ChannelIds): boolean {
    if ('archived' in this.viewable) return !this.#ids.has(projectId);
    return this.#ids.has('projects' in this.viewable ? projectId : idOf({ projectId, environmentId }));
  }
}

function idOf({ projectId, environmentId }: ChannelIds): string {
  return JSON.stringify([projectId, environmentId]);
}

function byFirst([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number {
  return one < other ? -1 : 1;
}

/** Why a channel is not opened. */
export type ChannelRefusal = 'unknown_project' | 'forbidden' | 'unknown_environment';

/**
 * Decides which user may see which channel. Ids from clients are opaque strings: an id that cannot exist is unknown,
 * never an error. Methods reject if the database or the host does not answer.
 */
export interface Authorization {
  /** The user of a token or a session; null if there is none, or more than one. */
  findUser(identity: Pick<Identity, 'user' | 'username'>): Promise<User | null>;
  /** The channel, if the user may see it now. */
  openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal>;
  /** The `viewerKey`s of the viewers who may still see their channel, by one query for all. */
  recheck(viewers: readonly Viewer[]): Promise<Set<string>>;
  /** What the users may view, by one query for all. A user who may not connect any more is absent. */
  approvalsScopes(userIds: readonly string[]): Promise<Map<string, ApprovalsScope>>;
  /** The projects and environments that the user may see, sorted by the names of the projects. */
  visibleProjects(userId: string): Promise<VisibleProject[]>;
  /** What the user may do in one project, or in all. */
  rightsOf(userId: string, projectId?: string): Promise<Rights>;
}

import type { Rights } from '../host/rights.js';
import type { ApprovalsScope } from './approvals-scope.js';
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

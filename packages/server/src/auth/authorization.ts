import type { Rights } from '../host/rights.js';
import type { Channel, ChannelRequest, User } from './table-authorization.js';
import type { Identity } from './token-verifier.js';

export interface VisibleProject {
  readonly id: string;
  readonly name: string;
  readonly environments: readonly { readonly id: string; readonly key: string; readonly name: string }[];
}

/** Somebody who watches a channel. */
export interface Viewer {
  readonly userId: string;
  readonly projectId: string;
  readonly environmentId: string;
}

/** How `Authorization.recheck` names a viewer in its answer. */
export function viewerKey({ userId, projectId, environmentId }: Viewer): string {
  return JSON.stringify([userId, projectId, environmentId]);
}

/** Why a channel is not opened. */
export type ChannelRefusal = 'unknown_project' | 'forbidden' | 'unknown_environment';

/**
 * Who may see what. Ids that come from a peer are opaque strings: one that cannot exist is
 * unknown, never an error. A method rejects when the question cannot be answered now.
 */
export interface Authorization {
  /** The user whom a token or a session names; null if there is none. */
  findUser(identity: Pick<Identity, 'user' | 'username'>): Promise<User | null>;
  /** The channel that is asked for, if the user may see it now. */
  openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal>;
  /** The `viewerKey`s of those who may watch their channel now, by one question for all of them. */
  recheck(viewers: readonly Viewer[]): Promise<Set<string>>;
  /** The projects that the user may see, by name, with the environments that the user may see. */
  visibleProjects(userId: string): Promise<VisibleProject[]>;
  /** What the user may do in one project, or in all. */
  rightsOf(userId: string, projectId?: string): Promise<Rights>;
}

import { hash } from 'node:crypto';
import type { Channel } from './authorization.js';

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

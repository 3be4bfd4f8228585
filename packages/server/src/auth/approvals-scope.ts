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
    let ids: string[] = [];
    let key: string;
    if ('archived' in viewable) {
      ids = [...viewable.archived];
      key = JSON.stringify([viewable.environments, ...ids.toSorted()]);
    } else if ('projects' in viewable) {
      ids = Object.keys(viewable.projects);
      key = JSON.stringify(Object.entries(viewable.projects).toSorted(byFirst));
    } else {
      ids = viewable.channels.map(({ projectId, environmentId }) =>
        JSON.stringify([projectId, environmentId]),
      );
      const keys = viewable.channels.map((channel) => JSON.stringify([channel.environmentKey]));
      key = JSON.stringify(ids.map((id, index) => `${id}${keys[index]}`).toSorted());
    }
    this.id = hash('sha256', key, 'base64url').slice(0, 22);
    this.#ids = new Set(ids);
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
    return this.#ids.has(
      'projects' in this.viewable ? projectId : JSON.stringify([projectId, environmentId]),
    );
  }
}

function byFirst([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number {
  return one < other ? -1 : 1;
}

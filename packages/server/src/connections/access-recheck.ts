import type { Channel } from '../auth/table-authorization.js';
import { type Viewer, viewerKey } from '../auth/authorization.js';

interface Asked {
  readonly viewer: Viewer;
  mayView: boolean;
}

/**
 * Who watches what, each once, and whether they may. By maps within maps, so that nothing is made for the
 * thousands of connections of few users: what they would leave behind costs more than the question.
 */
export class AccessRecheck {
  readonly #byUser = new Map<string, Map<string, Map<string, Asked>>>();
  readonly #all: Asked[] = [];

  add(userId: string, { projectId, environmentId }: Channel): void {
    const projects = this.#byUser.get(userId) ?? new Map<string, Map<string, Asked>>();
    this.#byUser.set(userId, projects);
    const environments = projects.get(projectId) ?? new Map<string, Asked>();
    projects.set(projectId, environments);
    if (environments.has(environmentId)) return;
    const asked = { viewer: { userId, projectId, environmentId }, mayView: true };
    environments.set(environmentId, asked);
    this.#all.push(asked);
  }

  /** Each of them once. */
  get all(): Viewer[] {
    return this.#all.map(({ viewer }) => viewer);
  }

  /** Only those whose `viewerKey` is among these may view. */
  allow(keys: ReadonlySet<string>): void {
    for (const asked of this.#all) asked.mayView = keys.has(viewerKey(asked.viewer));
  }

  /** Also true of what was not asked about: a channel that came later was checked when it came. */
  mayView(userId: string, { projectId, environmentId }: Channel): boolean {
    return this.#byUser.get(userId)?.get(projectId)?.get(environmentId)?.mayView ?? true;
  }
}

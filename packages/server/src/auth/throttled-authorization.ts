import type { Rights } from '../host/rights.js';
import type { Channel, ChannelRequest, User } from './table-authorization.js';
import type { Authorization, ChannelRefusal, Viewer, VisibleProject } from './authorization.js';
import { BurstThrottle } from './burst-throttle.js';
import type { Identity } from './token-verifier.js';

/**
 * Another authorization, for those who connect: where thousands come back at the same time, what they ask
 * is asked for many together. Requests that want an answer now ask the other one.
 */
export class ThrottledAuthorization implements Authorization {
  readonly #authorization: Authorization;
  readonly #pace = new BurstThrottle();

  constructor(authorization: Authorization) {
    this.#authorization = authorization;
  }

  async findUser(identity: Pick<Identity, 'user' | 'username'>): Promise<User | null> {
    await this.#pace.turn();
    return await this.#authorization.findUser(identity);
  }

  async openChannel(userId: string, wanted: ChannelRequest): Promise<Channel | ChannelRefusal> {
    await this.#pace.turn();
    return await this.#authorization.openChannel(userId, wanted);
  }

  async recheck(viewers: readonly Viewer[]): Promise<Set<string>> {
    return await this.#authorization.recheck(viewers);
  }

  async visibleProjects(userId: string): Promise<VisibleProject[]> {
    return await this.#authorization.visibleProjects(userId);
  }

  async rightsOf(userId: string, projectId?: string): Promise<Rights> {
    return await this.#authorization.rightsOf(userId, projectId);
  }
}

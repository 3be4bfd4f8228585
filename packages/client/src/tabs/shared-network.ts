import type { WebSocketClass } from '../transport.js';
import { type ChannelRecord, findRecord } from './channel-record.js';
import type { Follower } from './follower.js';
import type { Leader } from './leader.js';
import { leaderChanged, type LeaderNetwork } from './leader-network.js';
import { approvalsFeed } from './messages.js';

/** What a tab has while it is the leader. */
export interface Leadership {
  readonly leader: Leader;
  readonly network: LeaderNetwork;
  /** null until `getToken` has returned the first one. */
  token: string | null;
}

/** A placeholder for the token while another tab is the leader. It never leaves the tab. */
const placeholderToken = 'none';

export interface SharedNetworkOptions {
  readonly getToken: () => string | Promise<string>;
  readonly follower: Follower;
  readonly records: ReadonlySet<ChannelRecord>;
  /** Aborts requests without a signal of their own when the client is closed. */
  readonly signal: AbortSignal;
}

/**
 * The token, fetch function and WebSocket class of a client that shares its connection: they use the server while
 * the tab is the leader, and the leader otherwise.
 */
export class SharedNetwork {
  /** Not null while the tab is the leader. Call `onRoleChange` after a change. */
  leadership: Leadership | null = null;
  readonly #options: SharedNetworkOptions;
  #tokenRequests = 0;
  #waiters: (() => void)[] = [];

  constructor(options: SharedNetworkOptions) {
    this.#options = options;
  }

  /** Continues the calls that wait for a leader: the role of the tab or the state of its leader has changed. */
  onRoleChange(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resume of waiters) resume();
  }

  readonly getToken = async (): Promise<string> => {
    this.#tokenRequests += 1;
    const number = this.#tokenRequests;
    while (!this.leadership && !this.#options.follower.isReady) {
      await this.#roleChange();
      // The client has abandoned this call and made another one. Do not ask the user twice.
      if (number !== this.#tokenRequests) return await new Promise(() => undefined);
    }
    const leadership = this.leadership;
    if (!leadership) return placeholderToken;
    const token = await this.#options.getToken();
    leadership.token = token;
    this.onRoleChange();
    return token;
  };

  readonly fetch = async (address: string, init?: RequestInit): Promise<Response> => {
    const url = new URL(address);
    const signal = init?.signal ?? this.#options.signal;
    const { searchParams: params } = url;
    const isSnapshot = url.pathname.endsWith('/snapshot');
    // A channel that is being opened sends its request before its record is created.
    await Promise.resolve();
    const requested = params.has('feed')
      ? approvalsFeed
      : {
          projectId: params.get('project_id') ?? '',
          env: params.get('env') ?? '',
          environmentId: params.get('env_id'),
        };
    const record = this.#findRecord(requested);
    const channel = record?.name ?? requested;
    if (isSnapshot && record) record.requestedSnapshots += 1;
    // A tab that has just become the leader may not have its first token yet.
    while (this.leadership?.token === null) await this.#roleChange();
    signal.throwIfAborted();
    if (!this.leadership) {
      if (isSnapshot) return await this.#options.follower.fetchSnapshot(channel, signal);
      throw leaderChanged();
    }
    // If another tab opened the channel, this tab knows the id from it. The key may have changed since.
    if (channel.projectId && channel.environmentId !== null) {
      params.delete('env');
      params.set('env_id', channel.environmentId);
    }
    const { leader, network, token } = this.leadership;
    if (isSnapshot && record?.replay.isEmpty) {
      const snapshot = await leader.requestState(channel);
      if (snapshot) return new Response(JSON.stringify(snapshot));
    }
    const headers = new Headers(init?.headers);
    headers.set('Authorization', `Bearer ${token}`);
    return await network.fetch(url.href, { ...init, headers });
  };

  /** The WebSocket class for the client's options. */
  get WebSocket(): WebSocketClass {
    const open = (url: string, protocols: string[]) => {
      const leadership = this.leadership;
      // A socket that was requested before this tab became the leader has no token.
      return leadership && leadership.token !== null && protocols.includes(`bearer.${leadership.token}`)
        ? leadership.network.openSocket(url, protocols)
        : this.#options.follower.openSocket();
    };
    return function (url: string, protocols: string[]) {
      return open(url, protocols);
    } as unknown as WebSocketClass;
  }

  #findRecord(channel: Parameters<typeof findRecord>[1]): ChannelRecord | undefined {
    const { records } = this.#options;
    if (channel.environmentId !== null) return findRecord(records, channel);
    // By the key that the channel was opened with. The newest one, because an older one may be closing.
    return [...records]
      .reverse()
      .find(({ openedAs: { projectId, env } }) => projectId === channel.projectId && env === channel.env);
  }

  async #roleChange(): Promise<void> {
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }
}

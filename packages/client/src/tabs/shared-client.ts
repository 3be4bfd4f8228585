import type { ServerMessage } from '#protocol';
import { approvals } from '../approvals/index.js';
import type { Channel, Client, ClientOptions } from '../client.js';
import type { FlagcastError } from '../flagcast-error.js';
import type { Page } from '../page.js';
import type { AnySnapshot } from '../stream-position.js';
import type { WebSocketClass } from '../transport.js';
import {
  type ChannelRecord,
  createRecord,
  findRecord,
  type OpenSubscription,
  recordMessage,
} from './channel-record.js';
import { Follower } from './follower.js';
import { Leader } from './leader.js';
import { createLeaderNetwork, unavailable } from './leader-network.js';
import {
  approvalsFeed,
  type FollowerMessage,
  type LeaderMessage,
  type TabChannel,
  type TabMessage,
  type WithoutSender,
} from './messages.js';
import { SharedNetwork } from './shared-network.js';
import { joinTabGroup, type TabApis, type TabGroup } from './tab-group.js';

export interface SharedClientOptions {
  /** Returns the name of the group of tabs that share a connection to this server. */
  readonly groupKeyOf: (url: string) => string;
  readonly apis: TabApis;
  readonly client: ClientOptions;
  /** Creates the client of this tab. */
  readonly connect: (options: ClientOptions) => Client;
}

/**
 * Creates a client that shares one connection with the other tabs. The client has its own store and its own state
 * machine; only its network is replaced: it is the server while this tab is the leader, and the leading tab
 * otherwise. A change of the leader looks like a lost connection, after which the client resumes from its cursor.
 */
export function createSharedClient(options: SharedClientOptions): Client {
  const { client, openChannel } = new TabSession(options);
  return {
    ...client,
    channel: (key) => openChannel({ ...key, environmentId: null }).channel as Channel,
    // Only `approvals` calls this.
    open: (() => openChannel(approvalsFeed).channel) as Client['open'],
  };
}

interface OpenedChannel {
  readonly channel: OpenSubscription;
  readonly record: ChannelRecord;
  readonly close: () => void;
}

/** One tab: its client, its channels, and its membership in the group of tabs. */
class TabSession {
  readonly client: Client;
  readonly #options: SharedClientOptions;
  readonly #onError: (error: unknown) => void;
  /** The channels that are open in this tab, including those that it has opened for followers. */
  readonly #records = new Set<ChannelRecord>();
  readonly #closed = new AbortController();
  readonly #follower: Follower;
  readonly #network: SharedNetwork;
  #group: TabGroup | null = null;
  #hasJoined = false;
  #isFrozen = false;

  constructor(options: SharedClientOptions) {
    this.#options = options;
    // oxlint-disable-next-line no-console -- the developer of a page sees it there
    this.#onError = options.client.onError ?? console.error;
    this.#follower = new Follower({
      post: this.#post,
      findRecord: (channel) => findRecord(this.#records, channel),
      onLeaderChange: () => this.#postOpenChannels(),
      onReadyChange: () => this.#network.onRoleChange(),
      onLeaderHung: () => this.#group?.depose(),
    });
    this.#network = new SharedNetwork({
      getToken: async () => await options.client.getToken(),
      follower: this.#follower,
      records: this.#records,
      signal: this.#closed.signal,
    });
    this.client = options.connect({
      ...options.client,
      shareTabs: undefined,
      onError: (error) => {
        // A tab that is closed is no failure: the next one takes over.
        if ((error as Partial<FlagcastError> | null)?.code !== unavailable.reason) this.#onError(error);
      },
      // A tab without channels leaves the group, and so its connection, at once.
      lingerMs: 0,
      getToken: this.#network.getToken,
      fetch: this.#network.fetch as typeof fetch,
      WebSocket: this.#network.WebSocket,
    });
    this.client.onMessage((message) => this.#onServerMessage(message));
    this.client.subscribe(() => this.#onConnectionStatus());
    this.#watchPage();
  }

  readonly openChannel = (name: TabChannel): OpenedChannel => {
    const channel = name.projectId ? this.client.channel(name) : approvals(this.client);
    const { close, getState } = channel;
    // All calls that have opened a channel share its state.
    const open = [...this.#records].find((record) => record.channel.getState === getState);
    if (open) return { channel, record: open, close };
    const record = createRecord(channel, name);
    this.#records.add(record);
    const onChange = (): void => {
      const { status } = channel.getState();
      if (status.state !== 'closed') return;
      unsubscribe();
      this.#records.delete(record);
      // If the server refused the whole connection, the next leader gets its own answer with its own token.
      if (status.error && this.client.getStatus().state !== 'closed') {
        this.#network.leadership?.leader.onChannelRefused(record.name, status.error);
      }
      this.#onChannelsChanged();
    };
    const unsubscribe = channel.subscribe(onChange);
    onChange();
    this.#onChannelsChanged();
    return { channel, record, close };
  };

  readonly #post = (message: WithoutSender<TabMessage>): void => {
    if (this.#group) this.#group.post({ ...message, from: this.#group.tabId });
  };

  #onTabMessage(message: TabMessage): void {
    if ('to' in message && message.to !== this.#group?.tabId) return;
    const { leadership } = this.#network;
    // Each role ignores messages that are not for it.
    if (leadership) leadership.leader.onFollowerMessage(message as FollowerMessage);
    else this.#follower.onLeaderMessage(message as LeaderMessage);
  }

  #onServerMessage(message: ServerMessage | AnySnapshot): void {
    recordMessage(this.#records, message);
    this.#network.leadership?.leader.onServerMessage(message);
    // The id or the key by which the other tabs know the channel has changed.
    if (!('type' in message) || message.type === 'channel_changed') this.#postOpenChannels();
  }

  #onConnectionStatus(): void {
    const status = this.client.getStatus();
    const stale = status.state === 'stale' && status.reason !== 'disconnected' ? status : null;
    const isConnected = status.state === 'live' || stale !== null;
    this.#network.leadership?.leader.setConnectionState(isConnected, stale);
    if (status.state !== 'closed') return;
    this.#closed.abort();
    this.#leaveGroup();
  }

  #onChannelsChanged(): void {
    if (this.#records.size === 0) this.#leaveGroup();
    else if (this.#group) this.#postOpenChannels();
    else if (!this.#isFrozen) this.#joinGroup();
  }

  #postOpenChannels(): void {
    if (!this.#hasJoined || this.#network.leadership) return;
    const channels = [...this.#records].map(({ channel, name }) => ({
      channel: name,
      hasState: channel.toSnapshot() !== null,
    }));
    this.#post({ type: 'open_channels', channels });
  }

  #joinGroup(): void {
    const { groupKeyOf, apis, client } = this.#options;
    // A channel is open, so the address is valid.
    const { href } = new URL(client.url, (globalThis as unknown as Page).location?.href);
    this.#group = joinTabGroup(groupKeyOf(href), apis, {
      onJoined: () => {
        this.#hasJoined = true;
        this.#postOpenChannels();
      },
      onElected: () => this.#becomeLeader(),
      onDeposed: () => {
        this.#leaveGroup({ immediately: true });
        this.#onChannelsChanged();
      },
      onMessage: (message) => this.#onTabMessage(message),
      onError: this.#onError,
    });
  }

  #becomeLeader(): void {
    const { WebSocket = globalThis.WebSocket, fetch } = this.#options.client;
    const network = createLeaderNetwork(WebSocket as WebSocketClass, fetch ?? globalThis.fetch);
    const leader = new Leader({
      post: this.#post,
      onTabLeft: (tabId, listener) => this.#group?.onTabLeft(tabId, listener),
      openChannel: this.openChannel,
      records: this.#records,
      send: this.client.send,
    });
    this.#follower.reset();
    this.#network.leadership = { leader, network, token: null };
    leader.setConnectionState(false, null);
    this.#network.onRoleChange();
  }

  /**
   * Leaves the group. The next tab becomes the leader when the server has seen this connection close, or with
   * `immediately` without that delay.
   */
  #leaveGroup({ immediately = false } = {}): void {
    const group = this.#group;
    const { leadership } = this.#network;
    if (!group) return;
    if (this.#hasJoined && !leadership) this.#post({ type: 'open_channels', channels: [] });
    this.#group = this.#network.leadership = null;
    this.#hasJoined = false;
    const connectionClosed = leadership?.network.close() ?? Promise.resolve();
    leadership?.leader.close();
    this.#follower.reset();
    group.leave(immediately ? Promise.resolve() : connectionClosed);
    this.#network.onRoleChange();
  }

  /** A page that is frozen or in the back-forward cache cannot be the leader, so it must release the lock. */
  #watchPage(): void {
    const { addEventListener, document } = globalThis as unknown as Page;
    const freeze = (): void => {
      this.#isFrozen = true;
      this.#leaveGroup({ immediately: true });
    };
    const resume = (): void => {
      if (!this.#isFrozen) return;
      this.#isFrozen = false;
      this.#onChannelsChanged();
    };
    const { signal } = this.#closed;
    addEventListener?.('pagehide', freeze, { signal });
    addEventListener?.('pageshow', resume, { signal });
    document?.addEventListener('freeze', freeze, { signal });
    document?.addEventListener('resume', resume, { signal });
  }
}

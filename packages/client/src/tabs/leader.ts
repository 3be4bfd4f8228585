import type { ClientMessage, HelloMessage, ServerMessage } from '#protocol';
import type { FlagcastError } from '../flagcast-error.js';
import type { StaleStatus } from '../status.js';
import type { AnySnapshot } from '../stream-position.js';
import type { ChannelRecord } from './channel-record.js';
import {
  channelOf,
  type ErrorProperties,
  type FollowerMessage,
  isSameChannel,
  type LeaderMessage,
  nameOf,
  type OpenChannel,
  type TabChannel,
  type WithoutSender,
} from './messages.js';

export interface LeaderDependencies {
  readonly post: (message: WithoutSender<LeaderMessage>) => void;
  readonly onTabLeft: (tabId: string, listener: () => void) => void;
  readonly openChannel: (channel: TabChannel) => {
    readonly record: ChannelRecord;
    readonly close: () => void;
  };
  readonly records: ReadonlySet<ChannelRecord>;
  /** Sends a message to the server. */
  readonly send: (message: ClientMessage) => void;
}

type FollowerRequest = Extract<FollowerMessage, { type: 'snapshot_request' | 'subscribe' }>;

/** A follower responds within a few milliseconds, or not at all. */
const stateRequestTimeoutMs = 1_000;

/** The role of the tab that has the connection: it opens the channels of the followers and forwards messages. */
export class Leader {
  readonly #dependencies: LeaderDependencies;
  #hello: HelloMessage | null = null;
  #isConnected = false;
  #stale: StaleStatus | null = null;
  /** The open channels of each follower, by tab id. */
  readonly #followers = new Map<string, readonly OpenChannel[]>();
  /** The channels that this tab has opened for followers, with the functions that close them. */
  readonly #openedChannels = new Map<ChannelRecord, () => void>();
  /** The requests that wait for their response. */
  readonly #requests = new Set<FollowerRequest>();
  readonly #stateRequests = new Map<string, (snapshot: AnySnapshot | null) => void>();

  constructor(dependencies: LeaderDependencies) {
    this.#dependencies = dependencies;
  }

  onFollowerMessage(message: FollowerMessage): void {
    const { from } = message;
    switch (message.type) {
      case 'open_channels':
        this.#setFollowerChannels(from, message.channels);
        break;
      case 'ping':
        this.#dependencies.post({ type: 'pong', to: from });
        break;
      case 'announce':
        this.#dependencies.send(message.message);
        break;
      case 'state_response':
        this.#stateRequests.get(message.request)?.(message.snapshot);
        break;
      case 'snapshot_request':
      case 'subscribe':
        this.#requests.add(message);
        this.#respond();
        break;
    }
  }

  /** Handles a message or a snapshot of the server after it has been recorded. */
  onServerMessage(message: ServerMessage | AnySnapshot): void {
    if (!('type' in message)) this.#respond();
    else if ('source' in message) this.#forward(message);
    else if (message.type === 'hello') this.#hello = message;
    else if (message.type === 'caught_up') this.#respond();
    else if (message.type === 'channel_changed') {
      this.#forward(message);
      // A follower may have opened a channel by the new key.
      this.#openAndCloseChannels();
      this.#respond();
    } else if (
      message.type === 'resync' ||
      message.type === 'heartbeat' ||
      message.type === 'presence' ||
      (message.type === 'error' && channelOf(message))
    ) {
      this.#forward(message);
    }
  }

  /** `stale` is set if the tab is connected to a server that is stale. */
  setConnectionState(isConnected: boolean, stale: StaleStatus | null): void {
    this.#isConnected = isConnected;
    this.#stale = stale;
    // `hello` stays: after a late heartbeat, the tab is connected again without another one.
    this.#postStatus();
  }

  /** Handles that the server has refused or ended a channel of this tab. */
  onChannelRefused(refused: TabChannel, { code, message, closeCode }: FlagcastError): void {
    const result: ErrorProperties = { code, message, closeCode };
    if (refused.environmentId !== null) this.#forward({ type: 'error', code, message, ...nameOf(refused) });
    for (const request of this.#requests) {
      if (!isSameChannel(request.channel, refused)) continue;
      this.#requests.delete(request);
      if (request.type === 'snapshot_request') this.#postSnapshot(request, result);
    }
  }

  /**
   * Requests the state of a channel from a follower, so that this tab can resume where the follower is. Returns null
   * if no follower has the state, or if the follower does not respond.
   */
  async requestState(channel: TabChannel): Promise<AnySnapshot | null> {
    const [follower] =
      [...this.#followers].find(([, channels]) =>
        channels.some((open) => open.hasState && isSameChannel(open.channel, channel)),
      ) ?? [];
    if (follower === undefined) return null;
    const request = crypto.randomUUID();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const snapshot = await new Promise<AnySnapshot | null>((resolve) => {
      this.#stateRequests.set(request, resolve);
      timer = setTimeout(resolve, stateRequestTimeoutMs, null);
      this.#dependencies.post({ type: 'state_request', to: follower, request, channel });
    });
    clearTimeout(timer);
    this.#stateRequests.delete(request);
    return snapshot;
  }

  /** Closes the channels that were opened for followers. */
  close(): void {
    for (const close of this.#openedChannels.values()) close();
    this.#openedChannels.clear();
  }

  #setFollowerChannels(tabId: string, channels: readonly OpenChannel[]): void {
    const isNew = !this.#followers.has(tabId);
    this.#followers.set(tabId, channels);
    if (isNew) {
      this.#dependencies.onTabLeft(tabId, () => this.#removeFollower(tabId));
      this.#postStatus();
    }
    this.#openAndCloseChannels();
    this.#respond();
  }

  #removeFollower(tabId: string): void {
    this.#followers.delete(tabId);
    for (const request of this.#requests) {
      if (request.from === tabId) this.#requests.delete(request);
    }
    this.#openAndCloseChannels();
  }

  #postStatus(): void {
    this.#dependencies.post({
      type: 'leader_status',
      hello: this.#isConnected ? this.#hello : null,
      stale: this.#stale,
    });
  }

  #forward(message: ServerMessage): void {
    if (this.#followers.size > 0) this.#dependencies.post({ type: 'server_message', message });
  }

  /** Finds the record of a channel that this tab has opened for followers. */
  #findRecord(wanted: TabChannel): ChannelRecord | undefined {
    return [...this.#dependencies.records].find(
      (record) => this.#openedChannels.has(record) && isSameChannel(record.name, wanted),
    );
  }

  /** Opens the channels that followers need, and closes those that no follower needs. */
  #openAndCloseChannels(): void {
    const needed = [...this.#followers.values()].flat();
    const inUse = new Set(needed.map(({ channel }) => this.#findRecord(channel)));
    for (const [record, close] of this.#openedChannels) {
      if (inUse.has(record)) continue;
      this.#openedChannels.delete(record);
      close();
    }
    for (const { channel: name } of needed) {
      if (this.#findRecord(name)) continue;
      const { record, close } = this.#dependencies.openChannel(name);
      // Each opened channel is closed once.
      if (this.#openedChannels.has(record)) close();
      else this.#openedChannels.set(record, close);
    }
  }

  /** Sends the responses that are available; the other requests wait. */
  #respond(): void {
    for (const request of this.#requests) {
      const isSnapshot = request.type === 'snapshot_request';
      const record = this.#findRecord(request.channel);
      const snapshot = record && (isSnapshot || record.isCaughtUp) ? completeSnapshot(record) : null;
      if (!record || !snapshot) continue;
      this.#requests.delete(request);
      const { name: channel, replay } = record;
      const { cursor } = snapshot;
      if (isSnapshot) {
        replay.add({ cursor });
        this.#postSnapshot(request, snapshot);
      } else {
        const missed = replay.eventsAfter(request.cursors);
        this.#dependencies.post({ type: 'subscribed', to: request.from, channel, missed, cursor });
      }
    }
  }

  #postSnapshot(
    { from: to, request }: Extract<FollowerRequest, { type: 'snapshot_request' }>,
    result: AnySnapshot | ErrorProperties,
  ): void {
    this.#dependencies.post({ type: 'snapshot_response', to, request, result });
  }
}

/**
 * Returns the snapshot of a channel; null if it does not contain all events yet. Events without the feature's state
 * require a snapshot that was requested after them.
 */
function completeSnapshot(record: ChannelRecord): AnySnapshot | null {
  return record.loadedSnapshot >= record.requiredSnapshot ? record.channel.toSnapshot() : null;
}

import type { ClientMessage, FreshnessReason, HelloMessage, ServerMessage } from '#protocol';
import { isEqual } from '../emitter.js';
import { FlagcastError } from '../flagcast-error.js';
import type { StaleStatus } from '../status.js';
import type { AnySnapshot } from '../stream-position.js';
import type { WebSocketLike } from '../transport.js';
import type { ChannelRecord } from './channel-record.js';
import { leaderChanged, unavailable } from './leader-network.js';
import {
  approvalsFeed,
  channelOf,
  type ErrorProperties,
  type FollowerMessage,
  type LeaderMessage,
  nameOf,
  type TabChannel,
  type WithoutSender,
} from './messages.js';

export interface FollowerDependencies {
  readonly post: (message: WithoutSender<FollowerMessage>) => void;
  readonly findRecord: (channel: TabChannel) => ChannelRecord | undefined;
  readonly onLeaderChange: () => void;
  /** Called when `isReady` may have changed. */
  readonly onReadyChange: () => void;
  /** Called when the leader does not respond. */
  readonly onLeaderHung: () => void;
}

/** How long a leader may take to respond. */
const leaderTimeoutMs = 5_000;

/** The WebSocket that the client of this tab uses. Its other end is the leader. */
interface FollowerSocket {
  readonly webSocket: WebSocketLike;
  readonly leaderId: string;
  /** Delivers the leader's hello, when it has responded. */
  readonly open: () => void;
  /** The channels with a subscribe request, and the subscribed channels. */
  readonly requested: Set<string>;
  readonly subscribed: Set<string>;
}

type LeaderResponse<Type extends LeaderMessage['type']> = Extract<LeaderMessage, { type: Type }>;

/** The role of a tab without a connection: the leader acts as the server of its client. */
export class Follower {
  readonly #dependencies: FollowerDependencies;
  #leaderId: string | null = null;
  #hello: HelloMessage | null = null;
  #stale: StaleStatus | null = null;
  #socket: FollowerSocket | null = null;
  readonly #snapshotRequests = new Map<string, (result: AnySnapshot | Error) => void>();

  constructor(dependencies: FollowerDependencies) {
    this.#dependencies = dependencies;
  }

  /** Whether the leader is known and connected. */
  get isReady(): boolean {
    return this.#hello !== null;
  }

  onLeaderMessage(message: LeaderMessage): void {
    if (message.type === 'leader_status') {
      this.#onLeaderStatus(message);
      return;
    }
    if (message.from !== this.#leaderId) return;
    switch (message.type) {
      case 'server_message':
        this.#onServerMessage(message.message);
        break;
      case 'pong':
        this.#socket?.open();
        this.#deliver({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) });
        break;
      case 'snapshot_response':
        this.#snapshotRequests.get(message.request)?.(snapshotOrError(message.result));
        break;
      case 'state_request': {
        const { from, request, channel } = message;
        const snapshot = this.#dependencies.findRecord(channel)?.channel.toSnapshot() ?? null;
        this.#dependencies.post({ type: 'state_response', to: from, request, snapshot });
        break;
      }
      case 'subscribed':
        this.#onSubscribed(message);
        break;
    }
  }

  /** Opens a WebSocket to the leader. It closes immediately if no leader is ready. */
  openSocket(): WebSocketLike {
    const hello = this.#hello;
    const leaderId = this.#leaderId;
    const webSocket: WebSocketLike = {
      onmessage: null,
      onclose: null,
      onerror: null,
      send: (text) => {
        if (this.#socket?.webSocket === webSocket) this.#onClientMessage(text, this.#socket);
      },
      close: () => {
        if (this.#socket?.webSocket === webSocket) this.#socket = null;
      },
    };
    if (hello && leaderId !== null) {
      let isOpen = false;
      const timer = setTimeout(() => {
        if (this.#socket?.webSocket === webSocket) this.#dependencies.onLeaderHung();
      }, leaderTimeoutMs);
      const open = (): void => {
        clearTimeout(timer);
        if (isOpen) return;
        isOpen = true;
        this.#deliver(hello);
        if (this.#stale) this.#deliverFreshness();
      };
      this.#socket = { webSocket, leaderId, open, requested: new Set(), subscribed: new Set() };
      // The leader may have hung since its hello.
      this.#dependencies.post({ type: 'ping', to: leaderId });
    }
    queueMicrotask(() => {
      if (this.#socket?.webSocket !== webSocket) webSocket.onclose?.(unavailable as never);
    });
    return webSocket;
  }

  /** Requests a snapshot from the leader. */
  async fetchSnapshot(channel: TabChannel, signal: AbortSignal): Promise<Response> {
    const leaderId = this.#leaderId;
    if (leaderId === null) {
      throw leaderChanged();
    }
    signal.throwIfAborted();
    const request = crypto.randomUUID();
    const result = await new Promise<AnySnapshot | Error>((resolve) => {
      this.#snapshotRequests.set(request, resolve);
      signal.addEventListener('abort', () => resolve(signal.reason as Error), { once: true });
      this.#dependencies.post({ type: 'snapshot_request', to: leaderId, request, channel });
    });
    this.#snapshotRequests.delete(request);
    if (result instanceof Error) throw result;
    return new Response(JSON.stringify(result));
  }

  /** Forgets the leader: closes the socket and fails the pending requests. */
  reset(): void {
    this.#leaderId = null;
    this.#closeSocket();
    for (const resolve of [...this.#snapshotRequests.values()]) resolve(leaderChanged());
  }

  #closeSocket(): void {
    const socket = this.#socket;
    this.#hello = this.#socket = null;
    socket?.webSocket.onclose?.(unavailable as never);
  }

  /** Passes a message to the client of this tab. */
  #deliver(message: ServerMessage): void {
    this.#socket?.webSocket.onmessage?.({ data: JSON.stringify(message) } as never);
  }

  #deliverFreshness(): void {
    const stale = this.#stale;
    this.#deliver(
      stale
        ? {
            type: 'freshness',
            state: 'stale',
            since: new Date(stale.sinceMs).toISOString(),
            reason: stale.reason as FreshnessReason,
          }
        : { type: 'freshness', state: 'fresh' },
    );
  }

  #onClientMessage(text: string, { leaderId, ...socket }: FollowerSocket): void {
    const message = JSON.parse(text) as ClientMessage;
    if (message.type === 'ping') this.#dependencies.post({ type: 'ping', to: leaderId });
    if (message.type === 'announce') this.#dependencies.post({ type: 'announce', to: leaderId, message });
    // `auth` is ignored: the connection uses the leader's token.
    if (message.type !== 'subscribe' && message.type !== 'unsubscribe') return;
    const id =
      'feed' in message
        ? approvalsFeed
        : { projectId: message.project_id, env: '', environmentId: String(message.env_id) };
    const key = keyOf(id);
    const record = this.#dependencies.findRecord(id);
    const channel = record?.name ?? id;
    socket.subscribed.delete(key);
    if (message.type === 'subscribe') {
      socket.requested.add(key);
      const { cursor } = message;
      const cursors = [...(cursor === undefined ? [] : [cursor]), ...(record?.replay.cursors ?? [])];
      this.#dependencies.post({ type: 'subscribe', to: leaderId, channel, cursors });
      return;
    }
    socket.requested.delete(key);
    queueMicrotask(() => {
      if (this.#socket?.webSocket === socket.webSocket) {
        this.#deliver({ type: 'unsubscribed', ...nameOf(channel) });
      }
    });
  }

  #onLeaderStatus({ from, hello, stale }: LeaderResponse<'leader_status'>): void {
    const isNewLeader = from !== this.#leaderId;
    if (isNewLeader) this.reset();
    else if (!hello) this.#closeSocket();
    this.#leaderId = from;
    if (isNewLeader) this.#dependencies.onLeaderChange();
    if (hello && !isEqual(this.#stale, stale)) {
      this.#stale = stale;
      this.#deliverFreshness();
    }
    if (this.#hello === hello) return;
    this.#hello ??= hello;
    this.#dependencies.onReadyChange();
  }

  #onServerMessage(message: ServerMessage): void {
    const socket = this.#socket;
    // A heartbeat's cursor is only valid for channels that are caught up.
    if (message.type === 'heartbeat' && socket?.requested.size) return;
    const channel = channelOf(message);
    // Presence can be about a channel of the approvals feed.
    if (socket && channel && message.type !== 'presence') {
      const key = keyOf(channel);
      if (message.type !== 'error' && !socket.subscribed.has(key)) return;
      if (message.type === 'resync' || message.type === 'error') {
        socket.subscribed.delete(key);
        socket.requested.delete(key);
      }
    }
    this.#deliver(message);
  }

  #onSubscribed({ channel, missed, cursor }: LeaderResponse<'subscribed'>): void {
    const key = keyOf(channel);
    if (!this.#socket?.requested.delete(key)) return;
    const name = nameOf(channel);
    if (missed === null) {
      this.#deliver({ type: 'resync', ...name, reason: 'too_many_missed' });
      return;
    }
    this.#socket.subscribed.add(key);
    for (const event of missed) this.#deliver(event);
    this.#deliver({ type: 'caught_up', ...name, cursor });
  }
}

function snapshotOrError(result: AnySnapshot | ErrorProperties): AnySnapshot | FlagcastError {
  return 'code' in result
    ? new FlagcastError(result.code, result.message, { closeCode: result.closeCode })
    : result;
}

function keyOf({ projectId, environmentId }: Pick<TabChannel, 'projectId' | 'environmentId'>): string {
  return JSON.stringify([projectId, environmentId]);
}

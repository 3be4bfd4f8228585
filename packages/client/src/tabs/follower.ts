import type {
  ChannelName,
  ClientMessage,
  FreshnessReason,
  HelloMessage,
  ServerMessage,
  Snapshot,
} from '#protocol';
import { FlagcastError } from '../flagcast-error.js';
import type { WebSocketLike } from '../line.js';
import { same } from '../same.js';
import type { StaleStatus } from '../status.js';
import type { FollowerMessage, LeaderMessage, TabChannel } from './messages.js';
import { unavailable } from './network.js';
import type { ChannelRecord } from './record.js';

/** This tab as it reaches the server through the leader: its client takes the leader for a server. */
export interface Follower {
  /** Whether the leader is known, and connected. */
  readonly isReady: () => boolean;
  readonly receive: (message: LeaderMessage) => void;
  readonly openSocket: () => WebSocketLike;
  readonly fetchSnapshot: (channel: TabChannel, signal: AbortSignal) => Promise<Response>;
  /** Forgets the leader: what was under way with it is lost. */
  readonly reset: () => void;
}

/** A message of this tab, before it has its sender. */
export type Unsent<Message> = Message extends unknown ? Omit<Message, 'from'> : never;

export interface FollowerParts {
  readonly post: (message: Unsent<FollowerMessage>) => void;
  /** What this tab has recorded of the channel. */
  readonly recordOf: (channel: TabChannel) => ChannelRecord | undefined;
  /** The leader is another one. */
  readonly followed: () => void;
  /** `isReady` may have changed. */
  readonly changed: () => void;
}

interface Line {
  readonly socket: WebSocketLike;
  /** The channels that were asked for, and those that were granted. */
  readonly asked: Set<string>;
  readonly subscribed: Set<string>;
}

export function createFollower({ post, recordOf, followed, changed }: FollowerParts): Follower {
  let leader: string | null = null;
  let hello: HelloMessage | null = null;
  let stale: StaleStatus | null = null;
  let line: Line | null = null;
  const requests = new Map<string, (answer: Snapshot | Error) => void>();

  const deliver = (message: ServerMessage): void => {
    line?.socket.onmessage?.({ data: JSON.stringify(message) } as never);
  };
  const deliverFreshness = (): void => {
    deliver(
      stale
        ? {
            type: 'freshness',
            state: 'stale',
            since: new Date(stale.sinceMs).toISOString(),
            reason: stale.reason as FreshnessReason,
          }
        : { type: 'freshness', state: 'fresh' },
    );
  };
  const lose = (): void => {
    const lost = line;
    hello = line = null;
    lost?.socket.onclose?.(unavailable as never);
  };
  const reset = (): void => {
    leader = null;
    lose();
    const gone = new FlagcastError('unavailable', 'The tab that was asked has gone.', unavailable.code);
    for (const settle of [...requests.values()]) settle(gone);
  };

  const take = (text: string, own: Line, to: string): void => {
    const message = JSON.parse(text) as ClientMessage;
    if (message.type === 'ping') post({ type: 'ping', to });
    // There is nothing to renew: the leader's token is in use.
    else if (message.type !== 'auth') {
      const channel = { projectId: message.project_id, env: '', environmentId: String(message.env_id) };
      const key = keyOf(channel);
      const record = recordOf(channel);
      own.subscribed.delete(key);
      if (message.type === 'subscribe') {
        own.asked.add(key);
        const { cursor } = message;
        const cursors = [...(cursor === undefined ? [] : [cursor]), ...(record?.cursors() ?? [])];
        post({ type: 'subscribe', to, channel: record?.name ?? channel, cursors });
      } else {
        own.asked.delete(key);
        queueMicrotask(() => {
          if (line === own) deliver({ type: 'unsubscribed', ...addressOf(record?.name ?? channel) });
        });
      }
    }
  };

  const relay = (message: ServerMessage): void => {
    // It is true for channels that are caught up.
    if (message.type === 'heartbeat' && line?.asked.size) return;
    if (line && 'environment_id' in message && message.type !== 'heartbeat') {
      const { project_id: projectId = '', environment_id: environmentId = '' } = message;
      const key = keyOf({ projectId, environmentId });
      const ends = message.type === 'resync' || message.type === 'error';
      if (message.type !== 'error' && !line.subscribed.has(key)) return;
      if (ends) for (const keys of [line.subscribed, line.asked]) keys.delete(key);
    }
    deliver(message);
  };

  return {
    isReady: () => hello !== null,
    reset,
    receive(message) {
      if (message.type === 'leads') {
        const another = message.from !== leader;
        if (another) reset();
        else if (!message.hello) lose();
        leader = message.from;
        if (another) followed();
        if (message.hello && !same(stale, message.stale)) {
          ({ stale } = message);
          deliverFreshness();
        }
        if (hello === message.hello) return;
        hello ??= message.hello;
        changed();
        return;
      }
      if (message.from !== leader) return;
      if (message.type === 'relay') relay(message.message);
      else if (message.type === 'pong') deliver({ type: 'pong', timestamp: Math.floor(Date.now() / 1_000) });
      else if (message.type === 'answer') {
        const { answer } = message;
        const {
          code,
          message: text,
          closeCode,
        } = answer as { code?: string; message: string; closeCode?: number };
        requests.get(message.request)?.(
          code === undefined ? (answer as Snapshot) : new FlagcastError(code, text, closeCode),
        );
      } else {
        const key = keyOf(message.channel);
        if (message.type === 'lend') {
          const snapshot = recordOf(message.channel)?.channel.toSnapshot() ?? null;
          post({ type: 'lent', to: message.from, request: message.request, snapshot });
        } else if (line?.asked.delete(key)) {
          const { missed, cursor } = message;
          const address = addressOf(message.channel);
          if (missed === null) {
            deliver({ type: 'resync', ...address, reason: 'too_many_missed' });
            return;
          }
          line.subscribed.add(key);
          for (const event of missed) deliver(event);
          deliver({ type: 'caught_up', ...address, cursor });
        }
      }
    },
    openSocket() {
      const greeting = hello;
      const to = leader;
      const socket: WebSocketLike = {
        onmessage: null,
        onclose: null,
        onerror: null,
        send: (text) => {
          if (line?.socket === socket && to !== null) take(text, line, to);
        },
        close: () => {
          if (line?.socket === socket) line = null;
        },
      };
      if (greeting && to !== null) line = { socket, asked: new Set(), subscribed: new Set() };
      queueMicrotask(() => {
        if (line?.socket !== socket) socket.onclose?.(unavailable as never);
        else if (greeting) {
          deliver(greeting);
          if (stale) deliverFreshness();
        }
      });
      return socket;
    },
    async fetchSnapshot(channel, signal) {
      const to = leader;
      if (to === null) throw new FlagcastError('unavailable', 'No tab leads yet.', unavailable.code);
      signal.throwIfAborted();
      const request = crypto.randomUUID();
      const answer = await new Promise<Snapshot | Error>((resolve) => {
        requests.set(request, resolve);
        signal.addEventListener('abort', () => resolve(signal.reason as Error), { once: true });
        post({ type: 'snapshot', to, request, channel });
      });
      requests.delete(request);
      if (answer instanceof Error) throw answer;
      return new Response(JSON.stringify(answer));
    },
  };
}

function keyOf({ projectId, environmentId }: Pick<TabChannel, 'projectId' | 'environmentId'>): string {
  return JSON.stringify([projectId, environmentId]);
}

function addressOf({ projectId, env, environmentId }: TabChannel): ChannelName {
  return { project_id: projectId, environment: env, environment_id: environmentId ?? '' };
}

import type { HelloMessage, ServerMessage, Snapshot } from '#protocol';
import type { Channel } from '../channel.js';
import type { FlagcastError } from '../flagcast-error.js';
import { channelKey, type ChannelName } from '../request.js';
import type { Unsent } from './follower.js';
import type { FollowerMessage, LeaderMessage, Refusal, Wish } from './messages.js';
import type { ChannelRecord } from './record.js';

/** This tab as the others see it: it has the connection, and opens the channels that they want. */
export interface Leader {
  readonly receive: (message: FollowerMessage) => void;
  /** A message or a snapshot of the server, recorded already. */
  readonly heard: (message: ServerMessage | Snapshot) => void;
  readonly setConnected: (connected: boolean) => void;
  /** A channel of this tab was refused. */
  readonly refused: (channel: ChannelName, error: FlagcastError) => void;
  /** The channel's state out of another tab, which lets this one go on where that one is; null if none has it. */
  readonly borrow: (channel: ChannelName) => Promise<Snapshot | null>;
  /** Gives back the channels that the other tabs wanted. */
  readonly close: () => void;
}

export interface LeaderParts {
  readonly post: (message: Unsent<LeaderMessage>) => void;
  readonly watch: (tab: string, gone: () => void) => void;
  readonly openChannel: (channel: ChannelName) => Channel;
  readonly recordOf: (key: string) => ChannelRecord | undefined;
}

interface Asking {
  readonly to: string;
  readonly key: string;
  readonly channel: ChannelName;
}

/** Another tab answers within a few milliseconds, or does not answer at all. */
const borrowTimeoutMs = 1_000;

export function createLeader({ post, watch, openChannel, recordOf }: LeaderParts): Leader {
  let hello: HelloMessage | null = null;
  let connected = false;
  /** What each tab wants, by its name. */
  const members = new Map<string, ReadonlyMap<string, Wish>>();
  const held = new Map<string, Channel>();
  let snapshotsWanted: (Asking & { readonly request: string })[] = [];
  let subscriptionsWanted: (Asking & { readonly cursors: readonly string[] })[] = [];
  const borrowed = new Map<string, (snapshot: Snapshot | null) => void>();

  const announce = (): void => post({ type: 'leads', hello: connected ? hello : null });

  const relay = (message: ServerMessage): void => {
    if (members.size > 0) post({ type: 'relay', message });
  };

  const openAndClose = (): void => {
    const wanted = new Map<string, Wish>();
    for (const wishes of members.values()) for (const [key, wish] of wishes) wanted.set(key, wish);
    for (const [key, channel] of held) {
      if (wanted.has(key)) continue;
      held.delete(key);
      channel.close();
    }
    for (const [key, { channel }] of wanted) {
      if (!held.has(key)) held.set(key, openChannel(channel));
    }
  };

  const remove = (tab: string): void => {
    members.delete(tab);
    snapshotsWanted = snapshotsWanted.filter(({ to }) => to !== tab);
    subscriptionsWanted = subscriptionsWanted.filter(({ to }) => to !== tab);
    openAndClose();
  };

  /** Answers who waits for the channel, as far as there is an answer. */
  const settle = (key: string): void => {
    if (![...snapshotsWanted, ...subscriptionsWanted].some((asking) => asking.key === key)) return;
    const record = recordOf(key);
    // Where events bring no state, the snapshot that counts is the one that was asked for after the event.
    const snapshot = record && record.loaded >= record.needed ? held.get(key)?.toSnapshot() : null;
    if (!record || !snapshot) return;
    const { cursor } = snapshot;
    snapshotsWanted = snapshotsWanted.filter(({ to, request, key: other }) => {
      if (other !== key) return true;
      record.mark(cursor);
      post({ type: 'answer', to, request, answer: snapshot });
      return false;
    });
    if (!record.live) return;
    subscriptionsWanted = subscriptionsWanted.filter(({ to, channel, cursors, key: other }) => {
      if (other !== key) return true;
      post({ type: 'subscribed', to, channel, missed: record.since(cursors), cursor });
      return false;
    });
  };

  return {
    receive(message) {
      const { from } = message;
      if (message.type === 'wants') {
        const known = members.has(from);
        members.set(from, new Map(message.channels.map((wish) => [keyOf(wish.channel), wish])));
        if (!known) {
          watch(from, () => remove(from));
          announce();
        }
        openAndClose();
      } else if (message.type === 'ping') post({ type: 'pong', to: from });
      else if (message.type === 'lent') borrowed.get(message.request)?.(message.snapshot);
      else {
        const { channel } = message;
        const asking = { to: from, key: keyOf(channel), channel };
        if (message.type === 'snapshot') snapshotsWanted.push({ ...asking, request: message.request });
        else subscriptionsWanted.push({ ...asking, cursors: message.cursors });
        settle(asking.key);
      }
    },
    heard(message) {
      if ('features' in message) settle(channelKey(message.project_id, message.environment));
      else if ('source' in message) relay(message);
      else if (message.type === 'hello') hello = message;
      else if (message.type === 'caught_up') {
        settle(channelKey(message.project_id, message.environment));
      } else if (message.type === 'resync' || message.type === 'heartbeat') relay(message);
      else if (message.type === 'error' && 'environment' in message) relay(message);
    },
    setConnected(now) {
      connected = now;
      if (!now) hello = null;
      announce();
    },
    refused(channel, { code, message, closeCode }) {
      const key = keyOf(channel);
      held.delete(key);
      const answer: Refusal = { code, message, closeCode };
      const address = { project_id: channel.projectId, environment: channel.env };
      relay({ type: 'error', code, message, ...address });
      for (const { to, request, key: other } of snapshotsWanted) {
        if (other === key) post({ type: 'answer', to, request, answer });
      }
      snapshotsWanted = snapshotsWanted.filter(({ key: other }) => other !== key);
      subscriptionsWanted = subscriptionsWanted.filter(({ key: other }) => other !== key);
    },
    async borrow(channel) {
      const key = keyOf(channel);
      const lender = [...members].find(([, wishes]) => wishes.get(key)?.filled);
      if (!lender) return null;
      const request = crypto.randomUUID();
      let timer: ReturnType<typeof setTimeout> | undefined;
      const snapshot = await new Promise<Snapshot | null>((resolve) => {
        borrowed.set(request, resolve);
        timer = setTimeout(resolve, borrowTimeoutMs, null);
        post({ type: 'lend', to: lender[0], request, channel });
      });
      clearTimeout(timer);
      borrowed.delete(request);
      return snapshot;
    },
    close() {
      for (const channel of held.values()) channel.close();
      held.clear();
    },
  };
}

function keyOf({ projectId, env }: ChannelName): string {
  return channelKey(projectId, env);
}

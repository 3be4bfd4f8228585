import type { HelloMessage, ServerMessage, Snapshot } from '#protocol';
import type { Channel } from '../channel.js';
import type { FlagcastError } from '../flagcast-error.js';
import type { StaleStatus } from '../status.js';
import type { Unsent } from './follower.js';
import {
  type FollowerMessage,
  isSameChannel,
  type LeaderMessage,
  type Refusal,
  type TabChannel,
  type Wish,
} from './messages.js';
import type { ChannelRecord } from './record.js';

/** This tab as the others see it: it has the connection, and opens the channels that they want. */
export interface Leader {
  readonly receive: (message: FollowerMessage) => void;
  /** A message or a snapshot of the server, recorded already. */
  readonly heard: (message: ServerMessage | Snapshot) => void;
  /** `stale`: connected to a server that is stale. */
  readonly setConnected: (connected: boolean, stale: StaleStatus | null) => void;
  /** The server has refused or ended a channel of this tab. */
  readonly refused: (channel: TabChannel, error: FlagcastError) => void;
  /** The channel's state out of another tab, which lets this one go on where that one is; null if none has it. */
  readonly borrow: (channel: TabChannel) => Promise<Snapshot | null>;
  /** Gives back the channels that the other tabs wanted. */
  readonly close: () => void;
}

export interface LeaderParts {
  readonly post: (message: Unsent<LeaderMessage>) => void;
  readonly watch: (tab: string, gone: () => void) => void;
  readonly openChannel: (channel: TabChannel) => Channel;
  readonly records: ReadonlySet<ChannelRecord>;
}

interface Asking {
  readonly to: string;
  readonly channel: TabChannel;
}

/** Another tab answers within a few milliseconds, or does not answer at all. */
const borrowTimeoutMs = 1_000;

export function createLeader({ post, watch, openChannel, records }: LeaderParts): Leader {
  let hello: HelloMessage | null = null;
  let connected = false;
  let stale: StaleStatus | null = null;
  /** What each tab wants, by the tab's name. */
  const members = new Map<string, readonly Wish[]>();
  /** The channels that are open for other tabs. */
  const held = new Set<Channel>();
  let snapshotsWanted: (Asking & { readonly request: string })[] = [];
  let subscriptionsWanted: (Asking & { readonly cursors: readonly string[] })[] = [];
  const borrowed = new Map<string, (snapshot: Snapshot | null) => void>();

  const announce = (): void => post({ type: 'leads', hello: connected ? hello : null, stale });

  const relay = (message: ServerMessage): void => {
    if (members.size > 0) post({ type: 'relay', message });
  };

  const findHeld = (wanted: TabChannel): ChannelRecord | undefined =>
    [...records].find(({ channel, name }) => held.has(channel) && isSameChannel(name, wanted));

  const openAndClose = (): void => {
    const wishes = [...members.values()].flat();
    const wanted = new Set(wishes.map(({ channel }) => findHeld(channel)?.channel));
    for (const channel of held) {
      if (wanted.has(channel)) continue;
      held.delete(channel);
      channel.close();
    }
    for (const wish of wishes) {
      if (findHeld(wish.channel)) continue;
      const channel = openChannel(wish.channel);
      // It is closed once: it must be opened once.
      if (held.has(channel)) channel.close();
      held.add(channel);
    }
  };

  const remove = (tab: string): void => {
    members.delete(tab);
    snapshotsWanted = snapshotsWanted.filter(({ to }) => to !== tab);
    subscriptionsWanted = subscriptionsWanted.filter(({ to }) => to !== tab);
    openAndClose();
  };

  /** Answers the other tabs, as far as there is an answer. */
  const settle = (): void => {
    const snapshotOf = (record: ChannelRecord): Snapshot | null =>
      // Where events bring no state, the snapshot that counts is the one that was requested after the event.
      record.loaded >= record.needed ? record.channel.toSnapshot() : null;
    snapshotsWanted = snapshotsWanted.filter(({ to, request, channel }) => {
      const record = findHeld(channel);
      const snapshot = record && snapshotOf(record);
      if (!snapshot) return true;
      record.mark(snapshot.cursor);
      post({ type: 'answer', to, request, answer: snapshot });
      return false;
    });
    subscriptionsWanted = subscriptionsWanted.filter(({ to, channel, cursors }) => {
      const record = findHeld(channel);
      const cursor = record?.live && snapshotOf(record)?.cursor;
      if (!cursor) return true;
      post({ type: 'subscribed', to, channel: record.name, missed: record.since(cursors), cursor });
      return false;
    });
  };

  return {
    receive(message) {
      const { from } = message;
      if (message.type === 'wants') {
        const known = members.has(from);
        members.set(from, message.channels);
        if (!known) {
          watch(from, () => remove(from));
          announce();
        }
        openAndClose();
        settle();
      } else if (message.type === 'ping') post({ type: 'pong', to: from });
      else if (message.type === 'lent') borrowed.get(message.request)?.(message.snapshot);
      else {
        const { channel } = message;
        const asking = { to: from, channel };
        if (message.type === 'snapshot') snapshotsWanted.push({ ...asking, request: message.request });
        else subscriptionsWanted.push({ ...asking, cursors: message.cursors });
        settle();
      }
    },
    heard(message) {
      if ('features' in message || ('type' in message && message.type === 'caught_up')) settle();
      else if ('source' in message) relay(message);
      else if (message.type === 'hello') hello = message;
      else if (message.type === 'channel_changed') {
        relay(message);
        // The key may be what another tab wants a channel by.
        openAndClose();
        settle();
      } else if (message.type === 'resync' || message.type === 'heartbeat') relay(message);
      else if (message.type === 'error' && 'environment_id' in message) relay(message);
    },
    setConnected(now, staleNow) {
      connected = now;
      stale = staleNow;
      if (!now) hello = null;
      announce();
    },
    refused(refused, { code, message, closeCode }) {
      const answer: Refusal = { code, message, closeCode };
      const { projectId, environmentId } = refused;
      if (environmentId !== null) {
        relay({ type: 'error', code, message, project_id: projectId, environment_id: environmentId });
      }
      for (const { to, request, channel } of snapshotsWanted) {
        if (isSameChannel(channel, refused)) post({ type: 'answer', to, request, answer });
      }
      snapshotsWanted = snapshotsWanted.filter(({ channel }) => !isSameChannel(channel, refused));
      subscriptionsWanted = subscriptionsWanted.filter(({ channel }) => !isSameChannel(channel, refused));
    },
    async borrow(channel) {
      const lender = [...members].find(([, wishes]) =>
        wishes.some((wish) => wish.filled && isSameChannel(wish.channel, channel)),
      );
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
      for (const channel of held) channel.close();
      held.clear();
    },
  };
}

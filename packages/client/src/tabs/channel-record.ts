import type { EventMessage, ServerMessage } from '#protocol';
import type { ChannelStatus } from '../status.js';
import { isComplete } from '../stream-position.js';
import type { AnySnapshot } from '../stream-position.js';
import type { Subscription } from '../subscription.js';
import { channelOf, isSameChannel, type TabChannel } from './messages.js';

interface ReplayEntry {
  readonly event?: EventMessage;
  readonly cursor?: string | undefined;
}

/** As many missed events as the server sends. */
const maxReplayEntries = 1_000;
const maxResumeCursors = 32;

/**
 * The last events and cursors of a channel, in order. Every tab keeps one, so that it can resume the other tabs when
 * it becomes the leader. Tabs of the same leader have received the same cursors.
 */
class ReplayBuffer {
  /** null: nothing has been recorded yet. */
  #entries: ReplayEntry[] | null = null;

  get isEmpty(): boolean {
    return !this.#entries;
  }

  /** The newest cursors, newest first. */
  get cursors(): readonly string[] {
    return (this.#entries ?? [])
      .flatMap(({ cursor }) => cursor ?? [])
      .slice(-maxResumeCursors)
      .reverse();
  }

  /** Records an event, or that all previous events are before a cursor. */
  add(entry: ReplayEntry): void {
    const { event, cursor } = entry;
    this.#entries ??= [];
    // If a cursor occurs twice, keep the earlier position: resuming from there cannot miss an event.
    if (!event && this.#entries.some((each) => each.cursor === cursor)) return;
    this.#entries.push(entry);
    if (this.#entries.length > maxReplayEntries) this.#entries.shift();
  }

  /** Returns the events after the first of the cursors that is found; null if none is found. */
  eventsAfter(cursors: readonly string[]): readonly EventMessage[] | null {
    const entries = this.#entries ?? [];
    for (const cursor of cursors) {
      const index = entries.findIndex((entry) => entry.cursor === cursor);
      if (index >= 0) return entries.slice(index + 1).flatMap(({ event }) => event ?? []);
    }
    return null;
  }

  /** Replaces the entries with those of another channel of the same environment; with none if events are missing. */
  reset(other?: ReplayBuffer): void {
    this.#entries = other ? [...(other.#entries ?? [])] : [];
  }
}

/** A channel or the feed as it is open in a tab. */
export type OpenSubscription = Subscription<{ readonly status: ChannelStatus }, AnySnapshot>;

/** A channel that is open in this tab, or the approvals feed. */
export interface ChannelRecord {
  readonly channel: OpenSubscription;
  readonly replay: ReplayBuffer;
  /** With the current key of the environment, and with its id as soon as it is known. */
  name: TabChannel;
  /** The key that the channel was opened with. */
  readonly openedAs: TabChannel;
  /** Whether the channel is caught up: the missed events have arrived, and newer ones follow. */
  isCaughtUp: boolean;
  /** Whether the server can read the state of features. */
  hasFeatureState: boolean;
  /** The number of snapshots that this tab has requested. */
  requestedSnapshots: number;
  /** The number of the snapshot that arrived last. */
  loadedSnapshot: number;
  /** The number of the first snapshot that contains all events. */
  requiredSnapshot: number;
}

export function createRecord(channel: OpenSubscription, name: TabChannel): ChannelRecord {
  return {
    channel,
    replay: new ReplayBuffer(),
    name,
    openedAs: name,
    isCaughtUp: false,
    hasFeatureState: true,
    requestedSnapshots: 0,
    loadedSnapshot: 0,
    requiredSnapshot: 0,
  };
}

export function findRecord(records: Iterable<ChannelRecord>, channel: TabChannel): ChannelRecord | undefined {
  return [...records].find(({ name }) => isSameChannel(name, channel));
}

/** Updates the records of the channels that the message is about. */
export function recordMessage(records: Iterable<ChannelRecord>, message: ServerMessage | AnySnapshot): void {
  for (const record of records) {
    if (!('type' in message)) recordSnapshot(record, message, records);
    else recordServerMessage(record, message);
  }
}

function recordSnapshot(
  record: ChannelRecord,
  snapshot: AnySnapshot,
  records: Iterable<ChannelRecord>,
): void {
  const name = channelOf(snapshot);
  if (!name || !isSameChannel(record.name, name)) return;
  record.name = name;
  record.hasFeatureState = snapshot.embedded_state;
  record.loadedSnapshot = record.requestedSnapshots;
  const cursor = record.channel.toSnapshot()?.cursor ?? snapshot.cursor;
  // The channel has taken over the state of another channel of the same environment, if there is one.
  const other = [...records].find(
    (each) => each !== record && isSameChannel(each.name, name) && each.replay.cursors[0] === cursor,
  );
  if (other) {
    record.isCaughtUp = other.isCaughtUp;
    record.replay.reset(other.replay);
  } else record.replay.add({ cursor });
}

function recordServerMessage(record: ChannelRecord, message: ServerMessage): void {
  const name = channelOf(message);
  const { projectId, environmentId } = record.name;
  if (name && (name.projectId !== projectId || name.environmentId !== environmentId)) return;
  if ('source' in message) {
    record.replay.add({ event: message, cursor: message.cursor });
    // The channel loads a snapshot after such an event.
    if (!isComplete(message) && record.hasFeatureState) {
      record.requiredSnapshot = record.requestedSnapshots + 1;
    }
    return;
  }
  if (message.type === 'channel_changed') {
    record.name = { ...record.name, env: message.environment };
  } else if (message.type === 'caught_up') {
    if ('environment' in message) record.name = { ...record.name, env: message.environment };
    record.replay.add({ cursor: message.cursor });
    record.isCaughtUp = true;
  } else if (message.type === 'heartbeat') {
    if (record.isCaughtUp) record.replay.add({ cursor: message.cursor });
  } else if (message.type === 'resync') {
    record.isCaughtUp = false;
    record.replay.reset();
  } else if (['hello', 'unsubscribed'].includes(message.type) || (message.type === 'error' && name)) {
    record.isCaughtUp = false;
  }
}

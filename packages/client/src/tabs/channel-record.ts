import type { EventMessage, ServerMessage, Snapshot } from '#protocol';
import type { Channel } from '../channel.js';
import { isSameChannel, type TabChannel } from './messages.js';

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
  #entries: ReplayEntry[] = [];
  #isEmpty = true;

  /** Whether nothing has been recorded yet. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** The newest cursors, newest first. */
  get cursors(): readonly string[] {
    return this.#entries
      .flatMap(({ cursor }) => cursor ?? [])
      .slice(-maxResumeCursors)
      .reverse();
  }

  addEvent(event: EventMessage): void {
    this.#push({ event, cursor: event.cursor });
  }

  /** Records that all previous events are before this cursor. */
  addCursor(cursor: string): void {
    // If a cursor occurs twice, keep the earlier position: resuming from there cannot miss an event.
    if (this.#indexOf(cursor) < 0) this.#push({ cursor });
  }

  /** Returns the events after the first of the cursors that is found; null if none is found. */
  eventsAfter(cursors: readonly string[]): readonly EventMessage[] | null {
    for (const cursor of cursors) {
      const index = this.#indexOf(cursor);
      if (index >= 0) return this.#entries.slice(index + 1).flatMap(({ event }) => event ?? []);
    }
    return null;
  }

  /** Replaces the entries with those of another channel of the same environment. */
  copyFrom(other: ReplayBuffer): void {
    this.#isEmpty = false;
    this.#entries = [...other.#entries];
  }

  /** Removes all entries, because events are missing after them. */
  clear(): void {
    this.#isEmpty = false;
    this.#entries = [];
  }

  #push(entry: ReplayEntry): void {
    this.#isEmpty = false;
    this.#entries.push(entry);
    if (this.#entries.length > maxReplayEntries) this.#entries.shift();
  }

  #indexOf(cursor: string): number {
    return this.#entries.findIndex((entry) => entry.cursor === cursor);
  }
}

/** A channel that is open in this tab. */
export interface ChannelRecord {
  readonly channel: Channel;
  readonly replay: ReplayBuffer;
  /** With the current key of the environment, and with its id as soon as it is known. */
  name: TabChannel;
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

/** Creates a record. `environmentId` is null if only the environment's key is known. */
export function createRecord(channel: Channel, environmentId: string | null): ChannelRecord {
  const { projectId, env } = channel;
  return {
    channel,
    replay: new ReplayBuffer(),
    name: { projectId, env, environmentId },
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
export function recordMessage(records: Iterable<ChannelRecord>, message: ServerMessage | Snapshot): void {
  for (const record of records) {
    if ('features' in message) recordSnapshot(record, message, records);
    else recordServerMessage(record, message);
  }
}

function recordSnapshot(record: ChannelRecord, snapshot: Snapshot, records: Iterable<ChannelRecord>): void {
  const { project_id: projectId, environment: env, environment_id: environmentId } = snapshot;
  const name = { projectId, env, environmentId };
  if (!isSameChannel(record.name, name)) return;
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
    record.replay.copyFrom(other.replay);
  } else record.replay.addCursor(cursor);
}

function recordServerMessage(record: ChannelRecord, message: ServerMessage): void {
  if ('feed' in message) return;
  const hasChannel = 'environment_id' in message;
  const { projectId, environmentId } = record.name;
  if (hasChannel && (message.project_id !== projectId || message.environment_id !== environmentId)) return;
  if ('source' in message) {
    record.replay.addEvent(message);
    // The channel loads a snapshot after such an event.
    if (!('feature' in message || message.feature_unreadable) && record.hasFeatureState) {
      record.requiredSnapshot = record.requestedSnapshots + 1;
    }
    return;
  }
  if (message.type === 'channel_changed') {
    record.name = { ...record.name, env: message.environment };
  } else if (message.type === 'caught_up') {
    record.name = { ...record.name, env: message.environment };
    record.replay.addCursor(message.cursor);
    record.isCaughtUp = true;
  } else if (message.type === 'heartbeat') {
    if (record.isCaughtUp) record.replay.addCursor(message.cursor);
  } else if (message.type === 'resync') {
    record.isCaughtUp = false;
    record.replay.clear();
  } else if (message.type === 'unsubscribed' || (message.type === 'error' && hasChannel)) {
    record.isCaughtUp = false;
  }
}

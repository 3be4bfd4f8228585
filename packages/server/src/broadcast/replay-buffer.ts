import { SharedEvents } from '../events/dialect.js';
import { type Batch, byChannel, type FlagEvent } from '../events/event.js';
import { covers, cursorOf, type Position, textOf } from '../events/position.js';

/** The events of one channel in one batch. */
export class ChannelBatch extends SharedEvents {
  readonly sequence: number;
  /** The position of a client that has received this batch and all before it. */
  readonly position: Position;

  constructor(sequence: number, events: readonly FlagEvent[], batch: Batch) {
    super(events, batch.seenAtMs);
    this.sequence = sequence;
    this.position = batch.position;
  }

  override get cursor(): string {
    return cursorOf(this.position);
  }
}

interface ReplayBufferEntry {
  readonly sequence: number;
  readonly eventCount: number;
  readonly snapshotXmax: bigint;
  readonly channels: ReadonlyMap<string, ChannelBatch>;
}

/** How many replays are kept until the next batch, for clients that resume from the same position. */
const maxReplays = 64;

/**
 * The recent batches in memory, for slow clients and clients that resume. Batches that bring or skip events have
 * consecutive sequence numbers in this process.
 */
export class ReplayBuffer {
  readonly #maxEvents: number;
  /** Oldest first. */
  readonly #entries: ReplayBufferEntry[] = [];
  #eventCount = 0;
  /** The sequence of the newest batch. */
  sequence = 0;
  /** Everything that a snapshot with this xmax shows came before the buffer. */
  #startXmax = 0n;
  /** The sequence of the newest batch before the last `reset`: no batch up to it is in the buffer. */
  #resetSequence = 0;
  /** By channel, the sequence of its newest batch that is no longer here: a quiet channel is not affected by others. */
  readonly #evicted = new Map<string, number>();
  /** By channel, the snapshot xmax of the newest batch that was skipped. */
  readonly #skippedXmax = new Map<string, bigint>();
  readonly #replays = new Map<string, SharedEvents | null>();

  /** `maxEvents`: how many events are kept. The newest batch is always kept. */
  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents;
  }

  /** Empties the buffer. Everything that a snapshot with this xmax shows is left out. */
  reset(startXmax: bigint): void {
    this.#entries.length = 0;
    this.#eventCount = 0;
    this.#startXmax = startXmax;
    this.#resetSequence = this.sequence;
    this.#evicted.clear();
    this.#skippedXmax.clear();
    this.#replays.clear();
  }

  /** Adds a batch and returns its events by channel. */
  append(batch: Batch): ReadonlyMap<string, ChannelBatch> {
    const { events, skipped = [], snapshotXmax } = batch;
    const channels = new Map<string, ChannelBatch>();
    if (events.length === 0 && skipped.length === 0) return channels;
    this.sequence += 1;
    this.#replays.clear();
    for (const channel of skipped) {
      this.#evicted.set(channel, this.sequence);
      this.#skippedXmax.set(channel, snapshotXmax);
    }
    const left = new Set(skipped);
    for (const [channel, ofChannel] of byChannel(events)) {
      // The approvals feed and a channel share events: where one of them is left out, only a part of its events is here.
      if (!left.has(channel)) channels.set(channel, new ChannelBatch(this.sequence, ofChannel, batch));
    }
    if (events.length === 0) return channels;
    this.#entries.push({ sequence: this.sequence, eventCount: events.length, snapshotXmax, channels });
    this.#eventCount += events.length;
    while (this.#eventCount > this.#maxEvents && this.#entries.length > 1) this.#evictOldest();
    return channels;
  }

  /**
   * The channel's events that a client at the position has not received; null if the buffer does not reach back to it.
   * A position with an xmax beyond `startXmax` is from a later snapshot, so everything after it is in the buffer.
   *
   * Each event has the newest known state of its feature: its own may be older than one that the client has, from a
   * later event or a snapshot.
   */
  since(position: Position, channel: string): SharedEvents | null {
    // Not the cursor: it leaves out transactions of a position that lists too many.
    const key = JSON.stringify([channel, textOf(position)]);
    let replay = this.#replays.get(key);
    if (replay === undefined) {
      const events = this.#eventsSince(position, channel);
      replay = events === null ? null : new SharedEvents(events, Date.now());
      if (this.#replays.size < maxReplays) this.#replays.set(key, replay);
    }
    return replay;
  }

  #eventsSince(position: Position, channel: string): FlagEvent[] | null {
    if (position.xmax <= this.#startXmax) return null;
    if (position.xmax <= (this.#skippedXmax.get(channel) ?? -1n)) return null;
    const missed: FlagEvent[] = [];
    const states = new NewestStates();
    for (const { channels } of this.#entries) {
      for (const event of channels.get(channel)?.events ?? []) {
        states.add(event);
        if (!covers(position, event.xid)) missed.push(event);
      }
    }
    return missed.map((event) => states.applyTo(event));
  }

  /** The sequence of the channel's newest batch that is not in the buffer; 0 if all are. */
  evicted(channel: string): number {
    return this.#evicted.get(channel) ?? this.#resetSequence;
  }

  /** The channel's batches after `sequence`, oldest first; null if some of them are not in the buffer. */
  after(sequence: number, channel: string): ChannelBatch[] | null {
    if (this.evicted(channel) > sequence) return null;
    const first = this.#entries.findLastIndex((entry) => entry.sequence <= sequence) + 1;
    return this.#entries.slice(first).flatMap(({ channels }) => channels.get(channel) ?? []);
  }

  #evictOldest(): void {
    const entry = this.#entries.shift();
    if (entry === undefined) return;
    this.#eventCount -= entry.eventCount;
    this.#startXmax = entry.snapshotXmax;
    for (const channel of entry.channels.keys()) {
      if (this.evicted(channel) < entry.sequence) this.#evicted.set(channel, entry.sequence);
    }
  }
}

/** The newest known states of features and requests. */
export class NewestStates {
  readonly #features = new Map<string | null, FlagEvent>();
  readonly #requests = new Map<string | null, FlagEvent>();

  /** Adds an event that is newer than those before. */
  add(event: FlagEvent): void {
    // The environment is part of a feature's state.
    this.#features.set(featureKey(event), event);
    if (event.source === 'pending') this.#requests.set(event.pendingChangeId, event);
  }

  /** The event with the newest states of its feature and its request. */
  applyTo(event: FlagEvent): FlagEvent {
    const { featureJson, featureUnreadable } = this.#features.get(featureKey(event)) ?? event;
    const newest = event.source === 'pending' ? this.#requests.get(event.pendingChangeId) : undefined;
    const { pendingChangeJson, pendingChangeUnreadable } = newest ?? event;
    if (featureJson === event.featureJson && pendingChangeJson === event.pendingChangeJson) return event;
    return { ...event, featureJson, featureUnreadable, pendingChangeJson, pendingChangeUnreadable };
  }
}

function featureKey({ featureId, environmentId }: FlagEvent): string | null {
  return featureId === null ? null : JSON.stringify([featureId, environmentId]);
}

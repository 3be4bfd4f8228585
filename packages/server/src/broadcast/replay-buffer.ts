import type { Batch, FlagEvent } from '../events/event.js';
import { covers, cursorOf, type Position } from '../events/position.js';
import { SharedEvents } from '../events/shared-events.js';

/** What one batch holds for one channel. */
export class ChannelBatch extends SharedEvents {
  readonly sequence: number;
  /** Where whoever has been given this batch and all before it stands. */
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

/** A batch, by channel. Sequences count the batches of this process; those that hold nothing here are left out. */
export interface ReplayBufferEntry {
  readonly sequence: number;
  readonly eventCount: number;
  /** The xmax of the snapshot that it was read in. */
  readonly snapshotXmax: bigint;
  readonly channels: ReadonlyMap<string, ChannelBatch>;
}

/**
 * The recent batches, oldest first, bounded by the number of their events. Who fell behind, but
 * not further than this, is brought up to date from here without a query.
 */
export class ReplayBuffer {
  readonly #maxEvents: number;
  /** From `#head` on; those before have been let go of. */
  #entries: (ReplayBufferEntry | undefined)[] = [];
  #head = 0;
  #eventCount = 0;
  /** The newest batch of each channel that is not kept: a quiet channel misses nothing when others are busy. */
  readonly #evicted = new Map<string, number>();
  /** By channel, the xmax of the newest batch that was never kept. */
  readonly #skippedXmax = new Map<string, bigint>();
  /** What had shown in this snapshot came before the ring. */
  #startXmax: bigint;

  /**
   * `maxEvents`: how many events to keep; the newest batch is kept whole whatever its size.
   * `startXmax`: the xmax of a snapshot whose events all came before.
   */
  constructor(maxEvents: number, startXmax: bigint) {
    this.#maxEvents = maxEvents;
    this.#startXmax = startXmax;
  }

  /**
   * The channel's events that somebody at the position has not been given; null when the ring does not
   * reach back to it. An xmax beyond that of a snapshot is that of a later snapshot, so what the
   * position's owner has not been given came after the ring's start.
   *
   * Each has the newest state that is known of its feature, as if it was read now. Its own may be older
   * than one that the owner knows: from a later event that it has been given already, or from a snapshot.
   */
  since(position: Position, channel: string): FlagEvent[] | null {
    if (position.xmax <= this.#startXmax) return null;
    if (position.xmax <= (this.#skippedXmax.get(channel) ?? -1n)) return null;
    const missed: FlagEvent[] = [];
    const states = new Map<string | null, FlagEvent>();
    for (let index = this.#head; index < this.#entries.length; index += 1) {
      for (const event of this.#entries[index]?.channels.get(channel)?.events ?? []) {
        states.set(event.featureId, event);
        if (!covers(position, event.xid)) missed.push(event);
      }
    }
    return missed.map((event) => withStateOf(event, states.get(event.featureId)));
  }

  append(entry: ReplayBufferEntry): void {
    this.#entries.push(entry);
    this.#eventCount += entry.eventCount;
    while (this.#eventCount > this.#maxEvents && this.#entries.length - this.#head > 1) {
      this.#evict(this.#entries[this.#head]);
      this.#entries[this.#head] = undefined;
      this.#head += 1;
    }
    // Dropping from the front moves the whole array: rarely, and by halves.
    if (this.#head > 64 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Batch number `sequence` held events of the channel that are not kept here. */
  skip(channel: string, sequence: number, snapshotXmax: bigint): void {
    this.#evicted.set(channel, sequence);
    this.#skippedXmax.set(channel, snapshotXmax);
  }

  /** The newest batch of the channel that is not kept; 0 where there is none. */
  evicted(channel: string): number {
    return this.#evicted.get(channel) ?? 0;
  }

  /** The channel's batches after `sequence`, oldest first; null when some of them are not kept. */
  after(sequence: number, channel: string): ChannelBatch[] | null {
    if (this.evicted(channel) > sequence) return null;
    const batches: ChannelBatch[] = [];
    for (let index = this.#entries.length - 1; index >= this.#head; index -= 1) {
      const entry = this.#entries[index];
      if (entry === undefined || entry.sequence <= sequence) break;
      const batch = entry.channels.get(channel);
      if (batch !== undefined) batches.push(batch);
    }
    return batches.reverse();
  }

  #evict(entry: ReplayBufferEntry | undefined): void {
    if (entry === undefined) return;
    this.#eventCount -= entry.eventCount;
    this.#startXmax = entry.snapshotXmax;
    for (const channel of entry.channels.keys()) {
      if (this.evicted(channel) < entry.sequence) this.#evicted.set(channel, entry.sequence);
    }
  }
}

/** The event with the state of its feature that another one has. */
export function withStateOf(event: FlagEvent, newest: FlagEvent | undefined): FlagEvent {
  if (newest === undefined || newest.featureJson === event.featureJson) return event;
  const { featureJson, featureUnreadable } = newest;
  return { ...event, featureJson, featureUnreadable };
}

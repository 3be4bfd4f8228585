import type { Dialect } from '../events/dialect.js';
import type { FlagEvent } from '../events/event.js';

/** What one batch holds for one channel. Its bytes are made when the first peer needs them, and once. */
export class ChannelBatch {
  readonly sequence: number;
  readonly events: readonly FlagEvent[];
  readonly #encodings = new Map<Dialect, Buffer>();

  constructor(sequence: number, events: readonly FlagEvent[]) {
    this.sequence = sequence;
    this.events = events;
  }

  /** The batch as the bytes that go out in `dialect`. */
  encoded(dialect: Dialect): Buffer {
    let bytes = this.#encodings.get(dialect);
    if (bytes === undefined) {
      bytes = dialect.encode(this.events);
      this.#encodings.set(dialect, bytes);
    }
    return bytes;
  }
}

/** A batch, by channel. Sequences count the batches of this process, without a gap. */
export interface RingEntry {
  readonly sequence: number;
  readonly eventCount: number;
  readonly channels: ReadonlyMap<string, ChannelBatch>;
}

/**
 * The recent batches, oldest first, bounded by the number of their events. Who fell behind, but
 * not further than this, is brought up to date from here without a query.
 */
export class Ring {
  readonly #maxEvents: number;
  #entries: RingEntry[] = [];
  #head = 0;
  #eventCount = 0;
  /** The newest batch of each channel that is no longer kept: a quiet channel misses nothing when others are busy. */
  readonly #evicted = new Map<string, number>();

  /** `maxEvents`: how many events to keep; the newest batch is kept whole whatever its size. */
  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents;
  }

  append(entry: RingEntry): void {
    this.#entries.push(entry);
    this.#eventCount += entry.eventCount;
    while (this.#eventCount > this.#maxEvents && this.#entries.length - this.#head > 1) {
      this.#evict(this.#entries[this.#head]);
      this.#head += 1;
    }
    // Dropping from the front moves the whole array: rarely, and by halves.
    if (this.#head > 64 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /** The channel's batches after `sequence`, oldest first; null when some of them are gone. */
  after(sequence: number, channel: string): ChannelBatch[] | null {
    const first = this.#entries[this.#head];
    if (first === undefined) return [];
    if ((this.#evicted.get(channel) ?? 0) > sequence) return null;
    const batches: ChannelBatch[] = [];
    const missed = Math.max(0, sequence + 1 - first.sequence);
    for (let index = this.#head + missed; index < this.#entries.length; index += 1) {
      const batch = this.#entries[index]?.channels.get(channel);
      if (batch !== undefined) batches.push(batch);
    }
    return batches;
  }

  #evict(entry: RingEntry | undefined): void {
    if (entry === undefined) return;
    this.#eventCount -= entry.eventCount;
    for (const channel of entry.channels.keys()) this.#evicted.set(channel, entry.sequence);
  }
}

import { EventEmitter, once } from 'node:events';
import type { Batch } from '../events/event.js';
import { type Coverage, covers, type Position } from '../events/position.js';

/** How long a requested batch may take, in milliseconds. */
const batchTimeoutMs = 5_000;

/** How far batches were broadcast; requests more of them when a client is ahead. */
export class BroadcastProgress {
  readonly #requestBatch: () => void;
  readonly #batches = new EventEmitter().setMaxListeners(0);
  /** The position of a client that has received everything; null before the first batch. */
  position: Position | null = null;
  #coverage: Coverage | null = null;

  constructor(requestBatch: () => void) {
    this.#requestBatch = requestBatch;
  }

  advance(batch: Batch): void {
    this.position = batch.position;
    this.#coverage = batch.read.coverage;
    this.#batches.emit('batch', batch);
  }

  reset(): void {
    this.position = null;
    this.#coverage = null;
  }

  /** Waits for the first batch; false if the database does not respond. */
  async begun(): Promise<boolean> {
    if (this.position === null) await this.#nextBatch();
    return this.position !== null;
  }

  /** Waits for another batch; false if the database does not respond. */
  async advanced(): Promise<boolean> {
    return (await this.#nextBatch()) !== null;
  }

  /**
   * Waits until everything before the position was broadcast here, too: its client may have it from another server or
   * from a snapshot, and must not receive it again. `database_behind`: the database does not have it any more, because it has
   * lost transactions. `unavailable`: the database does not respond.
   */
  async reach(position: Position): Promise<'reached' | 'database_behind' | 'unavailable'> {
    const requestedAtMs = performance.now();
    while (this.#isAhead(position)) {
      const batch = await this.#nextBatch();
      if (batch === null) return 'unavailable';
      if (batch.beganAtMs < requestedAtMs) continue;
      if (position.xmax > batch.snapshotXmax) return 'database_behind';
      // A replica does not list transactions in flight: nothing covers more than a complete read.
      if (batch.isComplete) return 'reached';
    }
    return 'reached';
  }

  /** Whether later batches may contain something from before the position. True in case of doubt. */
  #isAhead(position: Position): boolean {
    const own = this.#coverage;
    if (own === null || position.xmax > own.xmax) return true;
    if (own.listed === 'open') return own.xids.some((xid) => covers(position, xid));
    if (position.xmin > own.xmin) return true;
    return position.listed === 'open' || position.xids.some((xid) => !covers(own, xid));
  }

  /** Null after the time-out. */
  async #nextBatch(): Promise<Batch | null> {
    this.#requestBatch();
    try {
      const signal = AbortSignal.timeout(batchTimeoutMs);
      const [batch] = (await once(this.#batches, 'batch', { signal })) as [Batch];
      return batch;
    } catch {
      return null;
    }
  }
}

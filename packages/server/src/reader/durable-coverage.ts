import type { Coverage } from '../events/position.js';

interface Candidate {
  readonly coverage: Coverage;
  /** Transactions that it does not cover, because they are only partly delivered. Cursors cannot say which part. */
  readonly partial: ReadonlySet<bigint>;
  readonly insertLsn: bigint | null;
}

/**
 * What was read and cannot be taken back by a crash.
 *
 * After a crash PostgreSQL hands out again the ids of transactions whose records had not reached the disk: those
 * that were rolled back, or committed asynchronously. A row written under such an id would lie within a coverage
 * that had trusted it. Every transaction that has ended has a record in the write-ahead log, written before it left
 * the snapshot. So a snapshot's ids are trusted once the log is on disk up to where it ended when the snapshot
 * had been taken, as seen by that read or a later one on the same connection.
 */
export class DurableCoverage {
  #value: Coverage;
  #settled: Coverage;
  #partial: ReadonlySet<bigint> = new Set();
  #waiting: Candidate[] = [];

  /** Begins with a coverage that is known to be on disk. */
  constructor(value: Coverage) {
    this.#value = value;
    this.#settled = value;
  }

  get value(): Coverage {
    return this.#value;
  }

  /** The transactions that are known to be on disk, and that were partly delivered. */
  get partial(): ReadonlySet<bigint> {
    return this.#partial;
  }

  /** The newest one without partly delivered transactions: where cursors stand. */
  get settled(): Coverage {
    return this.#settled;
  }

  /** Takes in what a read told. `flushLsn` is null on a replica, which shows only what its primary has on disk. */
  advance(candidate: Candidate, flushLsn: bigint | null): void {
    const { insertLsn } = candidate;
    if (insertLsn === null || flushLsn === null) {
      this.#accept(candidate);
      return;
    }
    // Of candidates that wait for the same flush only the newest matters.
    const newest = this.#waiting.at(-1);
    if (newest?.insertLsn === insertLsn && newest.partial.size === candidate.partial.size)
      this.#waiting.pop();
    this.#waiting.push(candidate);
    const stillWaiting = this.#waiting.findIndex((each) => (each.insertLsn ?? 0n) > flushLsn);
    const durable = this.#waiting.splice(0, stillWaiting === -1 ? this.#waiting.length : stillWaiting);
    for (const each of durable) this.#accept(each);
  }

  /** Takes over what another reader knows to be on disk. */
  replace(value: Coverage, settled: Coverage, partial: ReadonlySet<bigint>): void {
    this.#waiting = [];
    this.#partial = partial;
    this.#value = value;
    this.#settled = settled;
  }

  /**
   * Forgets the candidates that wait: a crash may have ended the connection, and then other records take their places
   * in the log, up to which it is on disk all the same.
   */
  forgetWaiting(): void {
    this.#waiting = [];
  }

  #accept({ coverage, partial }: Candidate): void {
    this.#value = coverage;
    this.#partial = partial;
    if (partial.size === 0) this.#settled = coverage;
  }
}

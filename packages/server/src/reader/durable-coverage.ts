import type { Coverage } from '../events/position.js';

interface Candidate {
  readonly coverage: Coverage;
  /** Transactions that it does not cover, because they are only partly delivered. */
  readonly partial: ReadonlySet<bigint>;
  readonly insertLsn: bigint | null;
}

/**
 * The part of the coverage that a crash cannot undo.
 *
 * After a crash PostgreSQL assigns again the ids of transactions whose records had not reached the disk: those
 * that were rolled back, or committed asynchronously. A coverage that included them would hide the rows written under
 * the same ids later. Every transaction that has ended has a record in the write-ahead log, written before it left the
 * snapshot. So a snapshot is durable once the log is flushed up to where it ended when the snapshot had been taken, as
 * seen by that read or a later one on the same connection.
 */
export class DurableCoverage {
  #value: Coverage;
  #settled: Coverage;
  #partial: ReadonlySet<bigint> = new Set();
  #waiting: Candidate[] = [];

  /** Starts with a coverage that is known to be on disk. */
  constructor(value: Coverage) {
    this.#value = value;
    this.#settled = value;
  }

  get value(): Coverage {
    return this.#value;
  }

  /** Partly delivered transactions that are known to be on disk. */
  get partial(): ReadonlySet<bigint> {
    return this.#partial;
  }

  /** The newest one without partly delivered transactions: cursors get it. */
  get settled(): Coverage {
    return this.#settled;
  }

  /** Adds the coverage of a read. `flushLsn` is null on a replica, which shows only what its primary has flushed. */
  advance(candidate: Candidate, flushLsn: bigint | null): void {
    const { insertLsn } = candidate;
    if (insertLsn === null || flushLsn === null) {
      this.#accept(candidate);
      return;
    }
    // Only the newest of the candidates that wait for the same flush matters.
    const newest = this.#waiting.at(-1);
    if (newest?.insertLsn === insertLsn && newest.partial.size === candidate.partial.size)
      this.#waiting.pop();
    this.#waiting.push(candidate);
    const stillWaiting = this.#waiting.findIndex((each) => (each.insertLsn ?? 0n) > flushLsn);
    const durable = this.#waiting.splice(0, stillWaiting === -1 ? this.#waiting.length : stillWaiting);
    for (const each of durable) this.#accept(each);
  }

  /** Replaces it by what another reader knows to be on disk. */
  replace(value: Coverage, settled: Coverage, partial: ReadonlySet<bigint>): void {
    this.#waiting = [];
    this.#partial = partial;
    this.#value = value;
    this.#settled = settled;
  }

  /**
   * Forgets the candidates that wait for a flush. If a crash ended the connection, other records take the same places in
   * the write-ahead log, and their flush says nothing about these candidates.
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

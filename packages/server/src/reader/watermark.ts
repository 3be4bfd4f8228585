/** What one read tells about the database's history: LSNs in bytes, null on a replica. */
export interface SnapshotPosition {
  /** `pg_snapshot_xmin` of the read's snapshot: every transaction below it has ended. */
  readonly xmin: bigint;
  /** `pg_snapshot_xmax`: one more than the youngest transaction that has ended. */
  readonly xmax: bigint;
  /** Where the log ended when the snapshot had been taken. */
  readonly insertLsn: bigint | null;
  /** Up to where the log was safely on disk at that time. */
  readonly flushLsn: bigint | null;
}

interface Candidate {
  readonly xmin: bigint;
  readonly xmax: bigint;
  readonly insertLsn: bigint;
}

/**
 * The transaction id below which nothing new can appear.
 *
 * A snapshot's xmin says that of a database which does not crash. After a crash PostgreSQL
 * hands out again the ids whose log records had not reached the disk (of transactions that
 * were rolled back, or committed asynchronously), and a row written under such an id would lie
 * below the watermark. Every ended transaction has a record in the log, written before it left
 * the snapshot; so a snapshot's ids are taken once the log is on disk up to where it ended when
 * that snapshot had been taken, as seen by that read or a later one on the same connection.
 */
export class Watermark {
  #value: bigint;
  #horizon: bigint;
  #waiting: Candidate[] = [];

  /** Begins at a position that is known to be durable or that nobody relies on. */
  constructor(value: bigint, horizon: bigint) {
    this.#value = value;
    this.#horizon = horizon;
  }

  get value(): bigint {
    return this.#value;
  }

  /** The xmax of the snapshot that the value was taken from: orders positions in time. */
  get horizon(): bigint {
    return this.#horizon;
  }

  /** Takes in what a read told; true when the watermark moved. */
  advance(position: SnapshotPosition): boolean {
    const before = this.#value;
    const { xmin, xmax, insertLsn, flushLsn } = position;
    if (insertLsn === null || flushLsn === null) {
      // A replica hands out no ids: what it shows has been replayed from its primary's log.
      this.raise(xmin, xmax);
      return this.#value > before;
    }
    const newest = this.#waiting.at(-1) ?? { xmin: this.#value, xmax: this.#horizon };
    if (xmin > newest.xmin || xmax > newest.xmax) this.#waiting.push({ xmin, xmax, insertLsn });
    const stillWaiting = this.#waiting.findIndex((candidate) => candidate.insertLsn > flushLsn);
    const durable = this.#waiting.splice(0, stillWaiting === -1 ? this.#waiting.length : stillWaiting);
    const last = durable.at(-1);
    if (last !== undefined) this.raise(last.xmin, last.xmax);
    return this.#value > before;
  }

  /**
   * Forgets the ids whose records were not known to be on disk: a crash may have ended the connection, and then
   * other records take their places in the log, up to which it is on disk all the same.
   */
  forgetWaiting(): void {
    this.#waiting = [];
  }

  /** Takes over what is known to be durable; true when the watermark moved. */
  raise(xmin: bigint, xmax: bigint): boolean {
    const before = this.#value;
    if (xmin > this.#value) this.#value = xmin;
    if (xmax > this.#horizon) this.#horizon = xmax;
    return this.#value > before;
  }
}

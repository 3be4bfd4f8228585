/** The pauses between the reads after a notification, in milliseconds: a quarter of a second in total. */
const pausesMs = [2, 4, 8, 16, 32, 64, 128];
/** The same on a replica, where a commit is visible once it has been replayed: 5 s in total. */
const replicaPausesMs = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];
/** The minimum time between two reads if more than `busyReads` in a row returned rows, in milliseconds. */
const leastDistanceMs = 10;
const busyReads = 4;

/**
 * Decides when to read again after a notification.
 *
 * A transaction does not notify while another one that writes in the same 20 ms holds the lock of that slice. When the
 * notification of the other one arrives, the first can still be in flight, and a snapshot does not show that: it lists
 * only transactions that are older than one that has ended. So more reads follow each notification, after pauses that
 * double from 2 to 128 ms. The pauses start again whenever a read returns rows. Later commits are read after the next
 * notification, at the latest with the next poll. The same holds for a transaction that did not notify because of one
 * that was rolled back.
 *
 * A NOTIFY from the primary can arrive before a replica has replayed the commit, so there the reads continue longer.
 */
export class FollowUp {
  /** The index of the next pause; null before a notification, and after the last pause. */
  #step: number | null = null;
  #rowsInARow = 0;

  /** A notification has arrived. */
  restart(): void {
    this.#step = 0;
  }

  /** How long to wait before the next read, in milliseconds; null: until the next notification or poll. */
  after({ rows, isReplica }: { rows: number; isReplica: boolean }): number | null {
    this.#rowsInARow = rows > 0 ? this.#rowsInARow + 1 : 0;
    if (this.#step === null) return null;
    if (rows > 0) this.#step = 0;
    const pauseMs = (isReplica ? replicaPausesMs : pausesMs)[this.#step];
    this.#step = pauseMs === undefined ? null : this.#step + 1;
    return pauseMs === undefined ? null : Math.max(pauseMs, this.leastDistanceMs);
  }

  /** The minimum time between two reads, in milliseconds, so that a host that writes all the time is read 100 times a second. */
  get leastDistanceMs(): number {
    return this.#rowsInARow > busyReads ? leastDistanceMs : 0;
  }
}

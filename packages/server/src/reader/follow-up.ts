/** Between the reads after a hint, in milliseconds, while transactions are in flight. */
const pausesMs = [2, 4, 8, 16, 32, 64];
/** The same on a replica, where a commit is visible once it has been replayed: 5 s in all. */
const replicaPausesMs = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];
/** The least time between two reads once so many in a row brought rows, in milliseconds: a host that writes all the time is read 100 times a second. */
const leastDistanceMs = 10;
const busyReads = 4;

/**
 * When to read again after a hint. A transaction sends no hint while another one that writes in the same 20 ms holds
 * the lock of that slice. When the hint of that other one arrives, the first is either visible or in flight: it got
 * its id before it tried the lock, which is released before the hint is sent. So the reads go on while transactions are
 * in flight, after pauses that double from 2 to 64 ms, and begin anew whenever rows came. What a pause of 64 ms does
 * not find comes with the next hint or poll.
 *
 * The hint of a primary can arrive before a replica has replayed the commit. A replica does not show what is in
 * flight, so there the reads go on for 5 s after each hint.
 */
export class FollowUp {
  /** The next pause; null while no hint is being followed up. */
  #step: number | null = null;
  #rowsInARow = 0;

  /** A hint has come. */
  hint(): void {
    this.#step = 0;
  }

  /**
   * How long to wait before the next read, in milliseconds; null: no read is due before the next hint or poll.
   * `inFlight` is null where that is not known.
   */
  after({ rows, inFlight }: { rows: number; inFlight: boolean | null }): number | null {
    this.#rowsInARow = rows > 0 ? this.#rowsInARow + 1 : 0;
    if (this.#step === null) return null;
    if (rows > 0) this.#step = 0;
    const pauseMs = (inFlight === null ? replicaPausesMs : pausesMs)[this.#step];
    if (pauseMs === undefined || inFlight === false) {
      this.#step = null;
      return null;
    }
    this.#step += 1;
    return Math.max(pauseMs, this.leastDistanceMs);
  }

  /** The least time between two reads, in milliseconds. */
  get leastDistanceMs(): number {
    return this.#rowsInARow > busyReads ? leastDistanceMs : 0;
  }
}

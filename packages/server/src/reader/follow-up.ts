/** Between the reads after a hint, in milliseconds, while transactions are in flight or rows came. */
const pausesMs = [2, 4, 8, 16, 32, 64];
/** The same on a replica, where a commit is visible once it has been replayed: 5 s in all. */
const replicaPausesMs = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];
/** The least time between two reads of which both brought rows, in milliseconds. */
const leastDistanceMs = 10;

/**
 * When to read again after a hint. Only one of the transactions that write within 20 ms sends a hint, so the
 * commits of the others are found by reading again while transactions are in flight: after pauses that double
 * from 2 to 64 ms, beginning anew whenever rows came. What a pause of 64 ms does not find comes with the next hint or
 * poll.
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
    const pauses = inFlight === null ? replicaPausesMs : pausesMs;
    const pauseMs = pauses[this.#step];
    if (pauseMs === undefined || (rows === 0 && inFlight === false)) {
      this.#step = null;
      return null;
    }
    this.#step += 1;
    return this.#rowsInARow > 1 ? Math.max(pauseMs, leastDistanceMs) : pauseMs;
  }

  /** The least time until a read that a hint asks for, in milliseconds. */
  get hintDistanceMs(): number {
    return this.#rowsInARow > 1 ? leastDistanceMs : 0;
  }
}

/** What caused a read. `follow_up`: an earlier notification, or a full page. */
export type Trigger = 'poll' | 'wake' | 'follow_up';

/** The pauses between the reads after a notification, in milliseconds: a quarter of a second in total. */
const pausesMs = [2, 4, 8, 16, 32, 64, 128];
/** The same on a replica, where a commit is visible once it has been replayed: 5 s in total. */
const replicaPausesMs = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];
/** The minimum time between two reads if more than `busyReads` in a row returned rows, in milliseconds. */
const leastDistanceMs = 10;
const busyReads = 4;

/** A read of everything. `isQuiet`: no transaction that has written is in flight. */
export interface ReadSummary {
  readonly rows: number;
  readonly isQuiet: boolean;
  readonly isReplica: boolean;
}

/**
 * Decides when to read again after a notification.
 *
 * A transaction does not notify while another one that writes in the same 20 ms holds the lock of that slice. When the
 * notification of the other one arrives, the first can still be in flight. So more reads follow each notification, after
 * pauses that double from 2 to 128 ms, until one returns no rows while no transaction that has written is in flight: one
 * that writes later gets the lock and notifies. The pauses start again whenever a read returns rows. Later commits are
 * read after the next notification, at the latest with the next poll. The same holds for a transaction that did not
 * notify because of one that was rolled back.
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
  after({ rows, isQuiet, isReplica }: ReadSummary): number | null {
    // One row in 10 ms is a writer that waits for its messages, and the distance would be added to each of them.
    const isRestarted = rows === 0 || (rows === 1 && this.leastDistanceMs > 0);
    this.#rowsInARow = isRestarted ? rows : this.#rowsInARow + 1;
    if (rows === 0 && isQuiet) this.#step = null;
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

/** Decides when the next read is due. Times are those of performance.now(). */
export class ReadSchedule {
  readonly #pollIntervalMs: number;
  readonly #probeIntervalMs: number;
  readonly #stopping: AbortSignal;
  readonly #followUp = new FollowUp();
  #trigger: Trigger | null = 'poll';
  #pollDueAtMs = 0;
  #readDueAtMs: number | null = null;
  #lastReadAtMs = 0;
  #lastTakenAtMs = 0;
  isPaused = false;
  /** How often it was paused. */
  pauses = 0;
  #nudge: (() => void) | null = null;

  /**
   * When `stopping` is aborted, `wait` returns. After `probeIntervalMs` without a read one is due: only its use shows that
   * the connection is lost.
   */
  constructor(pollIntervalMs: number, stopping: AbortSignal, probeIntervalMs = 15_000) {
    this.#pollIntervalMs = pollIntervalMs;
    this.#probeIntervalMs = probeIntervalMs;
    this.#stopping = stopping;
    stopping.addEventListener('abort', () => this.#nudge?.());
  }

  /** Requests a read now. Requests during a read become one more read. */
  requestRead(): void {
    this.#followUp.restart();
    this.#trigger ??= 'wake';
    this.#nudge?.();
  }

  /** The next read is a poll, and due now. */
  pollNow(): void {
    this.#trigger = 'poll';
    this.#pollDueAtMs = 0;
    this.#nudge?.();
  }

  /** No read is due until `resume`. Ends a wait. */
  pause(): void {
    this.isPaused = true;
    this.pauses += 1;
    this.#nudge?.();
  }

  resume(): void {
    this.isPaused = false;
    this.#pollDueAtMs = 0;
    this.requestRead();
  }

  /** Whether reads keep a distance, because each one returns rows. */
  get isBusy(): boolean {
    return this.#followUp.leastDistanceMs > 0;
  }

  /** A read begins; returns its cause. */
  take(): Trigger {
    const nowMs = performance.now();
    const trigger = nowMs >= this.#pollDueAtMs ? 'poll' : (this.#trigger ?? 'follow_up');
    this.#trigger = null;
    this.#readDueAtMs = null;
    this.#lastTakenAtMs = nowMs;
    if (trigger === 'poll') this.#pollDueAtMs = nowMs + this.#pollIntervalMs;
    return trigger;
  }

  /** A read has ended. */
  done(): void {
    this.#lastReadAtMs = performance.now();
  }

  /** There is more to read, after this many milliseconds. */
  continueAfter(pauseMs: number): void {
    this.#readDueAtMs = performance.now() + pauseMs;
  }

  /** Everything was read; schedules the next read after a notification. */
  followUp(read: ReadSummary): void {
    const pauseMs = this.#followUp.after(read);
    if (pauseMs !== null) this.continueAfter(pauseMs);
  }

  /** Waits until the next read is due or `pause`; while paused, until `resume`. */
  async wait(): Promise<void> {
    const { pauses } = this;
    if (this.isPaused) this.#trigger = null;
    if (this.#stopping.aborted || this.#dueAtMs() <= performance.now()) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#nudge = () => {
        clearTimeout(timer);
        const waitMs = this.#dueAtMs() - performance.now();
        // A timer takes a millisecond at least.
        if (waitMs <= 0 || this.pauses !== pauses || this.#stopping.aborted) resolve();
        else if (Number.isFinite(waitMs)) timer = setTimeout(resolve, waitMs);
      };
      this.#nudge();
    });
    // A timer that is left would keep the process alive for a poll interval.
    clearTimeout(timer);
    this.#nudge = null;
  }

  #dueAtMs(): number {
    if (this.isPaused) return Infinity;
    const afterWakeMs =
      this.#trigger === null ? Infinity : this.#lastReadAtMs + this.#followUp.leastDistanceMs;
    const probeDueAtMs = this.#lastTakenAtMs + this.#probeIntervalMs;
    return Math.min(this.#pollDueAtMs, afterWakeMs, this.#readDueAtMs ?? Infinity, probeDueAtMs);
  }
}

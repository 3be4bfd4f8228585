import { FollowUp } from './follow-up.js';

/** What caused a read. `follow_up`: an earlier notification, or a full page. */
export type Trigger = 'poll' | 'wake' | 'follow_up';

/** Decides when the next read is due. Times are those of performance.now(). */
export class ReadSchedule {
  readonly #pollIntervalMs: number;
  readonly #stopping: AbortSignal;
  readonly #followUp = new FollowUp();
  #trigger: Trigger | null = 'poll';
  #pollDueAtMs = 0;
  #readDueAtMs: number | null = null;
  #lastReadAtMs = 0;
  #isPaused = false;
  #pauses = 0;
  #nudge: (() => void) | null = null;

  /** When `stopping` is aborted, `wait` returns. */
  constructor(pollIntervalMs: number, stopping: AbortSignal) {
    this.#pollIntervalMs = pollIntervalMs;
    this.#stopping = stopping;
    stopping.addEventListener('abort', () => this.#nudge?.());
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** How often it was paused. */
  get pauses(): number {
    return this.#pauses;
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
  }

  /** No read is due until `resume`. */
  pause(): void {
    this.#isPaused = true;
    this.#pauses += 1;
  }

  resume(): void {
    this.#isPaused = false;
    this.#pollDueAtMs = 0;
    this.requestRead();
  }

  /** A read begins; returns its cause. */
  take(): Trigger {
    const nowMs = performance.now();
    const trigger = nowMs >= this.#pollDueAtMs ? 'poll' : (this.#trigger ?? 'follow_up');
    this.#trigger = null;
    this.#readDueAtMs = null;
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
  followUp(read: { readonly rows: number; readonly isReplica: boolean }): void {
    const pauseMs = this.#followUp.after(read);
    if (pauseMs !== null) this.continueAfter(pauseMs);
  }

  /** Waits until the next read is due; while paused, until `resume`. */
  async wait(): Promise<void> {
    if (this.#isPaused) this.#trigger = null;
    if (this.#stopping.aborted || this.#dueAtMs() <= performance.now()) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#nudge = () => {
        clearTimeout(timer);
        const waitMs = this.#dueAtMs() - performance.now();
        // A timer takes a millisecond at least.
        if (waitMs <= 0 || this.#stopping.aborted) resolve();
        else if (Number.isFinite(waitMs)) timer = setTimeout(resolve, waitMs);
      };
      this.#nudge();
    });
    // A timer that is left would keep the process alive for a poll interval.
    clearTimeout(timer);
    this.#nudge = null;
  }

  #dueAtMs(): number {
    if (this.#isPaused) return Infinity;
    const afterWakeMs =
      this.#trigger === null ? Infinity : this.#lastReadAtMs + this.#followUp.leastDistanceMs;
    return Math.min(this.#pollDueAtMs, afterWakeMs, this.#readDueAtMs ?? Infinity);
  }
}

export interface RepeatedHintOptions {
  /** Reads once more. */
  readonly wake: () => void;
  /** Whether what a hint tells of may arrive after the hint. */
  readonly readsReplica: () => boolean;
}

/** Between the reads after a hint, in milliseconds: 5 s in all. */
const pausesMs = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];

/**
 * Hands hints on to the reader. A hint comes from the primary with the commit; on a replica the commit
 * shows when it has been replayed. So there it is read again and again after the last hint, whether or
 * not something was found, because that may have been of an earlier commit. The pauses double, so the
 * delay is at most about twice that of the replication; what takes longer than all of them comes with the poll.
 */
export class RepeatedHint {
  readonly #options: RepeatedHintOptions;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: RepeatedHintOptions) {
    this.#options = options;
  }

  hint(): void {
    this.#options.wake();
    this.stop();
    if (this.#options.readsReplica()) this.#repeat(0);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #repeat(count: number): void {
    const pauseMs = pausesMs[count];
    if (pauseMs === undefined) return;
    this.#timer = setTimeout(() => {
      this.#options.wake();
      this.#repeat(count + 1);
    }, pauseMs);
  }
}

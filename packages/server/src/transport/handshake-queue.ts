/** How long newcomers may keep the event loop from everybody else at a stretch, in milliseconds. */
const stretchMs = 10;

interface QueuedHandshake {
  readonly enter: () => void;
  readonly tooLate: () => void;
  readonly giveUpAtMs: number;
}

export interface HandshakeQueueOptions {
  /** How long somebody may wait, in milliseconds. */
  patienceMs: number;
}

/**
 * Lets newcomers in one after the other, in the order in which they came. Where thousands come at once
 * those who are in already are served in between.
 */
export class HandshakeQueue {
  readonly #options: HandshakeQueueOptions;
  #waiting: QueuedHandshake[] = [];
  #next = 0;
  /** Somebody has come in this turn of the event loop. */
  #hasBegun = false;
  #stretchEndsAtMs = 0;

  constructor(options: HandshakeQueueOptions) {
    this.#options = options;
  }

  /**
   * Calls `enter` when it is the newcomer's turn, mostly at once, or `tooLate` when that would be later
   * than they may wait. Neither may throw. How many wait is bounded by `UnauthenticatedConnections`.
   */
  pass(enter: () => void, tooLate: () => void): void {
    const nowMs = performance.now();
    if (!this.#hasBegun) this.#begin(nowMs);
    const isEmpty = this.#next === this.#waiting.length;
    if (isEmpty && nowMs < this.#stretchEndsAtMs) enter();
    else this.#waiting.push({ enter, tooLate, giveUpAtMs: nowMs + this.#options.patienceMs });
  }

  #begin(nowMs: number): void {
    this.#hasBegun = true;
    this.#stretchEndsAtMs = nowMs + stretchMs;
    setImmediate(() => this.#goOn());
  }

  #goOn(): void {
    this.#hasBegun = false;
    if (this.#next === this.#waiting.length) return;
    this.#begin(performance.now());
    for (let nowMs = performance.now(); nowMs < this.#stretchEndsAtMs; nowMs = performance.now()) {
      const newcomer = this.#waiting[this.#next];
      if (newcomer === undefined) break;
      this.#next += 1;
      if (nowMs < newcomer.giveUpAtMs) newcomer.enter();
      else newcomer.tooLate();
    }
    // Dropping from the front moves the whole array: rarely, and by halves.
    if (this.#next * 2 >= this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
  }
}

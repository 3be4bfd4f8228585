/** How long handshakes may block the event loop at a time, in milliseconds. */
const sliceMs = 10;

interface QueuedHandshake {
  readonly run: () => void;
  readonly onTimeout: () => void;
  readonly expiresAtMs: number;
}

/** Runs handshakes in the order in which they arrive, in slices: thousands at once must not block other work. */
export class HandshakeQueue {
  readonly #timeoutMs: number;
  #queue: QueuedHandshake[] = [];
  #next = 0;
  /** A slice has begun in this turn of the event loop. */
  #hasBegun = false;
  #sliceEndsAtMs = 0;

  constructor(options: { timeoutMs: number }) {
    this.#timeoutMs = options.timeoutMs;
  }

  /**
   * Calls `run`, now or in its turn, or `onTimeout` if its turn comes too late. Neither may throw.
   * `UnauthenticatedConnections` limits the length of the queue.
   */
  add(run: () => void, onTimeout: () => void): void {
    const nowMs = performance.now();
    if (!this.#hasBegun) this.#beginSlice(nowMs);
    const isEmpty = this.#next === this.#queue.length;
    if (isEmpty && nowMs < this.#sliceEndsAtMs) run();
    else this.#queue.push({ run, onTimeout, expiresAtMs: nowMs + this.#timeoutMs });
  }

  #beginSlice(nowMs: number): void {
    this.#hasBegun = true;
    this.#sliceEndsAtMs = nowMs + sliceMs;
    setImmediate(() => this.#runSlice());
  }

  #runSlice(): void {
    this.#hasBegun = false;
    if (this.#next === this.#queue.length) return;
    this.#beginSlice(performance.now());
    for (let nowMs = performance.now(); nowMs < this.#sliceEndsAtMs; nowMs = performance.now()) {
      const handshake = this.#queue[this.#next];
      if (handshake === undefined) break;
      this.#next += 1;
      if (nowMs < handshake.expiresAtMs) handshake.run();
      else handshake.onTimeout();
    }
    // Removing from the front copies the array, so half of it is removed at a time.
    if (this.#next * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#next);
      this.#next = 0;
    }
  }
}

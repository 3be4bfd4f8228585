/** How long the next ones wait for each that has just gone on, in milliseconds: up to 250 a second nobody waits. */
const pauseForEachMs = 4;
/** Where one comes during a pause more are to be expected: the next one is at least so long, in milliseconds. */
const shortestPauseMs = 20;
const longestPauseMs = 1_000;
/** When nobody has come for so long, in milliseconds, or for this part of the pause, no more are waited for. */
const quietMs = 100;
const quietPart = 0.2;

/**
 * The pace of a crowd. Who comes alone goes on at once. Where many come, they go on together, each time
 * after a pause that grows with their number, and halves at the most from one to the next, so that what they
 * ask next can be asked together.
 */
export class BurstThrottle {
  #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | null = null;
  #pauseMs = 0;
  #pauseEndsAtMs = 0;
  #lastCameAtMs = 0;

  /** Resolves when it is the caller's turn: after about a second at the latest. */
  async turn(): Promise<void> {
    if (this.#timer === null) {
      this.#pause(pauseForEachMs);
      return;
    }
    this.#lastCameAtMs = performance.now();
    await new Promise<void>((resolve) => {
      // The timer runs until the end of the pause as long as nobody waits.
      if (this.#waiting.push(resolve) === 1) this.#look();
    });
  }

  #pause(pauseMs: number): void {
    this.#pauseMs = pauseMs;
    this.#pauseEndsAtMs = performance.now() + pauseMs;
    this.#wait(pauseMs);
  }

  #wait(forMs: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    // Timers come before what the network has brought: after a stall it would seem quiet.
    this.#timer = setTimeout(() => setImmediate(() => this.#look()), forMs);
    // Those who wait have sockets, which keep the process alive.
    this.#timer.unref();
  }

  #look(): void {
    const going = this.#waiting;
    const quietAtMs = this.#lastCameAtMs + Math.max(quietMs, this.#pauseMs * quietPart);
    const dueAtMs = going.length === 0 ? this.#pauseEndsAtMs : Math.min(this.#pauseEndsAtMs, quietAtMs);
    const leftMs = dueAtMs - performance.now();
    if (leftMs > 0) {
      this.#wait(leftMs);
    } else if (going.length === 0) {
      this.#timer = null;
    } else {
      this.#waiting = [];
      const pauseMs = Math.max(going.length * pauseForEachMs, shortestPauseMs, this.#pauseMs / 2);
      this.#pause(Math.min(pauseMs, longestPauseMs));
      for (const go of going) go();
    }
  }
}

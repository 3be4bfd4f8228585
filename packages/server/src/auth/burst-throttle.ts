/** Each call of a group makes the next pause longer by this many milliseconds. Up to 250 calls a second do not wait. */
const pauseForEachMs = 4;
/** Limits of the pause after a group, in milliseconds. */
const shortestPauseMs = 20;
const longestPauseMs = 1_000;
/** A pause ends when no further call came for this many milliseconds, or this part of the pause. */
const quietMs = 100;
const quietPart = 0.2;

/**
 * Groups bursts of calls, so that their queries can share a statement. A single call continues immediately. Calls in a burst
 * continue in groups. The pause before a group grows with the size of the previous group, and shrinks by half at most.
 */
export class BurstThrottle {
  #waiting: (() => void)[] = [];
  #isPaused = false;

  /** Resolves when the caller may continue, after about a second at the latest. */
  async turn(): Promise<void> {
    if (this.#isPaused) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else void this.#run();
  }

  async #run(): Promise<void> {
    this.#isPaused = true;
    let group: (() => void)[];
    let pauseMs = pauseForEachMs;
    do {
      await this.#pause(pauseMs);
      group = this.#waiting;
      this.#waiting = [];
      pauseMs = Math.min(
        Math.max(group.length * pauseForEachMs, shortestPauseMs, pauseMs / 2),
        longestPauseMs,
      );
      for (const goOn of group) goOn();
    } while (group.length > 0);
    this.#isPaused = false;
  }

  async #pause(pauseMs: number): Promise<void> {
    const endMs = performance.now() + pauseMs;
    const sliceMs = Math.max(quietMs, pauseMs * quietPart);
    let before: number;
    let leftMs = pauseMs;
    do {
      before = this.#waiting.length;
      await timeoutAndNetwork(Math.min(leftMs, sliceMs));
      leftMs = endMs - performance.now();
    } while (leftMs > 0 && (this.#waiting.length === 0 || this.#waiting.length > before));
  }
}

/** Timers run before the event loop reads from the network: after a stall the network would seem quiet. */
async function timeoutAndNetwork(timeoutMs: number): Promise<void> {
  await new Promise((resolve) => {
    // The sockets of the callers keep the process alive.
    setTimeout(() => setImmediate(resolve), timeoutMs).unref();
  });
}

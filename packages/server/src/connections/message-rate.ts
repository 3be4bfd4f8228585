/** More than this in the window is more than any client of ours needs: far above what the limit on channels asks for. */
const maxMessages = 100;
const windowMs = 10_000;

/** Counts what one peer sends, so that a flood costs the server no more than the messages that it is ended for. */
export class MessageRate {
  #messages = 0;
  #windowEndsAtMs = 0;

  /** Counts one message; false when there have been more than 100 within 10 s. */
  take(): boolean {
    const nowMs = performance.now();
    if (nowMs > this.#windowEndsAtMs) {
      this.#windowEndsAtMs = nowMs + windowMs;
      this.#messages = 0;
    }
    this.#messages += 1;
    return this.#messages <= maxMessages;
  }
}

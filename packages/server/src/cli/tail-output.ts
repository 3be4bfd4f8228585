import type { Writable } from 'node:stream';

/**
 * Where the lines go. Whoever brings new ones waits for `drained` first, so that a reader that stalls
 * (a pager) holds the server's sending back in place of filling the memory.
 */
export class TailOutput {
  readonly #stream: Writable;
  #draining: Promise<void> | null = null;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  write(text: string): void {
    if (this.#stream.write(text) || this.#draining !== null) return;
    this.#draining = new Promise((resolve) => {
      this.#stream.once('drain', () => {
        this.#draining = null;
        resolve();
      });
    });
  }

  /** Null while there is room; else what resolves when there is. It never does once the output is closed. */
  get draining(): Promise<void> | null {
    return this.#draining;
  }
}

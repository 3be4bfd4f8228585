import type { CloseCode } from '@flagcast/protocol';

/**
 * All that a connection knows of its socket. Bytes are handed over and never wait here: past a limit that
 * the network has not taken the peer is full, and gets nothing more until it has drained.
 */
export abstract class Connection {
  readonly #highWaterBytes: number;
  /** Whether it is worth asking how much is waiting: it is asked before and after each of very many writes. */
  #isFilling = false;
  #isQuiet = false;
  #pausedSinceMs: number | null = null;

  /** Past `highWaterBytes` that the network has not taken it is full. */
  constructor(highWaterBytes: number) {
    this.#highWaterBytes = highWaterBytes;
  }

  /** How many bytes are waiting for the network. */
  protected abstract get bufferedAmount(): number;

  /** Hands bytes to the transport, where it is still open; false: more than a little is waiting. */
  protected abstract write(bytes: Buffer): boolean;

  /** Ends the connection with a close code and a short reason. */
  abstract close(code: CloseCode, reason: string): void;

  /** It is full, from now on. */
  protected onPaused(): void {
    return;
  }

  /** It has taken everything again, after so many milliseconds. */
  protected onDrained(_pausedMs: number): void {
    return;
  }

  /** A resync has ended its last channel. A peer that can subscribe anew has no need to know. */
  emptied?(): void;

  /** So much is waiting that it gets nothing more. */
  get full(): boolean {
    return this.#isFilling && this.bufferedAmount > this.#highWaterBytes;
  }

  /** Since when it is not keeping up, or should have left, in milliseconds since the epoch; else null. */
  get pausedSinceMs(): number | null {
    return this.#pausedSinceMs;
  }

  send(bytes: Buffer): void {
    this.#isQuiet = false;
    this.onWritten(this.write(bytes));
  }

  /** Takes the result of `write`, also later for bytes that it had only collected. */
  onWritten(hasRoom: boolean): void {
    this.#isFilling = !hasRoom;
    if (!this.full || this.#pausedSinceMs !== null) return;
    this.#pausedSinceMs = Date.now();
    this.onPaused();
  }

  /** True: nothing was sent since this was asked last. */
  takeQuiet(): boolean {
    const wasQuiet = this.#isQuiet;
    this.#isQuiet = true;
    return wasQuiet;
  }

  /** To be called when nothing is waiting any more. */
  drained(): void {
    if (this.#pausedSinceMs !== null) this.onDrained(Date.now() - this.#pausedSinceMs);
    this.#pausedSinceMs = null;
  }

  /** It has been told to go: where it does not take that, it is not waited for longer than one that does not read. */
  leave(): void {
    this.#pausedSinceMs ??= Date.now();
  }
}

/**
 * Bounds how many lines of one kind are written: the first of each period are, the others are counted and written as
 * one line at its end. So a peer that is refused a thousand times a second cannot fill the log.
 */
export class LogSampler {
  readonly #linesPerPeriod: number;
  readonly #periodMs: number;
  readonly #periods = new Map<string, { written: number; unlogged: number }>();

  constructor({ linesPerPeriod, periodMs }: { linesPerPeriod: number; periodMs: number }) {
    this.#linesPerPeriod = linesPerPeriod;
    this.#periodMs = periodMs;
  }

  /**
   * Calls `write` with 0 now, or counts the line. At the end of the period the `write` of its first line is called
   * with how many were counted. `kind` has few values.
   */
  write(kind: string, write: (unlogged: number) => void): void {
    let period = this.#periods.get(kind);
    if (period === undefined) {
      const begun = { written: 0, unlogged: 0 };
      period = begun;
      this.#periods.set(kind, begun);
      setTimeout(() => {
        this.#periods.delete(kind);
        if (begun.unlogged > 0) write(begun.unlogged);
      }, this.#periodMs).unref();
    }
    if (period.written < this.#linesPerPeriod) {
      period.written += 1;
      write(0);
    } else period.unlogged += 1;
  }
}

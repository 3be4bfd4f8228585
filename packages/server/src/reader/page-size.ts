import { errorCode } from '../postgres/errors.js';
import { pageRows, type ReadMode } from './log-statements.js';

/**
 * How many rows a read requests. After an error that a row can cause, or that a smaller page avoids, the next read
 * requests fewer: at last one, and then that one without its state. So a row that cannot be read costs its event the
 * state, and delays nothing else for long.
 */
export class PageSize {
  #limit = pageRows;
  #mode: ReadMode = 'full';

  get limit(): number {
    return this.#limit;
  }

  get mode(): ReadMode {
    return this.#mode;
  }

  /** False if a smaller page would not help. */
  reduce(error: unknown): boolean {
    const code = errorCode(error) ?? '';
    // Data exception, program limit exceeded, query canceled.
    const isOfData = code.startsWith('22') || code.startsWith('54') || code === '57014';
    if (!isOfData || this.#mode === 'safe') return false;
    if (this.#limit > 1) this.#limit = Math.max(1, Math.floor(this.#limit / 8));
    else this.#mode = 'safe';
    return true;
  }

  /** A page was read. */
  grow(): void {
    this.#mode = 'full';
    this.#limit = Math.min(pageRows, this.#limit * 2);
  }
}

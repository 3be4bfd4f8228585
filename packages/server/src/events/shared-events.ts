import type { Dialect, EventGroup } from './dialect.js';
import type { FlagEvent } from './event.js';

/** Events of one channel that many peers get: their bytes are made when the first one needs them, and once. */
export class SharedEvents implements EventGroup {
  readonly events: readonly FlagEvent[];
  readonly seenAtMs: number;
  readonly #encodings = new Map<Dialect, Buffer>();

  constructor(events: readonly FlagEvent[], seenAtMs: number) {
    this.events = events;
    this.seenAtMs = seenAtMs;
  }

  /** Missed events have none: their peer stands nowhere before all of them have been sent. */
  get cursor(): string | null {
    return null;
  }

  /** The events as the bytes that go out in `dialect`. */
  encoded(dialect: Dialect): Buffer {
    let bytes = this.#encodings.get(dialect);
    if (bytes === undefined) {
      bytes = dialect.encode(this);
      this.#encodings.set(dialect, bytes);
    }
    return bytes;
  }
}

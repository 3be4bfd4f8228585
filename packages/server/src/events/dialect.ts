import type { FlagEvent } from './event.js';

/** Events of one channel that were read together. */
export interface EventGroup {
  readonly events: readonly FlagEvent[];
  /** When they were read, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** The cursor after all of them; null while it is unknown. */
  readonly cursor: string | null;
}

/** How events are encoded for one kind of connection. */
export interface Dialect {
  readonly name: string;
  encode(events: EventGroup): Buffer;
}

/** How many times the events are kept in parts that only some connections receive: each part has bytes of its own. */
const maxKeptParts = 8;

/** Events that many connections receive. Each dialect encodes them once. */
export class SharedEvents implements EventGroup {
  readonly events: readonly FlagEvent[];
  readonly seenAtMs: number;
  readonly #encodings = new Map<Dialect, Buffer>();
  /** By which events they contain; null before the first. */
  #subsets: Map<string, SharedEvents> | null = null;
  /** How many events `#subsets` have. */
  #subsetEvents = 0;

  constructor(events: readonly FlagEvent[], seenAtMs: number) {
    this.events = events;
    this.seenAtMs = seenAtMs;
  }

  get cursor(): string | null {
    return null;
  }

  /** Those of the events that `includes` accepts: one object for all who see the same ones, unless these are too many. */
  only(includes: (event: FlagEvent) => boolean): SharedEvents {
    const included = this.events.map(includes);
    if (!included.includes(false)) return this;
    const key = included.map(Number).join('');
    let subset = this.#subsets?.get(key);
    if (subset === undefined) {
      subset = new Subset(
        this.events.filter((_, index) => included[index]),
        this,
      );
      // A batch stays in the replay buffer, and thousands of users can have as many scopes.
      const kept = this.#subsetEvents + subset.events.length;
      if (kept <= maxKeptParts * this.events.length) {
        this.#subsets ??= new Map<string, SharedEvents>();
        this.#subsets.set(key, subset);
        this.#subsetEvents = kept;
      }
    }
    return subset;
  }

  encoded(dialect: Dialect): Buffer {
    let bytes = this.#encodings.get(dialect);
    if (bytes === undefined) {
      bytes = dialect.encode(this);
      this.#encodings.set(dialect, bytes);
    }
    return bytes;
  }
}

class Subset extends SharedEvents {
  readonly #whole: SharedEvents;

  constructor(events: readonly FlagEvent[], whole: SharedEvents) {
    super(events, whole.seenAtMs);
    this.#whole = whole;
  }

  override get cursor(): string | null {
    return this.#whole.cursor;
  }
}

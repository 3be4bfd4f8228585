import type { FlagEvent } from './event.js';

/** What a dialect turns into bytes: some events of one channel that were read together. */
export interface EventGroup {
  /** In order. */
  readonly events: readonly FlagEvent[];
  /** When they were read, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** Where whoever has been given all of them stands; null where that cannot be said yet. */
  readonly cursor: string | null;
}

/** How events become bytes on one kind of wire. */
export interface Dialect {
  readonly name: string;
  encode(batch: EventGroup): Buffer;
}

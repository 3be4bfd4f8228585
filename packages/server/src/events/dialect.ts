import type { FlagEvent } from './event.js';

/** How events become bytes on one kind of wire. */
export interface Dialect {
  readonly name: string;
  encode(events: readonly FlagEvent[]): Buffer;
}

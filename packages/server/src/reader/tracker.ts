import type { FlagEvent } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { SnapshotPosition } from './watermark.js';

/** What one read brought. */
export interface ReadRows {
  readonly position: SnapshotPosition;
  /** In the order of the read. */
  readonly events: readonly FlagEvent[];
}

/** What of it nobody has been given yet. */
export interface Absorbed {
  readonly fresh: readonly FlagEvent[];
  /** Those among them that are older than what any read had to look back for. */
  readonly late: readonly FlagEvent[];
}

export type FloorBounds = readonly [
  lookBackMs: number | null,
  overlapMs: number | null,
  newest: string | null,
];

/** Knows what has been delivered and what is still to come: by transaction ids, or by created_at alone. */
export interface Tracker {
  /** How many delivered events are remembered because a read may bring them again. */
  readonly remembered: number;
  /** The bounds of the next read, as `unseenRows` takes them. */
  readBounds(trigger: 'poll' | 'wake'): [watermark: string, floor: string, seen: string[]];
  /** As the floor's statement takes them, after the allowance. */
  floorBounds(): FloorBounds;
  /** An observation from before the next read. */
  observed(floor: string): void;
  /** Tells the new events from those that were delivered, and moves on. Null: the database went back. */
  absorb(rows: ReadRows): Absorbed | null;
  /** Where whoever has been given everything stands; `history` names what the position is in. */
  position(history: string): Position;
  /** Whether this event, found in the view by somebody else, is one that a later read will bring. */
  isYetToCome(event: FlagEvent): boolean;
}

import { type FlagEvent, hashOf } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { Beginning } from './beginning.js';
import type { Absorbed, FloorBounds, ReadRows, Tracker } from './tracker.js';
import { Watermark } from './watermark.js';

/** So many of the newest events of the overlap a position lists; older ones may repeat, under the same id. */
const maxSeen = 200;

/** How often, in overlaps, it is looked for what came later than the overlap. */
const sweepOverlaps = 0.5;

interface Delivered {
  readonly createdAt: string;
  /** Of its names but the action: in a view that groups rows that may change when the oldest of a group leaves the view. */
  readonly namesHash: bigint;
}

export interface OverlapTrackerOptions {
  /** How long after its created_at an event may be committed, in milliseconds. */
  readonly overlapMs: number;
  /** How far back it is looked for those that took longer, in milliseconds. */
  readonly lookBackMs: number;
}

/**
 * By created_at alone, where the view does not tell transactions. A read looks back for the overlap and
 * drops what was delivered, so that an event is found that is committed within the overlap of its
 * created_at. What takes longer is looked for now and then, as far as the look-back reaches: it is
 * delivered late, and told, because who comes back from a place after it does not get it.
 */
export class OverlapTracker implements Tracker {
  readonly #options: OverlapTrackerOptions;
  /** By mark, what was delivered and is younger than the floor, and what is older. */
  readonly #recent = new Map<bigint, Delivered>();
  readonly #old = new Map<bigint, Delivered>();
  /** Only tells the order of positions in time, and whether the database went back. */
  readonly #watermark: Watermark;
  #floor: string;
  #newest: string | null = null;
  /** On the clock of performance.now(). */
  #sweepDueAtMs = 0;
  #begun = false;

  /** Begins with a floor that was observed before the beginning was looked for. */
  constructor({ watermark, horizon }: Beginning, floor: string, options: OverlapTrackerOptions) {
    this.#watermark = new Watermark(watermark, horizon);
    this.#floor = floor;
    this.#options = options;
  }

  get remembered(): number {
    return this.#recent.size + this.#old.size;
  }

  readBounds(trigger: 'poll' | 'wake'): [watermark: string, floor: string, seen: string[]] {
    const nowMs = performance.now();
    if (trigger === 'wake' || nowMs < this.#sweepDueAtMs) return ['0', this.#floor, []];
    this.#sweepDueAtMs = nowMs + this.#options.overlapMs * sweepOverlaps;
    const farFloor = this.#farFloor();
    for (const [mark, { createdAt }] of this.#old) if (createdAt <= farFloor) this.#old.delete(mark);
    return ['0', farFloor, []];
  }

  floorBounds(): FloorBounds {
    return [null, this.#options.overlapMs, this.#newest];
  }

  observed(floor: string): void {
    this.#floor = floor;
    for (const [mark, delivered] of this.#recent) {
      if (delivered.createdAt > floor) continue;
      this.#recent.delete(mark);
      this.#old.set(mark, delivered);
    }
  }

  absorb({ position, events }: ReadRows): Absorbed | null {
    if (position.xmin < this.#watermark.value) return null;
    this.#watermark.advance(position);
    const fresh = events.filter(({ mark }) => !this.#recent.has(mark) && !this.#old.has(mark));
    // What was there before the beginning is no news, however old.
    const late = this.#begun ? this.#lateOf(fresh) : [];
    for (const event of fresh) this.#remember(event);
    this.#begun = true;
    return { fresh, late };
  }

  position(history: string): Position {
    const seen = [...this.#recent.keys()].slice(-maxSeen).toSorted((a, b) => (a < b ? -1 : 1));
    return {
      history,
      watermark: 0n,
      horizon: this.#watermark.horizon,
      floor: this.#floor,
      seen,
      byTime: true,
    };
  }

  isYetToCome({ mark, createdAt }: FlagEvent): boolean {
    return createdAt > this.#floor && !this.#recent.has(mark) && !this.#old.has(mark);
  }

  #lateOf(fresh: readonly FlagEvent[]): FlagEvent[] {
    const old = fresh.filter(({ createdAt }) => createdAt <= this.#floor);
    if (old.length === 0) return [];
    const known = new Set([...this.#recent.values(), ...this.#old.values()].map((each) => each.namesHash));
    return old.filter((event) => !known.has(namesHashOf(event)));
  }

  #remember(event: FlagEvent): void {
    const { mark, createdAt } = event;
    const where = createdAt > this.#floor ? this.#recent : this.#old;
    where.set(mark, { createdAt, namesHash: namesHashOf(event) });
    if (this.#newest === null || createdAt > this.#newest) this.#newest = createdAt;
  }

  /** RFC 3339 with the microseconds of every other time, so that it can be compared as text. */
  #farFloor(): string {
    return new Date(Date.parse(this.#floor) - this.#options.lookBackMs).toISOString().replace('Z', '000Z');
  }
}

function namesHashOf(event: FlagEvent): bigint {
  return hashOf({ ...event, action: '' });
}

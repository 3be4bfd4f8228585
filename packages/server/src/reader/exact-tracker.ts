import { identityOf, type FlagEvent } from '../events/event.js';
import { durableSeen, type Position } from '../events/position.js';
import type { Beginning } from './beginning.js';
import type { Absorbed, FloorBounds, ReadRows, Tracker } from './tracker.js';
import { Watermark } from './watermark.js';

/** With more delivered events than this, naming their transactions costs more than reading them again. */
const maxLeftOut = 5_000;

/** What another reader of the same history has read: some of its events, and where it stood afterwards. */
export interface FollowedRead extends Pick<Position, 'watermark' | 'horizon' | 'floor'> {
  /** Those of the channels that are wanted. */
  readonly events: readonly FlagEvent[];
  /** The transactions of all its events, from the watermark before on. */
  readonly xids: readonly bigint[];
  /** The xmin of its snapshot. */
  readonly xmin: bigint;
}

/**
 * By transaction ids. After a read in snapshot S what was not delivered is what S could not see:
 * transactions that were running, whose id is at or above S's xmin, or that had not begun. So the next
 * read asks for `xid >= xmin(S)` and drops what was delivered already. `created_at > floor` only keeps
 * that on the index: the floor was observed before S was taken, so that whatever S could not see began
 * later than it.
 */
export class ExactTracker implements Tracker {
  readonly #delivered = new DeliveredSet();
  readonly #watermark: Watermark;
  readonly #floorBounds: FloorBounds;
  #floor: string;
  /** The xmin of the last read's snapshot: what is below it has been read. */
  #xmin = 0n;

  /** Begins with a floor that was observed, within these bounds, before the beginning was looked for. */
  constructor({ watermark, horizon }: Beginning, floor: string, floorBounds: FloorBounds) {
    this.#floorBounds = floorBounds;
    this.#watermark = new Watermark(watermark, horizon);
    this.#floor = floor;
  }

  get remembered(): number {
    return this.#delivered.size;
  }

  readBounds(): [watermark: string, floor: string, seen: string[]] {
    // All rows of a transaction show at once, so one whose rows were delivered has no more to give:
    // leaving it out saves reading it again while an older transaction holds the watermark back.
    const seen = this.#delivered.size > maxLeftOut ? [] : [...this.#delivered.xids()].map(String);
    return [this.#watermark.value.toString(), this.#floor, seen];
  }

  floorBounds(): FloorBounds {
    return this.#floorBounds;
  }

  /** The next read is on another connection. */
  reconnected(): void {
    this.#watermark.forgetWaiting();
  }

  observed(floor: string): void {
    this.#floor = floor;
  }

  absorb({ position, events }: ReadRows): Absorbed | null {
    if (position.xmin < this.#watermark.value) return null;
    this.#xmin = position.xmin;
    const fresh = events.filter((event) => this.#delivered.add(event));
    if (this.#watermark.advance(position)) this.#delivered.pruneBelow(this.#watermark.value);
    return { fresh, late: [] };
  }

  /**
   * Takes in what another reader has read after everything that was delivered here, and tells which of its
   * events were not. All rows of a transaction show at once, so its id stands for all of them.
   */
  follow({ events, xids, watermark, horizon, xmin, floor }: FollowedRead): FlagEvent[] {
    const before = this.#watermark.value;
    const fresh = events.filter(({ mark }) => mark >= before && !this.#delivered.hasXid(mark));
    for (const xid of xids) if (xid >= before) this.#delivered.addAll(xid);
    if (this.#watermark.raise(watermark, horizon)) this.#delivered.pruneBelow(this.#watermark.value);
    if (xmin > this.#xmin) this.#xmin = xmin;
    this.#floor = floor;
    return fresh;
  }

  position(history: string): Position {
    const { value, horizon } = this.#watermark;
    const seen = durableSeen(this.#delivered.xids(), horizon);
    return { history, watermark: value, horizon, floor: this.#floor, seen, byTime: false };
  }

  isYetToCome({ mark, createdAt, source, action }: FlagEvent): boolean {
    if (mark < this.#xmin || this.#delivered.hasXid(mark)) return false;
    // As the read has it: the floor does not hold for decisions.
    return createdAt > this.#floor || (source === 'pending' && action !== 'pending');
  }
}

/**
 * The identities of the events that were delivered and that a later read can bring again:
 * those whose transaction id is at or above the watermark. Pruned exactly there, so its size
 * is that of the recent past (or of all that came since the oldest open transaction wrote).
 */
class DeliveredSet {
  /** Null: all of the transaction's. */
  readonly #identitiesByXid = new Map<bigint, Set<string> | null>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Remembers the event; false when it was there already. */
  add(event: FlagEvent): boolean {
    const identity = identityOf(event);
    let identities = this.#identitiesByXid.get(event.mark);
    if (identities === null) return false;
    if (identities === undefined) {
      identities = new Set();
      this.#identitiesByXid.set(event.mark, identities);
    } else if (identities.has(identity)) {
      return false;
    }
    identities.add(identity);
    this.#size += 1;
    return true;
  }

  /** Remembers all events of the transaction, which counts as one. */
  addAll(xid: bigint): void {
    const known = this.#identitiesByXid.get(xid);
    if (known === null) return;
    this.#identitiesByXid.set(xid, null);
    this.#size += 1 - (known?.size ?? 0);
  }

  /** Forgets what no read from `watermark` on can bring again. */
  pruneBelow(watermark: bigint): void {
    for (const [xid, identities] of this.#identitiesByXid) {
      if (xid < watermark) {
        this.#identitiesByXid.delete(xid);
        this.#size -= identities?.size ?? 1;
      }
    }
  }

  /** The transactions whose rows have been delivered and remembered. */
  xids(): IterableIterator<bigint> {
    return this.#identitiesByXid.keys();
  }

  hasXid(xid: bigint): boolean {
    return this.#identitiesByXid.has(xid);
  }
}

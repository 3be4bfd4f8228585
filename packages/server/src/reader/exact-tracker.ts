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
  /** Names that reader and its connection to the database: over another one a crash may lie between. */
  readonly readBy: string;
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
  /** Over which connection the last read came that another reader made. */
  #readBy = '';

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

  /**
   * The next read is on another connection: a crash may have ended the last one. What it took back is handed out
   * again, so transactions whose records were not known to be on disk count as delivered only once they are read
   * again; another one with the same id must neither be left out of a read nor of what a client has missed.
   */
  reconnected(): void {
    this.#watermark.forgetWaiting();
    this.#delivered.doubt(this.#watermark.horizon);
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
   * events were not. All rows of a transaction show at once, so its id stands for those of other channels too.
   */
  follow({ events, xids, watermark, horizon, xmin, floor, readBy }: FollowedRead): FlagEvent[] {
    const before = this.#watermark.value;
    if (this.#readBy !== readBy) this.reconnected();
    this.#readBy = readBy;
    const fresh = events.filter((event) => event.mark >= before && this.#delivered.addOne(event));
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

  isYetToCome(event: FlagEvent): boolean {
    const { mark, createdAt, source, action } = event;
    if (mark < this.#xmin || this.#delivered.has(event)) return false;
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
  readonly #byXid = new Map<bigint, Delivered>();
  /** What was delivered of transactions that a crash may have taken back. */
  readonly #doubtful = new Map<bigint, ReadonlySet<string>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Remembers the event; false when it was delivered before, by itself or with all of its transaction. */
  add(event: FlagEvent): boolean {
    return this.#byXid.get(event.mark)?.isWhole !== true && this.addOne(event);
  }

  /** Remembers the event; false when it was delivered before itself. */
  addOne(event: FlagEvent): boolean {
    const { mark } = event;
    const identity = identityOf(event);
    let delivered = this.#byXid.get(mark);
    if (delivered === undefined) {
      delivered = { identities: new Set(), isWhole: false };
      this.#byXid.set(mark, delivered);
    }
    if (delivered.identities.has(identity)) return false;
    this.#size -= sizeOf(delivered);
    delivered.identities.add(identity);
    this.#size += sizeOf(delivered);
    return this.#doubtful.get(mark)?.has(identity) !== true;
  }

  /** Remembers all events of the transaction. */
  addAll(xid: bigint): void {
    const delivered = this.#byXid.get(xid) ?? { identities: new Set(), isWhole: false };
    this.#byXid.set(xid, delivered);
    this.#size -= sizeOf(delivered);
    delivered.isWhole = true;
    this.#size += sizeOf(delivered);
  }

  /** From this id on transactions count as delivered once they are read again; of their events none is fresh then. */
  doubt(horizon: bigint): void {
    for (const [xid, delivered] of this.#byXid) {
      if (xid < horizon) continue;
      this.#byXid.delete(xid);
      this.#size -= sizeOf(delivered);
      this.#doubtful.set(xid, new Set([...(this.#doubtful.get(xid) ?? []), ...delivered.identities]));
    }
  }

  /** Forgets what no read from `watermark` on can bring again. */
  pruneBelow(watermark: bigint): void {
    for (const [xid, delivered] of this.#byXid) {
      if (xid >= watermark) continue;
      this.#byXid.delete(xid);
      this.#size -= sizeOf(delivered);
    }
    for (const xid of this.#doubtful.keys()) if (xid < watermark) this.#doubtful.delete(xid);
  }

  /** The transactions whose rows have been delivered and remembered. */
  xids(): IterableIterator<bigint> {
    return this.#byXid.keys();
  }

  /** Whether the event, or another one of its transaction, was delivered: all of them come in one read. */
  has(event: FlagEvent): boolean {
    return this.#byXid.has(event.mark) || this.#doubtful.get(event.mark)?.has(identityOf(event)) === true;
  }
}

/** What was delivered of one transaction. */
interface Delivered {
  readonly identities: Set<string>;
  /** All of it, also what nobody here wanted. */
  isWhole: boolean;
}

/** As many events as are named; one that stands for all of a transaction counts as one. */
function sizeOf({ identities, isWhole }: Delivered): number {
  return identities.size + (isWhole ? 1 : 0);
}

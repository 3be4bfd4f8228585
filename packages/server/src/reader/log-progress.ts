import type { ControlEntry, FlagEvent, PartialRead, ReadState, RelayedRead } from '../events/event.js';
import {
  ascending,
  type Coverage,
  covers,
  maxId,
  uncoveredRanges,
  unionOf,
  type XidRanges,
} from '../events/position.js';
import { DurableCoverage, UnflushedRows } from './durability.js';
import type { LogRow } from './log-statements.js';
import type { SnapshotPosition } from './snapshot-position.js';

/** What the next read requests. */
export interface ReadBounds extends XidRanges {
  /** The large transaction to continue; null without one. */
  readonly partial: PartialRead | null;
}

/** The rows of a read that have not been delivered. */
export interface NewRows {
  readonly events: readonly FlagEvent[];
  readonly controls: readonly ControlEntry[];
  /** A page was full: there is more to read now. */
  readonly hasMore: boolean;
}

type FollowedRead = Pick<RelayedRead, 'events' | 'read' | 'position' | 'readBy' | 'snapshotXmax'>;

/** Why the next read cannot continue from the last one. */
export type HistoryLoss = 'behind' | 'lost-commits' | 'deleted';

/**
 * Tracks which transactions of the event log have been read.
 *
 * After a complete read in snapshot S, everything that S shows is delivered. The transactions that were in flight in S or
 * had not begun remain, so the next read requests exactly these ranges.
 *
 * A full page ends within a transaction. Later transactions count as not read. Each read continues that transaction by
 * one page, so that it does not delay the others.
 *
 * Cursors do not move while a transaction is partly delivered, because they cannot name a part.
 */
export class LogProgress {
  #coverage: Coverage;
  readonly #durable: DurableCoverage;
  /** Partly delivered transactions, with the number of the last delivered row, in the order in which they are continued. */
  readonly #partial = new Map<bigint, bigint>();
  /**
   * Large transactions whose last rows are delivered but not known to be on disk, with the number of the last row. After
   * a reconnect they continue from there if their first part is on disk.
   */
  readonly #finished = new Map<bigint, bigint>();
  readonly #unflushed = new UnflushedRows();
  #readBy = '';
  /** Whether the last read was another reader's. */
  #isFollowing = false;
  /** What was read before reconnects, with the number of the last row of partly read transactions. It may be read again. */
  #coveredBefore: Coverage;
  readonly #partialBefore = new Map<bigint, bigint>();
  /**
   * The highest xmax of a snapshot whose rows were delivered. The newest one can be lower: after this reader has read for
   * itself, it follows a leader that hung meanwhile.
   */
  shownXmax: bigint;
  #deletedXid = 0n;

  /** Starts after `coverage`. A crash undoes nothing that `durable` covers. */
  constructor(coverage: Coverage, durable: Coverage) {
    this.#coverage = this.#coveredBefore = coverage;
    this.shownXmax = coverage.xmax;
    this.#durable = new DurableCoverage(durable);
  }

  /** How many delivered rows are remembered because a crash may undo them. */
  get remembered(): number {
    return this.#unflushed.size;
  }

  /** Whether a large transaction is to be continued. */
  get hasPartial(): boolean {
    return this.#partial.size > 0;
  }

  /** The coverage that cursors get. */
  get position(): Coverage {
    return this.#durable.settled;
  }

  get state(): ReadState {
    const { value: durable, partial } = this.#durable;
    return {
      coverage: this.#coverage,
      durable,
      partial: [...this.#partial].map(([xid, afterSeq]) => ({ xid, afterSeq })),
      durablePartial: [...partial].flatMap((xid) => {
        const afterSeq = this.#partial.get(xid) ?? this.#finished.get(xid);
        return afterSeq === undefined ? [] : { xid, afterSeq };
      }),
    };
  }

  /** With `continuesPartial` the next read continues a partly delivered transaction. */
  bounds(continuesPartial: boolean): ReadBounds {
    const [first] = this.#partial;
    return {
      ...uncoveredRanges(this.#coverage, this.#partial.keys()),
      partial: first === undefined || !continuesPartial ? null : { xid: first[0], afterSeq: first[1] },
    };
  }

  /**
   * The next read is on another connection: the database may have crashed. A crash undoes commits that were not
   * on disk, and hands out their transaction ids and row numbers again. So everything that was not known to be on
   * disk is read again. Unchanged rows are not delivered twice; a missing row means that commits were lost.
   */
  reconnected(): void {
    this.#durable.forgetWaiting();
    this.#coveredBefore = unionOf(this.#coveredBefore, this.#withoutPartial());
    for (const [xid, afterSeq] of this.#partial) {
      this.#partialBefore.set(xid, maxOf(this.#partialBefore.get(xid) ?? 0n, afterSeq));
    }
    this.#coverage = this.#durable.value;
    for (const xid of this.#partial.keys()) {
      if (!this.#durable.partial.has(xid)) this.#partial.delete(xid);
    }
    for (const [xid, afterSeq] of this.#finished) {
      if (this.#durable.partial.has(xid)) this.#partial.set(xid, afterSeq);
    }
    this.#finished.clear();
    this.#unflushed.markUncertain();
  }

  /** Whether rows were deleted before they were read: `deletedXid` is of the next read to absorb. */
  hasMissed(deletedXid: bigint): boolean {
    if (deletedXid <= this.#deletedXid) return false;
    this.#deletedXid = deletedXid;
    return !covers(this.#coverage, deletedXid);
  }

  /** Records a read with these bounds and this limit, and returns its new rows. */
  absorb(
    { coverage: snapshot, insertLsn, flushLsn }: SnapshotPosition,
    rows: readonly LogRow[],
    bounds: ReadBounds,
    limit: number,
  ): NewRows | HistoryLoss {
    if (snapshot.xmin < this.#durable.value.xmin || snapshot.xmax < this.#durable.value.xmax) return 'behind';
    this.#isFollowing = false;
    this.shownXmax = maxOf(this.shownXmax, snapshot.xmax);
    const continued = bounds.partial;
    const isContinued = ({ xid }: LogRow): boolean => xid === continued?.xid;
    const page = rows.filter((row) => !isContinued(row));
    const isFull = page.length >= limit;
    this.#coverage = this.#coverageAfter(snapshot, page, isFull);
    if (continued !== null) this.#continue(continued.xid, rows.filter(isContinued), limit);
    const fresh = rows.filter((row) => this.#isNew(row));
    const partial = new Set(this.#partial.keys());
    this.#durable.advance({ coverage: this.#withoutPartial(), partial, insertLsn }, flushLsn);
    this.#forgetDurable();
    if (!isFull && this.#unflushed.hasLost((xid) => this.#partial.has(xid))) return 'lost-commits';
    return {
      events: fresh.flatMap(({ event }) => event ?? []),
      controls: fresh.flatMap(({ control }) => control ?? []),
      hasMore: isFull || this.hasPartial,
    };
  }

  /** Records a read of another reader, and returns its events that were not delivered here. */
  follow({ events, read, position, readBy, snapshotXmax }: FollowedRead): FlagEvent[] {
    if (this.#readBy !== readBy) this.reconnected();
    this.#readBy = readBy;
    this.#isFollowing = true;
    this.shownXmax = maxOf(this.shownXmax, snapshotXmax);
    const fresh = events.filter((event) => {
      const afterSeq = this.#partial.get(event.xid);
      const seq = BigInt(event.id);
      const isDelivered = afterSeq === undefined ? covers(this.#coverage, event.xid) : seq <= afterSeq;
      return !isDelivered && this.#isNew({ xid: event.xid, seq, event, control: null });
    });
    this.#merge(read, position);
    return fresh;
  }

  /**
   * Whether a later read will deliver this event, which another query found in the log. Null: that is known when more was
   * read. The reader that is followed reads again after its reconnect, but passes on only what it has not delivered before,
   * and that may have been skipped here.
   */
  willBeRead(event: FlagEvent): boolean | null {
    const { xid } = event;
    const seq = BigInt(event.id);
    const afterSeq = this.#partial.get(xid);
    if (afterSeq === undefined ? covers(this.#coverage, xid) : seq <= afterSeq) return false;
    // After a reconnect it is read again, although it was delivered before.
    if (this.#unflushed.isUncertain({ xid, seq, event, control: null })) return false;
    const wasRead = covers(this.#coveredBefore, xid) || seq <= (this.#partialBefore.get(xid) ?? 0n);
    return this.#isFollowing && wasRead ? null : true;
  }

  /** Before the end of a full page the snapshot is covered; after it nothing was read, so the coverage stays as it was. */
  #coverageAfter(snapshot: Coverage, page: readonly LogRow[], isFull: boolean): Coverage {
    const last = isFull ? lastOf(page) : null;
    if (last !== null) this.#partial.set(last.xid, last.seq);
    const before = this.#coverage;
    const xmax = last === null ? snapshot.xmax : maxOf(before.xmax, last.xid + 1n);
    if (snapshot.listed === 'open') {
      const end = last === null ? xmax : last.xid + 1n;
      const xids = [
        ...snapshot.xids.filter((xid) => xid < end),
        ...before.xids.filter((xid) => xid >= end && !this.#partial.has(xid)),
      ];
      return { xmin: last === null ? snapshot.xmin : (xids[0] ?? xmax), xmax, listed: 'open', xids };
    }
    // A replica's snapshot does not list transactions in flight, so the coverage lists the delivered ones.
    const xmin = last === null ? snapshot.xmin : maxOf(before.xmin, minOf(snapshot.xmin, last.xid));
    const known = before.listed === 'delivered' ? before.xids : [];
    const delivered = new Set([...known, ...this.#partial.keys(), ...page.map(({ xid }) => xid)]);
    return {
      xmin,
      xmax,
      listed: 'delivered',
      xids: [...delivered].filter((xid) => xid >= xmin).toSorted(ascending),
    };
  }

  #continue(xid: bigint, rows: readonly LogRow[], limit: number): void {
    const before = this.#partial.get(xid);
    this.#partial.delete(xid);
    const afterSeq = rows.at(-1)?.seq ?? before;
    if (afterSeq === undefined) return;
    // A Map keeps the order of insertion: it is continued after the others.
    if (rows.length >= limit) this.#partial.set(xid, afterSeq);
    else this.#finished.set(xid, afterSeq);
  }

  /** False if the row was delivered before a reconnect. Remembers it while a crash may undo it. */
  #isNew(row: LogRow): boolean {
    // For a large transaction that is known to be on disk only its progress matters.
    if (!this.#durable.partial.has(row.xid)) this.#unflushed.remember(row);
    return !this.#unflushed.findAgain(row);
  }

  /** Adds the progress of the other reader. This reader may have read more before it followed. */
  #merge(read: ReadState, position: Coverage): void {
    const before = this.#coverage;
    const isComplete = (xid: bigint): boolean =>
      covers(before, xid) && !this.#partial.has(xid) && !this.#finished.has(xid);
    const partial = read.partial.filter(({ xid }) => !isComplete(xid));
    const durablePartial = read.durablePartial.filter(({ xid }) => !isComplete(xid));
    const continued = new Set(partial.map(({ xid }) => xid));
    for (const [xid, afterSeq] of this.#partial) {
      if (continued.has(xid) || !covers(read.coverage, xid)) continue;
      this.#partial.delete(xid);
      this.#finished.set(xid, afterSeq);
    }
    for (const { xid, afterSeq } of partial) {
      if (!this.#finished.has(xid)) this.#partial.set(xid, maxOf(this.#partial.get(xid) ?? 0n, afterSeq));
    }
    for (const { xid, afterSeq } of durablePartial) {
      if (!this.#partial.has(xid)) this.#finished.set(xid, maxOf(this.#finished.get(xid) ?? 0n, afterSeq));
    }
    this.#coverage = unionOf(before, read.coverage);
    const { value, settled, partial: known } = this.#durable;
    const durable = unionOf(value, read.durable);
    const onDisk = [...known, ...durablePartial.map(({ xid }) => xid)].filter((xid) => !covers(durable, xid));
    this.#durable.replace(durable, unionOf(settled, position), new Set(onDisk));
    this.#unflushed.findUpTo((xid) => this.#partial.get(xid) ?? (covers(this.#coverage, xid) ? maxId : 0n));
    this.#forgetDurable();
  }

  /** Forgets rows that a crash cannot undo any more. */
  #forgetDurable(): void {
    const { value, partial } = this.#durable;
    this.#unflushed.forget((xid) => covers(value, xid) || partial.has(xid));
    for (const known of [this.#finished, this.#partialBefore]) {
      for (const xid of known.keys()) if (covers(value, xid)) known.delete(xid);
    }
  }

  /** The coverage in which a partly delivered transaction counts as not delivered. */
  #withoutPartial(): Coverage {
    const { xmin, xmax, listed, xids } = this.#coverage;
    const partial = [...this.#partial.keys()].filter((xid) => xid < xmax);
    if (partial.length === 0) return this.#coverage;
    if (listed === 'delivered') {
      return { xmin, xmax, listed, xids: xids.filter((xid) => !this.#partial.has(xid)) };
    }
    const open = [...new Set([...xids, ...partial])].toSorted(ascending);
    return { xmin: minOf(xmin, open[0] ?? xmin), xmax, listed, xids: open };
  }
}

/** The row that the next page continues after, in the order of the primary key. */
function lastOf(page: readonly LogRow[]): LogRow | null {
  let last: LogRow | null = null;
  for (const row of page) {
    if (last === null || row.xid > last.xid || (row.xid === last.xid && row.seq > last.seq)) last = row;
  }
  return last;
}

function minOf(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function maxOf(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

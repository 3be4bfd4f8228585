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
import { DurableCoverage } from './durable-coverage.js';
import type { LogRow, SnapshotPosition } from './log-statements.js';

/** What the next read asks for. */
export interface ReadBounds extends XidRanges {
  /** A large transaction to continue; null where there is none. */
  readonly partial: PartialRead | null;
}

/** What a read brought that has not been delivered. */
export interface NewRows {
  readonly events: readonly FlagEvent[];
  readonly controls: readonly ControlEntry[];
  /** A page was full: there is more to read now. */
  readonly hasMore: boolean;
}

type FollowedRead = Pick<RelayedRead, 'events' | 'controls' | 'read' | 'position' | 'readBy'>;

/** Why reading cannot continue from where it is. */
export type HistoryLoss = 'behind' | 'lost-commits';

/**
 * What of the event log has been read, by transaction ids.
 *
 * After a complete read in snapshot S, everything that S shows is delivered. What is left are the transactions that
 * were in flight in S and those that had not begun, so the next read asks for exactly these ranges.
 *
 * A full page ends within a transaction. What comes after that one counts as not read. The transaction itself is
 * continued with each read, a page at a time, so that it does not delay the others.
 *
 * Cursors stay where they are while a transaction is partly delivered: a cursor cannot say which part.
 */
export class LogProgress {
  #coverage: Coverage;
  readonly #durable: DurableCoverage;
  /** By transaction, the number of the last row that was delivered. In the order in which they are continued. */
  readonly #partial = new Map<bigint, bigint>();
  /**
   * Large transactions that were delivered completely, which is not known to be on disk yet: where a part of them is, a
   * reconnect continues there.
   */
  readonly #finished = new Map<bigint, bigint>();
  /** What was delivered of transactions that a crash may take back, as `fingerprintOf` names it. */
  readonly #volatile = new Map<bigint, Set<string>>();
  /** After a reconnect: what was delivered before it and has not been found again. */
  readonly #doubtful = new Map<bigint, Set<string>>();
  #readBy = '';

  /** Begins after `coverage`, of which a crash takes back nothing that `durable` covers. */
  constructor(coverage: Coverage, durable: Coverage) {
    this.#coverage = coverage;
    this.#durable = new DurableCoverage(durable);
  }

  /** How many delivered rows are remembered because a crash may take them back. */
  get remembered(): number {
    let size = 0;
    for (const fingerprints of this.#volatile.values()) size += fingerprints.size;
    return size;
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

  /** With `continuesPartial` a large transaction that was begun is continued. */
  bounds(continuesPartial: boolean): ReadBounds {
    const [first] = this.#partial;
    return {
      ...uncoveredRanges(this.#coverage, this.#partial.keys()),
      partial: first === undefined || !continuesPartial ? null : { xid: first[0], afterSeq: first[1] },
    };
  }

  /**
   * The next read is on another connection: the database may have crashed. A crash takes back commits that were not
   * on disk, and hands out their transaction ids and row numbers again. So everything that was not known to be on
   * disk is read again; what is found unchanged is not delivered twice, and what is not found was lost.
   */
  reconnected(): void {
    this.#durable.forgetWaiting();
    this.#coverage = this.#durable.value;
    for (const xid of this.#partial.keys()) {
      if (!this.#durable.partial.has(xid)) this.#partial.delete(xid);
    }
    for (const [xid, afterSeq] of this.#finished) {
      if (this.#durable.partial.has(xid)) this.#partial.set(xid, afterSeq);
    }
    this.#finished.clear();
    for (const [xid, fingerprints] of this.#volatile) {
      this.#doubtful.set(xid, new Set([...(this.#doubtful.get(xid) ?? []), ...fingerprints]));
    }
    this.#volatile.clear();
  }

  /** Takes in a read that was made with these bounds and this limit. */
  absorb(
    { coverage: snapshot, insertLsn, flushLsn }: SnapshotPosition,
    rows: readonly LogRow[],
    bounds: ReadBounds,
    limit: number,
  ): NewRows | HistoryLoss {
    if (snapshot.xmin < this.#durable.value.xmin || snapshot.xmax < this.#durable.value.xmax) return 'behind';
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
    if (!isFull) {
      for (const [xid, fingerprints] of this.#doubtful) {
        if (this.#partial.has(xid)) continue;
        if (fingerprints.size > 0) return 'lost-commits';
        this.#doubtful.delete(xid);
      }
    }
    return {
      events: fresh.flatMap(({ event }) => event ?? []),
      controls: fresh.flatMap(({ control }) => control ?? []),
      hasMore: isFull || this.hasPartial,
    };
  }

  /** Takes in what another reader has read after this one, and returns its events that were not delivered here. */
  follow({ events, read, position, readBy }: FollowedRead): FlagEvent[] {
    if (this.#readBy !== readBy) this.reconnected();
    this.#readBy = readBy;
    const fresh = events.filter((event) => {
      const afterSeq = this.#partial.get(event.xid);
      const seq = BigInt(event.id);
      const isDelivered = afterSeq === undefined ? covers(this.#coverage, event.xid) : seq <= afterSeq;
      return !isDelivered && this.#isNew({ xid: event.xid, seq, event, control: null });
    });
    this.#merge(read, position);
    return fresh;
  }

  /** Whether a later read will bring this event, which was found in the log by another query. */
  willBeRead(event: FlagEvent): boolean {
    const { xid } = event;
    const seq = BigInt(event.id);
    const afterSeq = this.#partial.get(xid);
    if (afterSeq === undefined ? covers(this.#coverage, xid) : seq <= afterSeq) return false;
    // After a reconnect it is read again, but was delivered before.
    return this.#doubtful.get(xid)?.has(fingerprintOf({ xid, seq, event, control: null })) !== true;
  }

  /** Below the end of a full page the snapshot decides; from there on nothing has been read, so what was covered stays. */
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
    // A replica's snapshot does not list what is in flight: what has been delivered is listed.
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
    // Set anew it is continued after the others.
    if (rows.length >= limit) this.#partial.set(xid, afterSeq);
    else this.#finished.set(xid, afterSeq);
  }

  /** False: it was delivered before a reconnect. Else it is remembered while a crash may take it back. */
  #isNew(row: LogRow): boolean {
    const fingerprint = fingerprintOf(row);
    // Of a large transaction that is known to be on disk only its progress matters.
    if (!this.#durable.partial.has(row.xid)) this.#remember(row.xid, fingerprint);
    return this.#doubtful.get(row.xid)?.delete(fingerprint) !== true;
  }

  /** Adds what the other reader has read. This one may have read more before it followed. */
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
    this.#takeAsFound();
    this.#forgetDurable();
  }

  /** The other reader has found again what it has read: it does not hand on what it had handed on before. */
  #takeAsFound(): void {
    for (const [xid, fingerprints] of this.#doubtful) {
      const afterSeq = this.#partial.get(xid) ?? (covers(this.#coverage, xid) ? maxId : 0n);
      for (const fingerprint of fingerprints) {
        if (seqOf(fingerprint) > afterSeq) continue;
        fingerprints.delete(fingerprint);
        this.#remember(xid, fingerprint);
      }
      if (fingerprints.size === 0) this.#doubtful.delete(xid);
    }
  }

  #remember(xid: bigint, fingerprint: string): void {
    const remembered = this.#volatile.get(xid);
    if (remembered === undefined) this.#volatile.set(xid, new Set([fingerprint]));
    else remembered.add(fingerprint);
  }

  /** No crash takes these back any more. */
  #forgetDurable(): void {
    const { value, partial } = this.#durable;
    for (const xid of this.#volatile.keys()) {
      if (covers(value, xid) || partial.has(xid)) this.#volatile.delete(xid);
    }
    for (const xid of this.#finished.keys()) if (covers(value, xid)) this.#finished.delete(xid);
  }

  /** A transaction that is partly delivered counts as not delivered. */
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

/** Tells two rows apart that got the same transaction id and number, one before and one after a crash. */
function fingerprintOf({ seq, event }: LogRow): string {
  if (event === null) return seq.toString();
  const { source, rowId, entityId, action, createdAt } = event;
  return [seq, source, rowId, entityId, action, createdAt].join(' ');
}

function seqOf(fingerprint: string): bigint {
  return BigInt(fingerprint.split(' ', 1)[0] ?? '');
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

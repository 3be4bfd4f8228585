import { coverageOfSnapshot } from '../../src/events/position.js';
import type { ReadBounds } from '../../src/reader/log-progress.js';
import type { LogRow } from '../../src/reader/log-statements.js';
import type { SnapshotPosition } from '../../src/reader/snapshot-position.js';
import { auditEvent } from '../audit-event.js';

interface Transaction {
  readonly xid: bigint;
  readonly rows: LogRow[];
  /** The place of the commit's record in the write-ahead log; null while it is in flight. */
  commitLsn: number | null;
}

/**
 * A database with an event log, and its write-ahead log: each row, commit and rollback is one record. A crash loses
 * unflushed records, and their transaction ids and row numbers are used again.
 */
export class ModelDatabase {
  readonly #firstXid = 100n;
  readonly #isReplica: boolean;
  #records: { readonly xid: bigint; readonly seq: bigint }[] = [];
  #flushed = 0;
  #nextXid = this.#firstXid;
  #nextSeq = 1n;
  #rowsWritten = 0;
  #committed: Transaction[] = [];
  readonly #inFlight = new Map<number, Transaction>();

  /** A replica does not show which transactions are in flight, and shows only commits that its primary has flushed. */
  constructor({ isReplica = false } = {}) {
    this.#isReplica = isReplica;
  }

  /** Writes this number of rows in the transaction of the session. */
  write(session: number, rows: number): void {
    let transaction = this.#inFlight.get(session);
    if (transaction === undefined) {
      transaction = { xid: this.#nextXid, rows: [], commitLsn: null };
      this.#nextXid += 1n;
      this.#inFlight.set(session, transaction);
    }
    for (let count = 0; count < rows; count += 1) {
      this.#rowsWritten += 1;
      const row = rowOf(transaction.xid, this.#nextSeq, `row ${this.#rowsWritten}`);
      transaction.rows.push(row);
      this.#records.push({ xid: transaction.xid, seq: row.seq });
      this.#nextSeq += 1n;
    }
  }

  end(session: number, how: 'commit' | 'commit asynchronously' | 'roll back'): void {
    const transaction = this.#inFlight.get(session);
    if (transaction === undefined) return;
    this.#inFlight.delete(session);
    this.#records.push({ xid: transaction.xid, seq: 0n });
    if (how === 'roll back') return;
    transaction.commitLsn = this.#records.length;
    this.#committed.push(transaction);
    if (how === 'commit') this.flush();
  }

  flush(): void {
    this.#flushed = this.#records.length;
  }

  crash(): void {
    this.#records = this.#records.slice(0, this.#flushed);
    this.#inFlight.clear();
    this.#committed = this.#committed.filter(({ commitLsn }) => (commitLsn ?? 0) <= this.#flushed);
    this.#nextXid = this.#records.reduce((next, { xid }) => (xid >= next ? xid + 1n : next), this.#firstXid);
    this.#nextSeq = this.#records.reduce((next, { seq }) => (seq >= next ? seq + 1n : next), 1n);
  }

  get committed(): LogRow[] {
    return this.#committed.flatMap(({ rows }) => rows);
  }

  /** As `readStatement` does it. */
  read({ lows, highs, partial }: ReadBounds, limit: number): [SnapshotPosition, LogRow[]] {
    const inOrder = this.committed.toSorted((a, b) => Number(a.xid - b.xid) || Number(a.seq - b.seq));
    const isInRange = ({ xid }: LogRow): boolean =>
      lows.some((low, index) => BigInt(low) <= xid && xid <= BigInt(highs[index] ?? ''));
    const page = inOrder.filter(isInRange).slice(0, limit);
    const continued = inOrder.filter(({ xid, seq }) => xid === partial?.xid && seq > partial.afterSeq);
    const rows = [...page, ...continued.slice(0, limit)];
    return [this.position, rows.toSorted((a, b) => Number(a.seq - b.seq))];
  }

  get position(): SnapshotPosition {
    const open = [...this.#inFlight.values()].map(({ xid }) => xid).toSorted((a, b) => Number(a - b));
    const bounds = `${open[0] ?? this.#nextXid}:${this.#nextXid}:`;
    if (this.#isReplica) {
      return { coverage: coverageOfSnapshot(bounds, true), insertLsn: null, flushLsn: null };
    }
    return {
      coverage: coverageOfSnapshot(bounds + open.join(), false),
      insertLsn: BigInt(this.#records.length),
      flushLsn: BigInt(this.#flushed),
    };
  }
}

function rowOf(xid: bigint, seq: bigint, rowId: string): LogRow {
  const event = auditEvent({ id: seq.toString(), xid, rowId, entityId: rowId });
  return { xid, seq, event, control: null };
}

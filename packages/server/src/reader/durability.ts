import type { Coverage } from '../events/position.js';
import type { LogRow } from './log-statements.js';

interface Candidate {
  readonly coverage: Coverage;
  /** Transactions that it does not cover, because they are only partly delivered. */
  readonly partial: ReadonlySet<bigint>;
  readonly insertLsn: bigint | null;
}

/**
 * The part of the coverage that a crash cannot undo.
 *
 * After a crash PostgreSQL assigns again the ids of transactions whose records had not reached the disk: those
 * that were rolled back, or committed asynchronously. A coverage that included them would hide the rows written under
 * the same ids later. Every transaction that has ended has a record in the write-ahead log, written before it left the
 * snapshot. So a snapshot is durable once the log is flushed up to where it ended when the snapshot had been taken, as
 * seen by that read or a later one on the same connection.
 */
export class DurableCoverage {
  value: Coverage;
  /** The newest one without partly delivered transactions: cursors get it. */
  settled: Coverage;
  /** Partly delivered transactions that are known to be on disk. */
  partial: ReadonlySet<bigint> = new Set();
  #waiting: Candidate[] = [];

  /** Starts with a coverage that is known to be on disk. */
  constructor(value: Coverage) {
    this.value = value;
    this.settled = value;
  }

  /** Adds the coverage of a read. `flushLsn` is null on a replica, which shows only what its primary has flushed. */
  advance(candidate: Candidate, flushLsn: bigint | null): void {
    const { insertLsn } = candidate;
    if (insertLsn === null || flushLsn === null) {
      this.#accept(candidate);
      return;
    }
    // Only the newest of the candidates that wait for the same flush matters.
    const newest = this.#waiting.at(-1);
    if (newest?.insertLsn === insertLsn && newest.partial.size === candidate.partial.size)
      this.#waiting.pop();
    this.#waiting.push(candidate);
    const stillWaiting = this.#waiting.findIndex((each) => (each.insertLsn ?? 0n) > flushLsn);
    const durable = this.#waiting.splice(0, stillWaiting === -1 ? this.#waiting.length : stillWaiting);
    for (const each of durable) this.#accept(each);
  }

  /** Replaces it by what another reader knows to be on disk. */
  replace(value: Coverage, settled: Coverage, partial: ReadonlySet<bigint>): void {
    this.#waiting = [];
    this.partial = partial;
    this.value = value;
    this.settled = settled;
  }

  /**
   * Forgets the candidates that wait for a flush. If a crash ended the connection, other records take the same places in
   * the write-ahead log, and their flush says nothing about these candidates.
   */
  forgetWaiting(): void {
    this.#waiting = [];
  }

  #accept({ coverage, partial }: Candidate): void {
    this.value = coverage;
    this.partial = partial;
    if (partial.size === 0) this.settled = coverage;
  }
}

/**
 * Delivered rows that a crash of PostgreSQL may undo, because it is not known that they are on disk. A crash makes
 * PostgreSQL assign their transaction ids and row numbers again, so a row is remembered by its content, too.
 */
export class UnflushedRows {
  /** By transaction, the fingerprints of rows. */
  readonly #delivered = new Map<bigint, Set<string>>();
  /** Those that were delivered before a reconnect and have not been found again. */
  readonly #uncertain = new Map<bigint, Set<string>>();

  get size(): number {
    let size = 0;
    for (const fingerprints of this.#delivered.values()) size += fingerprints.size;
    return size;
  }

  /** The next read is on another connection: the database may have crashed. */
  markUncertain(): void {
    for (const [xid, fingerprints] of this.#delivered) {
      this.#uncertain.set(xid, new Set([...(this.#uncertain.get(xid) ?? []), ...fingerprints]));
    }
    this.#delivered.clear();
  }

  remember(row: LogRow): void {
    this.#remember(row.xid, fingerprintOf(row));
  }

  /** Whether this row was delivered before a reconnect; then it is uncertain no more. */
  findAgain(row: LogRow): boolean {
    return this.#uncertain.get(row.xid)?.delete(fingerprintOf(row)) === true;
  }

  isUncertain(row: LogRow): boolean {
    return this.#uncertain.get(row.xid)?.has(fingerprintOf(row)) === true;
  }

  /** After a complete read: whether a row was not found again. Transactions that are `partial` are still read. */
  hasLost(isPartial: (xid: bigint) => boolean): boolean {
    for (const [xid, fingerprints] of this.#uncertain) {
      if (isPartial(xid)) continue;
      if (fingerprints.size > 0) return true;
      this.#uncertain.delete(xid);
    }
    return false;
  }

  /** Another reader has found again the rows up to `lastSeqOf(xid)`, and does not deliver them twice. */
  findUpTo(lastSeqOf: (xid: bigint) => bigint): void {
    for (const [xid, fingerprints] of this.#uncertain) {
      const lastSeq = lastSeqOf(xid);
      for (const fingerprint of fingerprints) {
        if (seqOf(fingerprint) > lastSeq) continue;
        fingerprints.delete(fingerprint);
        this.#remember(xid, fingerprint);
      }
      if (fingerprints.size === 0) this.#uncertain.delete(xid);
    }
  }

  /** A crash cannot undo these transactions any more. */
  forget(isFlushed: (xid: bigint) => boolean): void {
    for (const xid of this.#delivered.keys()) if (isFlushed(xid)) this.#delivered.delete(xid);
  }

  #remember(xid: bigint, fingerprint: string): void {
    const remembered = this.#delivered.get(xid);
    if (remembered === undefined) this.#delivered.set(xid, new Set([fingerprint]));
    else remembered.add(fingerprint);
  }
}

function fingerprintOf({ seq, event }: LogRow): string {
  if (event === null) return seq.toString();
  const { source, rowId, entityId, action, createdAt } = event;
  return [seq, source, rowId, entityId, action, createdAt].join(' ');
}

function seqOf(fingerprint: string): bigint {
  return BigInt(fingerprint.split(' ', 1)[0] ?? '');
}

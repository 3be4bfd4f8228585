import type { LogRow } from './log-statements.js';

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

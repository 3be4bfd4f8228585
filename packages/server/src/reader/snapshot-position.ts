import { setTimeout as delay } from 'node:timers/promises';
import { coverageOfSnapshot, type Coverage } from '../events/position.js';
import type { Queries } from '../postgres/session-pool.js';

/** The snapshot, and positions in the write-ahead log in bytes, null on a replica. */
export const positionColumns = `
  pg_current_snapshot()::text,
  CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::text END,
  CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_flush_lsn() - '0/0')::text END`;

/** What a statement could see, and how much of that was on disk. */
export interface SnapshotPosition {
  readonly coverage: Coverage;
  /** The end of the write-ahead log when the snapshot had been taken; null on a replica. */
  readonly insertLsn: bigint | null;
  /** The position up to which it was flushed at that time; null on a replica. */
  readonly flushLsn: bigint | null;
}

export function toSnapshotPosition(row: readonly (string | null)[]): SnapshotPosition {
  const [snapshot, insertLsn = null, flushLsn = null] = row;
  return {
    coverage: coverageOfSnapshot(snapshot ?? '0:0:', insertLsn === null),
    insertLsn: insertLsn === null ? null : BigInt(insertLsn),
    flushLsn: flushLsn === null ? null : BigInt(flushLsn),
  };
}

/** How often, and how many milliseconds apart, to check whether the write-ahead log is flushed; usually it is immediately. */
const flushAttempts = 25;
const flushPauseMs = 20;

/** Waits up to half a second until the write-ahead log is flushed up to this position; false if it is not. */
export async function isFlushed(session: Queries, insertLsn: bigint): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const { rowCount } = await session.query(
      `SELECT WHERE (pg_current_wal_flush_lsn() - '0/0') >= $1::numeric`,
      [insertLsn.toString()],
    );
    if (rowCount === 1 || attempt === flushAttempts) return rowCount === 1;
    await delay(flushPauseMs);
  }
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FlagEvent } from '../../src/events/event.js';
import { coverageOfSnapshot, covers } from '../../src/events/position.js';
import { type HistoryLoss, LogProgress, type ReadBounds } from '../../src/reader/log-progress.js';
import type { LogRow } from '../../src/reader/log-statements.js';
import type { SnapshotPosition } from '../../src/reader/snapshot-position.js';

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
class ModelDatabase {
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
  const event: FlagEvent = {
    id: seq.toString(),
    xid,
    source: 'audit',
    rowId,
    projectId: 'project',
    environmentId: '1',
    environmentKey: 'prod',
    entity: 'feature',
    entityId: rowId,
    action: 'updated',
    createdAt: '2026-01-01T00:00:00.000000Z',
    featureId: null,
    pendingChangeId: null,
    actor: null,
    committedAt: null,
    featureJson: null,
    featureUnreadable: false,
    pendingChangeJson: undefined,
    pendingChangeUnreadable: false,
  };
  return { xid, seq, event, control: null };
}

const limit = 3;

/** A reader of the model, which checks after each read what must hold. */
class ModelReader {
  readonly delivered: string[] = [];
  readonly #database: ModelDatabase;
  readonly #progress: LogProgress;
  loss: HistoryLoss | null = null;
  /** Receives the batches that this one has read. */
  follower: ModelReader | null = null;
  /** The batches that the follower has not received because it reads by itself; null if it follows. */
  #kept: (() => void)[] | null = null;
  #isFollowed = true;
  #connections = 1;
  /** Whether it receives the events that it follows. Those of channels without subscribers are skipped. */
  isWatching = true;
  #hasSkipped = false;
  /** Of these it has said that they will be read. */
  readonly #promised = new Set<string>();

  constructor(database: ModelDatabase) {
    this.#database = database;
    const { coverage } = database.position;
    this.#progress = new LogProgress(coverage, coverage);
  }

  reconnect(): void {
    this.#connections += 1;
    this.#progress.reconnected();
  }

  /** As servers of the relay do: `note` the place in its log, read by itself to the end, and then follow from there. */
  handOver(to: 'noting' | 'following' | 'direct'): void {
    const { follower } = this;
    if (follower === null) return;
    if (to === 'direct') {
      this.#isFollowed = false;
      this.#kept = null;
    } else if (to === 'noting' && !this.#isFollowed) {
      this.#kept = [];
    } else if (to === 'following' && this.#kept !== null) {
      drain(follower);
      for (const apply of this.#kept) apply();
      this.#kept = null;
      this.#isFollowed = true;
    }
  }

  /** Reads by itself while it does not follow. */
  followerReads(): void {
    if (!this.#isFollowed) this.follower?.read();
  }

  #handOn(events: readonly FlagEvent[]): void {
    const { follower } = this;
    const { state, position } = this.#progress;
    const readBy = `connection ${this.#connections}`;
    const apply = (): void => follower?.follow(events, { state, position }, readBy);
    if (this.#isFollowed) apply();
    else this.#kept?.push(apply);
  }

  follow(
    events: readonly FlagEvent[],
    { state: read, position }: Pick<LogProgress, 'state' | 'position'>,
    readBy: string,
  ): void {
    if (!this.isWatching) this.#hasSkipped = true;
    const watched = this.isWatching ? events : [];
    const followed = { events: watched, read, position, readBy, snapshotXmax: read.coverage.xmax };
    const fresh = this.#progress.follow(followed);
    this.delivered.push(...fresh.map(({ rowId }) => rowId));
    this.#check();
  }

  /** From the first one on that a client waits for, nothing is skipped. */
  expectPromised(): void {
    const delivered = new Set(this.delivered);
    const committed = new Set(rowIds(this.#database.committed));
    const lost = [...this.#promised].filter((rowId) => committed.has(rowId) && !delivered.has(rowId));
    expect(lost).toEqual([]);
  }

  /** Whether more rows can be read immediately. */
  read(): boolean {
    const bounds = this.#progress.bounds(true);
    const [position, rows] = this.#database.read(bounds, limit);
    const found = this.#progress.absorb(position, rows, bounds, limit);
    if (typeof found === 'string') {
      this.loss = found;
      return false;
    }
    this.delivered.push(...found.events.map(({ rowId }) => rowId));
    this.#check();
    this.#handOn(found.events);
    return found.hasMore;
  }

  /** Without `expect`, which takes most of the time when it is called for each row. */
  #check(): void {
    const delivered = new Set(this.delivered);
    if (this.delivered.length !== delivered.size)
      throw new Error(`delivered twice: ${this.delivered.join()}`);
    for (const { event } of this.#database.committed) {
      if (event === null) continue;
      const { rowId, xid } = event;
      const isAwaited = this.#progress.willBeRead(event) === true;
      if (this.#hasSkipped) {
        if (this.isWatching && isAwaited) this.#promised.add(rowId);
        continue;
      }
      const isDelivered = delivered.has(rowId);
      if (!isDelivered && covers(this.#progress.position, xid)) throw new Error(`claimed: ${rowId}`);
      if (isAwaited === isDelivered) throw new Error(`${rowId} is ${isDelivered ? 'awaited' : 'lost'}`);
    }
  }
}

type Step =
  | { readonly type: 'write' | 'transaction'; readonly session: number; readonly rows: number }
  | {
      readonly type: 'end';
      readonly session: number;
      readonly how: 'commit' | 'commit asynchronously' | 'roll back';
    }
  | { readonly type: 'read' | 'flush' | 'reconnect' | 'crash' }
  | { readonly type: 'hand over'; readonly to: 'noting' | 'following' | 'direct' }
  | { readonly type: 'follower reads' }
  | { readonly type: 'watch' };

const sessions = fc.integer({ min: 0, max: 3 });
const stepsWithoutCrash: fc.Arbitrary<Step>[] = [
  fc.record({
    type: fc.constant('write' as const),
    session: sessions,
    rows: fc.oneof(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 12 })),
  }),
  fc.record({
    type: fc.constant('end' as const),
    session: sessions,
    how: fc.constantFrom('commit', 'commit asynchronously', 'roll back'),
  }),
  fc.record({ type: fc.constantFrom('read' as const, 'read' as const, 'flush' as const) }),
  fc.record({ type: fc.constant('reconnect' as const) }),
];
const handOver: fc.Arbitrary<Step> = fc.record({
  type: fc.constant('hand over' as const),
  to: fc.constantFrom('noting' as const, 'following' as const, 'direct' as const),
});

function play(
  steps: readonly Step[],
  database = new ModelDatabase(),
  { isFollowed = false, isWatched = true } = {},
): { database: ModelDatabase; reader: ModelReader } {
  const reader = new ModelReader(database);
  if (isFollowed) reader.follower = new ModelReader(database);
  if (reader.follower !== null) reader.follower.isWatching = isWatched;
  for (const step of steps) {
    if (reader.loss !== null) break;
    if (step.type === 'write') database.write(step.session, step.rows);
    else if (step.type === 'transaction') {
      database.write(step.session, step.rows);
      database.end(step.session, 'commit asynchronously');
    } else if (step.type === 'end') database.end(step.session, step.how);
    else if (step.type === 'read') reader.read();
    else if (step.type === 'flush') database.flush();
    else if (step.type === 'hand over') reader.handOver(step.to);
    else if (step.type === 'follower reads') reader.followerReads();
    else if (step.type === 'watch') {
      if (reader.follower !== null) reader.follower.isWatching = true;
    } else {
      if (step.type === 'crash') database.crash();
      reader.reconnect();
    }
  }
  return { database, reader };
}

/** Reads until nothing is left. */
function drain(reader: ModelReader): void {
  for (let reads = 0; reads < 1_000 && reader.loss === null; reads += 1) if (!reader.read()) return;
  if (reader.loss === null) throw new Error('the reader does not come to an end');
}

const rowIds = (rows: readonly LogRow[]): string[] =>
  rows.flatMap(({ event }) => event?.rowId ?? []).toSorted();

describe('the progress of the reader', () => {
  it('delivers every committed row once, in pages and across reconnects, and cursors cover only delivered rows', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...stepsWithoutCrash), { maxLength: 60, size: 'max' }), (steps) => {
        const { database, reader } = play(steps);
        drain(reader);
        expect(reader.loss).toBe(null);
        expect(reader.delivered.toSorted()).toEqual(rowIds(database.committed));
      }),
      { numRuns: 40 },
    );
  });

  it('delivers every committed row once from a replica, whose snapshots do not list transactions in flight', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(...stepsWithoutCrash), { maxLength: 60, size: 'max' }), (steps) => {
        const { database, reader } = play(steps, new ModelDatabase({ isReplica: true }));
        drain(reader);
        expect(reader.loss).toBe(null);
        expect(reader.delivered.toSorted()).toEqual(rowIds(database.committed));
      }),
      { numRuns: 40 },
    );
  });

  it('delivers every committed row once while it follows another reader, reads the database, and follows again', () => {
    const followerReads = fc.record({ type: fc.constant('follower reads' as const) });
    const steps = fc.array(fc.oneof(...stepsWithoutCrash, handOver, followerReads), {
      maxLength: 60,
      size: 'max',
    });
    fc.assert(
      fc.property(steps, (all) => {
        const { database, reader } = play(all, new ModelDatabase(), { isFollowed: true });
        const { follower } = reader;
        if (follower === null) throw new Error('there is no follower');
        drain(follower);
        expect(follower.loss).toBe(null);
        expect(follower.delivered.toSorted()).toEqual(rowIds(database.committed));
      }),
      { numRuns: 70 },
    );
  });

  it('G1: delivers what it leaves out of an answer about missed events, also if it skipped rows while it followed', () => {
    const rows = fc.integer({ min: 1, max: 4 });
    const small = fc.record({ type: fc.constant('transaction' as const), session: sessions, rows });
    const reads = fc.record({ type: fc.constantFrom('read' as const, 'follower reads' as const) });
    const other = fc.record({ type: fc.constantFrom('watch' as const, 'reconnect' as const) });
    const step = fc.oneof({ weight: 4, arbitrary: small }, { weight: 4, arbitrary: reads }, other, handOver);
    const steps = fc.array(step, { maxLength: 60, size: 'max' });
    fc.assert(
      fc.property(steps, (all) => {
        const { reader } = play(all, new ModelDatabase(), { isFollowed: true, isWatched: false });
        drain(reader);
        reader.handOver('noting');
        reader.handOver('following');
        reader.follower?.expectPromised();
      }),
      { numRuns: 80 },
    );
  });

  it('reports a crash that undid delivered rows, and delivers every row once after any other crash', () => {
    const crash = fc.record({ type: fc.constant('crash' as const) });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(...stepsWithoutCrash, crash), { maxLength: 60, size: 'max' }),
        (steps) => {
          const { database, reader } = play(steps);
          drain(reader);
          const committed = rowIds(database.committed);
          const taken = reader.delivered.filter((rowId) => !committed.includes(rowId));
          if (reader.loss === null) expect(reader.delivered.toSorted()).toEqual(committed);
          else expect(taken).not.toEqual([]);
        },
      ),
      { numRuns: 70 },
    );
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FlagEvent } from '../../src/events/event.js';
import { covers } from '../../src/events/position.js';
import { type HistoryLoss, LogProgress } from '../../src/reader/log-progress.js';
import type { LogRow } from '../../src/reader/log-statements.js';
import { ModelDatabase } from './model-database.js';

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

  /** When all that was read is on disk, cursors cover everything, and nothing is remembered for the case of a crash. */
  expectSettled(): void {
    const { position, remembered } = this.#progress;
    const left = this.#database.committed.filter(({ xid }) => !covers(position, xid));
    expect({ left: rowIds(left), remembered }).toEqual({ left: [], remembered: 0 });
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

/** Reads until nothing is left and all is on disk. The follower only follows. */
function settle(database: ModelDatabase, reader: ModelReader): void {
  reader.handOver('noting');
  reader.handOver('following');
  database.flush();
  drain(reader);
  reader.expectSettled();
  reader.follower?.expectSettled();
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
        settle(database, reader);
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
        settle(database, reader);
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
        settle(database, reader);
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
          if (reader.loss === null) {
            expect(reader.delivered.toSorted()).toEqual(committed);
            settle(database, reader);
          } else expect(taken).not.toEqual([]);
        },
      ),
      { numRuns: 70 },
    );
  });
});

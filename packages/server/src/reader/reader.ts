import { backoffMs } from '../database/session.js';
import type { Batch, FlagEvent } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventView } from './event-view.js';
import { ExactTracker, type FollowedRead } from './exact-tracker.js';
import { OverlapTracker } from './overlap-tracker.js';
import { type History, historyId, ReadingSession } from './reading-session.js';
import { toEvent, toPosition } from './statements.js';
import type { Absorbed, FloorBounds, Tracker } from './tracker.js';
import type { SnapshotPosition } from './watermark.js';

export interface EventReaderOptions {
  /** `postgresql://...`; the reader keeps one connection of its own. */
  databaseUrl: string;
  /** The view to read, as it is written in SQL. Default null: Flagcast's own, or what there is in its place. */
  view?: string | null;
  /** How often to read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /** How far back an unseen transaction may have begun where sessions cannot be observed, in milliseconds. Default 1 h. */
  lookBackMs?: number;
  /** How long after its created_at an event may be committed where the view tells no transaction ids, in milliseconds. Default 60,000. */
  overlapMs?: number;
  /** How much a session may be late in showing when its transaction began, in milliseconds. Default 10,000. */
  allowanceMs?: number;
  /** After this many milliseconds without an answer a read has failed. Default 30,000. */
  queryTimeoutMs?: number;
  lifecycle: Lifecycle;
  /** Gets every event once: one call a read, also when it brought nothing but a new position. */
  onBatch: (batch: Batch) => void;
  /** The database has lost transactions that were handed on; the next batch begins anew. Default: nothing. */
  onHistoryLost?: () => void;
}

/** How long a read that is under way when the reader is stopped may still take, in milliseconds. */
const stopTimeoutMs = 2_000;

type Trigger = 'poll' | 'wake';

/** What another reader has read. */
export interface RelayedRead
  extends FollowedRead, Required<Pick<Batch, 'seenAtMs' | 'beganAtMs' | 'skipped'>> {
  readonly xmax: bigint;
}

interface Read extends Absorbed {
  /** How many rows the database sent. */
  readonly eventRows: number;
  readonly snapshot: SnapshotPosition;
}

/**
 * Reads what is new in the view: once every poll interval, and whenever it is woken.
 *
 * What is new, a tracker knows: `ExactTracker` where the view tells the transaction of an event, else
 * `OverlapTracker`.
 *
 * Whatever happens to the database, the reader waits for it and goes on from where it was.
 */
export class EventReader {
  readonly #options: Required<EventReaderOptions>;
  #view: EventView | null = null;
  /** Null before the beginning. */
  #tracker: Tracker | null = null;
  #history: History | null = null;
  /** The history and what is read of it, as cursors name them. */
  #historyId = '';
  #session: ReadingSession | null = null;
  #connections = 0;
  #trigger: Trigger | null = 'poll';
  /** On the clock of performance.now(): hints must not put the poll off, which also observes the floor. */
  #pollDueAtMs = 0;
  #nudge: (() => void) | null = null;
  #isPaused = false;
  /** How often it was paused. */
  #pauses = 0;
  #stopped = false;
  #running: Promise<void> | null = null;

  constructor(options: EventReaderOptions) {
    this.#options = {
      view: null,
      onHistoryLost: () => undefined,
      pollIntervalMs: 1_000,
      lookBackMs: 3_600_000,
      overlapMs: 60_000,
      allowanceMs: 10_000,
      queryTimeoutMs: 30_000,
      ...options,
    };
  }

  /** Whether the database is a replica: what a hint of its primary tells of may not have arrived there yet. */
  get readsReplica(): boolean {
    return this.#history !== null && this.#history.timeline === null;
  }

  /** How many delivered events are remembered because a read may bring them again. */
  get rememberedEvents(): number {
    return this.#tracker?.remembered ?? 0;
  }

  /** What is read; null before the first connection. */
  get view(): EventView | null {
    return this.#view;
  }

  /** Whether this event, found in the view by somebody else, is one that a later read will bring. */
  isYetToCome(event: FlagEvent): boolean {
    return this.#tracker?.isYetToCome(event) ?? false;
  }

  /** Begins reading; `reader:started` tells when events flow. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** A hint that there may be something new. Cheap: hints during a read become one more read. */
  wake(): void {
    this.#trigger ??= 'wake';
    this.#nudge?.();
  }

  /** Reads no more until `resume`; what is being read now is not handed on. Keeps its connection. */
  pause(): void {
    this.#pauses += 1;
    this.#isPaused = true;
  }

  /** Goes on where the reader stands, with a read now. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#pollDueAtMs = 0;
    this.wake();
  }

  /**
   * Whether what another reader of this history has read can be taken over: not before the beginning, and only
   * where the view tells transactions.
   */
  get canFollow(): boolean {
    return this.#tracker instanceof ExactTracker;
  }

  /**
   * Hands on what another reader of this history has read after what was handed on here, as if it had been read
   * here; only while paused. Its events may be those of some channels only. Drops those that were handed on before.
   */
  follow(step: RelayedRead): void {
    const tracker = this.#tracker;
    if (!(tracker instanceof ExactTracker)) throw new Error('there is nothing to go on from');
    const events = tracker.follow(step);
    const { xmin, xmax, seenAtMs, beganAtMs, skipped } = step;
    this.#options.onBatch({
      ...this.#batch(events, { xmin, xmax }, tracker, beganAtMs),
      seenAtMs,
      skipped,
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#nudge?.();
    // A database that does not answer must not hold up the shutdown.
    const giveUp = setTimeout(() => {
      this.#session?.discard();
    }, stopTimeoutMs);
    await this.#running;
    clearTimeout(giveUp);
  }

  async #run(): Promise<void> {
    let attempts = 0;
    let failedAtMs = 0;
    for (;;) {
      let backoff: number | null = null;
      if (this.#isPaused) {
        this.#trigger = null;
        await this.#wait(null);
        if (this.#isStopped()) break;
        continue;
      }
      try {
        const session = (this.#session ??= await this.#connect());
        if (this.#isStopped()) break;
        const trigger = performance.now() >= this.#pollDueAtMs ? 'poll' : (this.#trigger ?? 'poll');
        this.#trigger = null;
        if (trigger === 'poll') this.#pollDueAtMs = performance.now() + this.#options.pollIntervalMs;
        if (this.#tracker === null) await this.#begin(session);
        else await this.#read(session, this.#tracker, trigger);
        if (attempts > 0) {
          this.#options.lifecycle.emit('reader:recovered', { attempts, downMs: Date.now() - failedAtMs });
          attempts = 0;
        }
      } catch (error) {
        this.#session?.discard();
        this.#session = null;
        if (this.#isStopped()) break;
        if (attempts === 0) failedAtMs = Date.now();
        attempts += 1;
        backoff = backoffMs(attempts);
        this.#options.lifecycle.emit('reader:failed', {
          error: error instanceof Error ? error : new Error(String(error)),
          attempt: attempts,
          retryInMs: backoff,
        });
      }
      await this.#wait(backoff);
      if (this.#isStopped()) break;
    }
    await this.#session?.end();
    this.#session = null;
  }

  /** Until the poll is due or, while paused, for ever; or until somebody wakes the reader, or for the whole backoff, which hints do not shorten. */
  async #wait(backoff: number | null): Promise<void> {
    if (this.#stopped || (this.#trigger !== null && backoff === null)) return;
    await new Promise<void>((resolve) => {
      // Node 24 warns of a negative one: the poll may be overdue.
      const waitMs = backoff ?? Math.max(this.#pollDueAtMs - performance.now(), 0);
      const timer = this.#isPaused ? undefined : setTimeout(resolve, waitMs);
      this.#nudge = () => {
        if (backoff !== null && !this.#stopped) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#nudge = null;
  }

  async #connect(): Promise<ReadingSession> {
    const session = await ReadingSession.open(this.#options);
    this.#connections += 1;
    this.#compareHistory(session.history);
    this.#compareView(session.view);
    if (this.#tracker instanceof ExactTracker) this.#tracker.reconnected();
    // A lost connection is noticed now, not at the next poll: reconnecting takes a while.
    session.onceLost(() => {
      if (this.#session === session) {
        this.#session = null;
        this.wake();
      }
    });
    return session;
  }

  /** Transaction ids only mean something within one history; see what became of ours. */
  #compareHistory(history: History | null): void {
    const before = this.#history;
    if (history === null) return;
    if (before?.database === history.database && before.timeline === history.timeline) return;
    this.#history = history;
    if (before === null || this.#tracker === null) return;
    if (before.database !== history.database) {
      this.#restart(`another database answers: ${history.database} in place of ${before.database}`);
    } else {
      // A standby took over. Transactions that it had not received are gone, and their ids are handed
      // out again, below the watermark.
      this.#restart(
        `the database went from timeline ${before.timeline ?? 'unknown'} to ${history.timeline ?? 'unknown'}: a standby took over`,
      );
    }
  }

  /** Somebody has installed Flagcast meanwhile, or taken it back: what an event is may be another thing. */
  #compareView(view: EventView): void {
    const before = this.#view;
    this.#view = view;
    if (before === null || this.#tracker === null || before.relation === view.relation) return;
    this.#restart(`events come from ${view.name} now, not from ${before.name}`);
  }

  #restart(reason: string): void {
    this.#tracker = null;
    this.#options.lifecycle.emit('reader:history-lost', { reason });
    this.#options.onHistoryLost();
  }

  /** Takes the present as the beginning: what was committed before is not news. */
  async #begin(session: ReadingSession): Promise<void> {
    const { overlapMs, lookBackMs } = this.#options;
    const { view } = session;
    const isExact = view.guarantee === 'exact';
    const bounds: FloorBounds = [isExact ? lookBackMs : null, view.isOwnDefinition ? null : overlapMs, null];
    const floor = await this.#observeFloor(session, bounds);
    const beginning = await session.findBeginning();
    const tracker = isExact
      ? new ExactTracker(beginning, floor, bounds)
      : new OverlapTracker(beginning, floor, { overlapMs, lookBackMs });
    // What is there already is not news either: it is only remembered.
    const beganAtMs = performance.now();
    const rows = await session.select(tracker.readBounds('poll'));
    this.#compareHistory(session.historyOf(rows[0]));
    const read = absorb(rows, session.view, tracker);
    this.#tracker = tracker;
    this.#historyId = historyId(this.#history, view);
    const snapshot = { xmin: read?.snapshot.xmin ?? 0n, xmax: read?.snapshot.xmax ?? 0n };
    this.#options.onBatch(this.#batch([], snapshot, tracker, beganAtMs));
    const { guarantee, reason, name } = view;
    this.#options.lifecycle.emit('reader:started', { guarantee, reason, view: name });
  }

  async #read(session: ReadingSession, tracker: Tracker, trigger: Trigger): Promise<void> {
    const startedAtMs = performance.now();
    const pauses = this.#pauses;
    // Both go out at once and run in this order. An observation may be older than the read, never
    // younger, and one a poll is enough.
    const observing = trigger === 'poll' ? this.#observeFloor(session, tracker.floorBounds()) : null;
    const selecting = session.select(tracker.readBounds(trigger));
    const [floor, rows] = await Promise.all([observing, selecting]);
    this.#compareHistory(session.historyOf(rows[0]));
    // What was read when it was paused is as if it had not been: others may have gone on from there.
    if (this.#pauses !== pauses) return;
    if (this.#tracker !== tracker) {
      this.#trigger = 'poll';
      return;
    }
    // From here to onBatch nothing waits and nothing can fail: what is marked as delivered is delivered.
    const read = absorb(rows, session.view, tracker);
    if (read === null) {
      this.#restart('the database is behind what was read from it before (restored from a backup?)');
      this.#trigger = 'poll';
      return;
    }
    if (floor !== null) tracker.observed(floor);
    const { fresh, late, eventRows, snapshot } = read;
    const readMs = performance.now() - startedAtMs;
    const batch = { ...this.#batch(fresh, snapshot, tracker, startedAtMs), readMs };
    this.#options.onBatch(batch);
    const { lifecycle } = this.#options;
    lifecycle.emit('reader:read', {
      trigger,
      rows: eventRows,
      fresh: fresh.length,
      durationMs: readMs,
      watermark: batch.position.watermark.toString(),
      snapshotXmax: snapshot.xmax.toString(),
      floor: batch.position.floor,
    });
    const [oldest] = late;
    if (oldest !== undefined) {
      const { overlapMs } = this.#options;
      lifecycle.emit('reader:late', { events: late.length, oldestCreatedAt: oldest.createdAt, overlapMs });
    }
  }

  async #observeFloor(session: ReadingSession, bounds: FloorBounds): Promise<string> {
    const { allowanceMs, lifecycle } = this.#options;
    const observed = await session.observeFloor(allowanceMs, bounds);
    lifecycle.emit('reader:observed', observed);
    return observed.floor;
  }

  #batch(
    events: readonly FlagEvent[],
    { xmin, xmax }: Pick<SnapshotPosition, 'xmin' | 'xmax'>,
    tracker: Tracker,
    beganAtMs: number,
  ): Batch {
    return {
      events,
      seenAtMs: Date.now(),
      beganAtMs,
      snapshotXmin: xmin,
      snapshotXmax: xmax,
      position: tracker.position(this.#historyId),
      connection: this.#connections,
    };
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #isStopped(): boolean {
    return this.#stopped;
  }
}

/** Null: the database went back. */
function absorb(rows: readonly (string | null)[][], view: EventView, tracker: Tracker): Read | null {
  const snapshot = toPosition(rows[0] ?? []);
  const events = rows.map((row) => toEvent(row, view)).filter((event) => event !== null);
  const absorbed = tracker.absorb({ position: snapshot, events });
  return absorbed && { ...absorbed, eventRows: events.length, snapshot };
}

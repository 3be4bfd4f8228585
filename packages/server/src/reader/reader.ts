import { errorCode } from '../database/error-code.js';
import { backoffMs } from '../database/session.js';
import type { Batch, ControlEntry, FlagEvent } from '../events/event.js';
import type { Coverage } from '../events/position.js';
import { type TriggerState, triggerProblem } from '../host/host-triggers.js';
import type { Lifecycle } from '../lifecycle.js';
import type { EventSource } from './event-source.js';
import { FollowUp } from './follow-up.js';
import { type FollowedRead, LogProgress } from './log-progress.js';
import { pageRows } from './log-statements.js';
import { OverlapProgress } from './overlap-progress.js';
import { type History, historyId, ReadingSession } from './reading-session.js';

export interface EventReaderOptions {
  /** `postgresql://...`; the reader keeps one connection of its own. */
  databaseUrl: string;
  /** The view to read, as it is written in SQL. Default null: the event log, or what there is in its place. */
  view?: string | null;
  /** How often to read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /** How long after its created_at an event may be committed where there is no event log, in milliseconds. Default 60,000. */
  overlapMs?: number;
  /** After this many milliseconds without an answer a read has failed. Default 30,000. */
  queryTimeoutMs?: number;
  lifecycle: Lifecycle;
  /** Gets every event once: one call a read, also when it brought nothing but a new position. */
  onBatch: (batch: Batch) => void;
  /** Positions from before mean nothing any more; the next batch begins anew. Default: nothing. */
  onHistoryLost?: () => void;
  /** Whether connections have room for the next page of a large transaction. Default: always. */
  hasRoom?: () => boolean;
}

/** How long a read that is under way when the reader is stopped may still take, in milliseconds. */
const stopTimeoutMs = 2_000;
/** How long a large transaction waits for connections to drain, in milliseconds, before it is looked at again. */
const roomPauseMs = 20;

/** `follow_up`: after a hint, or the next page. */
type Trigger = 'poll' | 'wake' | 'follow_up';

/** What another reader has read. */
export interface RelayedRead
  extends
    FollowedRead,
    Pick<Batch, 'seenAtMs' | 'beganAtMs' | 'snapshotXmax' | 'isComplete'>,
    Required<Pick<Batch, 'skipped'>> {}

/** What a read brought. */
interface ReadResult {
  readonly events: readonly FlagEvent[];
  readonly controls: readonly ControlEntry[];
  readonly rows: number;
  readonly snapshotXmax: bigint;
  readonly hasMore: boolean;
}

/**
 * Reads new events: once every poll interval, and whenever it is woken. A failed read is repeated with
 * exponential backoff, and continues from where it was.
 *
 * `LogProgress` knows what is new in the event log, `OverlapProgress` where there is none.
 */
export class EventReader {
  readonly #options: Required<EventReaderOptions>;
  #source: EventSource | null = null;
  /** Null before the first read. */
  #progress: LogProgress | OverlapProgress | null = null;
  #history: History | null = null;
  /** The history and what is read of it, as cursors name them. */
  #historyId = '';
  #triggers = '';
  #session: ReadingSession | null = null;
  #connections = 0;
  #trigger: Trigger | null = 'poll';
  readonly #followUp = new FollowUp();
  /** These three are on the clock of performance.now(). */
  #pollDueAtMs = 0;
  #readDueAtMs: number | null = null;
  #lastReadAtMs = 0;
  /** How many rows a read asks for. Fewer after a read that failed because of what the rows hold. */
  #limit = pageRows;
  #isSafe = false;
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
      hasRoom: () => true,
      pollIntervalMs: 1_000,
      overlapMs: 60_000,
      queryTimeoutMs: 30_000,
      ...options,
    };
  }

  /** How many delivered events are remembered because a read may bring them again. */
  get rememberedEvents(): number {
    return this.#progress?.remembered ?? 0;
  }

  /** Whether the database is a replica. */
  get readsReplica(): boolean {
    return this.#history !== null && this.#history.timeline === null;
  }

  /** What is read; null before the first connection. */
  get source(): EventSource | null {
    return this.#source;
  }

  /** Whether this event, found in the log by another query, is one that a later read will bring. */
  willBeRead(event: FlagEvent): boolean {
    return this.#progress instanceof LogProgress && this.#progress.willBeRead(event);
  }

  /** Begins reading; `reader:started` is emitted when events flow. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** A hint that there may be something new. Cheap: hints during a read become one more read. */
  wake(): void {
    this.#followUp.hint();
    this.#trigger ??= 'wake';
    this.#nudge?.();
  }

  /** Reads no more until `resume`; discards what is being read now. Keeps its connection. */
  pause(): void {
    this.#pauses += 1;
    this.#isPaused = true;
  }

  /** Continues where the reader stands, with a read now. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#pollDueAtMs = 0;
    this.wake();
  }

  /** Whether it can continue from what another reader of this history has read. */
  get canFollow(): boolean {
    return this.#progress instanceof LogProgress;
  }

  /**
   * Hands on what another reader of this history has read after what was handed on here, as if it had been read
   * here; only while paused. Its events may be those of some channels only. Drops those that were handed on before.
   */
  follow(step: RelayedRead): void {
    const progress = this.#progress;
    if (!(progress instanceof LogProgress)) throw new Error('there is nothing to continue from');
    const { controls, snapshotXmax, isComplete, seenAtMs, beganAtMs, skipped } = step;
    const events = progress.follow(step);
    const result = { events, controls, rows: events.length, snapshotXmax, hasMore: !isComplete };
    this.#options.onBatch({ ...this.#batch(result, progress, beganAtMs), seenAtMs, skipped });
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
        const trigger = performance.now() >= this.#pollDueAtMs ? 'poll' : (this.#trigger ?? 'follow_up');
        this.#trigger = null;
        this.#readDueAtMs = null;
        if (trigger === 'poll') this.#pollDueAtMs = performance.now() + this.#options.pollIntervalMs;
        if (this.#progress === null) await this.#begin(session);
        else await this.#read(session, this.#progress, trigger);
        if (attempts > 0) {
          this.#options.lifecycle.emit('reader:recovered', { attempts, downMs: Date.now() - failedAtMs });
          attempts = 0;
        }
      } catch (error) {
        if (this.#isStopped()) break;
        if (this.#session !== null && this.#readsLessAfter(error)) continue;
        this.#session?.discard();
        this.#session = null;
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

  /**
   * After an error that a row can cause, or that a smaller page avoids, the next read asks for fewer rows: finally for
   * one, and then for that one without its state. So a row that cannot be read costs its event the state, and
   * delays nothing else for long.
   */
  #readsLessAfter(error: unknown): boolean {
    const code = errorCode(error) ?? '';
    const isOfData = code.startsWith('22') || code.startsWith('54') || code === '57014';
    if (!isOfData || !(this.#progress instanceof LogProgress) || this.#isSafe) return false;
    if (this.#limit > 1) this.#limit = Math.max(1, Math.floor(this.#limit / 8));
    else this.#isSafe = true;
    this.#options.lifecycle.emit('reader:page-failed', {
      error: error as Error,
      rows: this.#limit,
      readsState: !this.#isSafe,
    });
    return true;
  }

  /** Until the next read is due; while paused, until it is woken; after a failure for the whole backoff, which hints do not shorten. */
  async #wait(backoff: number | null): Promise<void> {
    const dueAtMs = this.#dueAtMs();
    if (this.#stopped || (backoff === null && dueAtMs <= performance.now())) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      const arm = (untilMs: number): void => {
        clearTimeout(timer);
        timer = Number.isFinite(untilMs)
          ? setTimeout(resolve, Math.max(untilMs - performance.now(), 0))
          : undefined;
      };
      arm(backoff === null ? dueAtMs : performance.now() + backoff);
      this.#nudge = () => {
        if (this.#stopped) resolve();
        else if (backoff === null) arm(this.#dueAtMs());
      };
    });
    // A timer that is left would keep the process alive for a poll interval.
    clearTimeout(timer);
    this.#nudge = null;
  }

  /** When the next read is due, on the clock of performance.now(). */
  #dueAtMs(): number {
    if (this.#isPaused) return Infinity;
    const hinted = this.#trigger === null ? Infinity : this.#lastReadAtMs + this.#followUp.leastDistanceMs;
    return Math.min(this.#pollDueAtMs, hinted, this.#readDueAtMs ?? Infinity);
  }

  async #connect(): Promise<ReadingSession> {
    const session = await ReadingSession.open({ ...this.#options, before: this.#source });
    this.#connections += 1;
    this.#compareHistory(session.history);
    this.#compareSource(session.source);
    if (session.source.hasHostTriggers) this.#compareTriggers(await session.readTriggers());
    else this.#triggers = '';
    if (this.#progress instanceof LogProgress) this.#progress.reconnected();
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
    if (before === null || this.#progress === null) return;
    if (before.database !== history.database) {
      this.#restart(`another database answers: ${history.database} in place of ${before.database}`);
    } else {
      // A standby took over. Transactions that it had not received are gone, and their ids are handed out again.
      this.#restart(
        `the database went from timeline ${before.timeline ?? 'unknown'} to ${history.timeline ?? 'unknown'}: a standby took over`,
      );
    }
  }

  /** Flagcast was installed or uninstalled meanwhile: events are read from another place. */
  #compareSource(source: EventSource): void {
    const before = this.#source;
    this.#source = source;
    if (before === null || this.#progress === null) return;
    if (before.reason !== source.reason || before.name !== source.name) {
      this.#restart(`events come from ${source.name} now, not from ${before.name}`);
    } else if (before.hasState !== source.hasState || before.hasEnvironments !== source.hasEnvironments) {
      this.#restart(
        "the rights on the host's tables were changed, so the state of features is read differently",
      );
    }
  }

  /** While a trigger was gone or switched off, events were not logged. */
  #compareTriggers(triggers: readonly TriggerState[]): void {
    const before = this.#triggers;
    this.#triggers = triggers.map(({ version }) => version).join();
    this.#options.lifecycle.emit('reader:triggers', { problem: triggerProblem(triggers) });
    if (before === '' || this.#progress === null || before === this.#triggers) return;
    this.#restart('the triggers that write the event log were changed, so events may not have been logged');
  }

  /** Finds out anew, on another connection, what can be read. */
  #reconnect(session: ReadingSession): void {
    this.#session = null;
    session.discard();
    this.wake();
  }

  #restart(reason: string): void {
    this.#progress = null;
    this.#trigger = 'poll';
    this.#pollDueAtMs = 0;
    this.#options.lifecycle.emit('reader:history-lost', { reason });
    this.#options.onHistoryLost();
  }

  /** Takes the present as the beginning: what was committed before is not new. */
  async #begin(session: ReadingSession): Promise<void> {
    const { source } = session;
    const { overlapMs, lifecycle } = this.#options;
    const beganAtMs = performance.now();
    const startedAtMs = Date.now();
    let progress: LogProgress | OverlapProgress;
    let snapshotXmax: bigint;
    if (source.guarantee === 'exact') {
      const { coverage, durable } = await session.begin();
      snapshotXmax = coverage.xmax;
      progress = new LogProgress(coverage, durable);
      this.#historyId = historyId(this.#history ?? session.history, source, this.#triggers);
    } else {
      progress = new OverlapProgress();
      const { rows, since } = await session.readOverlap(overlapMs, progress);
      progress.absorb(rows, since, source.hasState);
      ({ snapshotXmax } = progress);
      this.#historyId = progress.history;
    }
    this.#progress = progress;
    const nothing = { events: [], controls: [], rows: 0, snapshotXmax, hasMore: false };
    this.#options.onBatch(this.#batch(nothing, progress, beganAtMs));
    const { guarantee, reason, name } = source;
    lifecycle.emit('reader:started', { guarantee, reason, source: name, startedAtMs });
  }

  async #read(
    session: ReadingSession,
    progress: LogProgress | OverlapProgress,
    trigger: Trigger,
  ): Promise<void> {
    const beganAtMs = performance.now();
    const startedAtMs = Date.now();
    const pauses = this.#pauses;
    const result =
      progress instanceof LogProgress
        ? await this.#readLog(session, progress, () => this.#pauses === pauses)
        : await this.#readOverlap(session, progress);
    // Discard the result if the reader was paused meanwhile: the relay leader may already have published past it.
    if (result === null || this.#pauses !== pauses) return;
    this.#lastReadAtMs = performance.now();
    const readMs = this.#lastReadAtMs - beganAtMs;
    this.#options.onBatch({ ...this.#batch(result, progress, beganAtMs), readMs });
    const { rows, events, snapshotXmax, hasMore } = result;
    this.#options.lifecycle.emit('reader:read', {
      trigger,
      rows,
      fresh: events.length,
      durationMs: readMs,
      startedAtMs,
      xmin: this.#batchCoverage(progress).xmin.toString(),
      snapshotXmax: snapshotXmax.toString(),
      isComplete: !hasMore,
    });
    if (trigger === 'poll' && session.source.hasHostTriggers) {
      this.#compareTriggers(await session.readTriggers());
      const isIncomplete = !session.source.hasState || !session.source.hasEnvironments;
      if (isIncomplete && (await session.rightsChanged())) this.#reconnect(session);
    }
    this.#scheduleNext(progress, result);
  }

  /** Null: the history has ended. What is marked as delivered is handed on without waiting in between. */
  async #readLog(
    session: ReadingSession,
    progress: LogProgress,
    isWanted: () => boolean,
  ): Promise<ReadResult | null> {
    const limit = this.#limit;
    const bounds = progress.bounds(progress.hasPartial && this.#options.hasRoom());
    const { position, rows, history } = await session.readLog(bounds, limit, this.#isSafe ? 'safe' : 'full');
    this.#compareHistory(history);
    if (this.#progress !== progress || !isWanted()) return null;
    const found = progress.absorb(position, rows, bounds, limit);
    if (typeof found === 'string') {
      this.#restart(
        found === 'behind'
          ? 'the database is behind what was read from it before (restored from a backup?)'
          : 'a crash of the database took back commits that had been delivered',
      );
      return null;
    }
    this.#isSafe = false;
    this.#limit = Math.min(pageRows, limit * 2);
    const snapshotXmax = position.coverage.xmax;
    return { ...found, rows: rows.length, snapshotXmax };
  }

  async #readOverlap(session: ReadingSession, progress: OverlapProgress): Promise<ReadResult> {
    const { rows, since } = await session.readOverlap(this.#options.overlapMs, progress);
    const events = progress.absorb(rows, since, session.source.hasState);
    const { snapshotXmax } = progress;
    return { events, controls: [], rows: rows.length, snapshotXmax, hasMore: false };
  }

  #scheduleNext(progress: LogProgress | OverlapProgress, { rows, hasMore }: ReadResult): void {
    const nowMs = performance.now();
    if (!(progress instanceof LogProgress)) return;
    if (hasMore) {
      const isWaiting = progress.hasPartial && !this.#options.hasRoom();
      this.#readDueAtMs = isWaiting ? nowMs + roomPauseMs : nowMs;
      return;
    }
    const pauseMs = this.#followUp.after({ rows, isReplica: this.readsReplica });
    this.#readDueAtMs = pauseMs === null ? null : nowMs + pauseMs;
  }

  #batch(
    { events, controls, snapshotXmax, hasMore }: Omit<ReadResult, 'rows'>,
    progress: LogProgress | OverlapProgress,
    beganAtMs: number,
  ): Batch {
    const coverage = this.#batchCoverage(progress);
    const position = progress instanceof LogProgress ? progress.position : coverage;
    return {
      events,
      controls,
      seenAtMs: Date.now(),
      beganAtMs,
      read:
        progress instanceof LogProgress
          ? progress.state
          : { coverage, durable: coverage, partial: [], durablePartial: [] },
      snapshotXmax,
      isComplete: !hasMore,
      position: { ...position, history: this.#historyId },
      connection: this.#connections,
    };
  }

  #batchCoverage(progress: LogProgress | OverlapProgress): Coverage {
    return progress instanceof LogProgress ? progress.state.coverage : progress.coverage;
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #isStopped(): boolean {
    return this.#stopped;
  }
}

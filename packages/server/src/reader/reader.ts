import { errorCode } from '../postgres/errors.js';
import type { Batch, FlagEvent, RelayedRead } from '../events/event.js';
import { type TriggerState, triggerProblem } from '../host/host-triggers.js';
import { type Attempts, retry } from '../retry.js';
import { type EventSource, guaranteeOf, sourceChange } from './event-source.js';
import { LogProgress, type NewRows } from './log-progress.js';
import { pageRows } from './log-statements.js';
import { OverlapProgress } from './overlap-progress.js';
import type { EventReaderOptions } from './reader-options.js';
import { ReadSchedule, type Trigger } from './read-schedule.js';
import { type History, historyId, ReadingSession } from './reading-session.js';

/** How long a read that is under way when the reader is stopped may still take, in milliseconds. */
const stopTimeoutMs = 2_000;
/** How long a large transaction waits for connections to drain, in milliseconds, before it is looked at again. */
const roomPauseMs = 20;

/** What a read brought. */
interface ReadResult extends NewRows {
  readonly rows: number;
  readonly snapshotXmax: bigint;
}

/**
 * Reads new events: once every poll interval, and whenever it is woken. A failed read is repeated with
 * exponential backoff, and continues from where it was.
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
  readonly #stopping = new AbortController();
  readonly #schedule: ReadSchedule;
  /** How many rows a read asks for. Fewer after a read that failed because of what the rows hold. */
  #limit = pageRows;
  #isSafe = false;
  /** How often it was paused. */
  #pauses = 0;
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
    this.#schedule = new ReadSchedule(this.#options.pollIntervalMs, this.#stopping.signal);
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
    this.#schedule.hint();
  }

  /** Reads no more until `resume`; discards what is being read now. Keeps its connection. */
  pause(): void {
    this.#pauses += 1;
    this.#schedule.pause();
  }

  /** Continues where the reader stands, with a read now. */
  resume(): void {
    if (this.#schedule.isPaused) this.#schedule.resume();
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
    this.#stopping.abort();
    // A database that does not answer must not hold up the shutdown.
    const timer = setTimeout(() => this.#session?.discard(), stopTimeoutMs);
    await this.#running;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const { lifecycle } = this.#options;
    let failedAtMs = 0;
    await retry(async (attempts) => await this.#readUntilStopped(attempts, () => failedAtMs), {
      signal: this.#stopping.signal,
      onRetry: (failure) => {
        this.#session?.discard();
        this.#session = null;
        if (failure.attempt === 1) failedAtMs = Date.now();
        lifecycle.emit('reader:failed', failure);
      },
    });
    await this.#session?.end();
    this.#session = null;
  }

  async #readUntilStopped(attempts: Attempts, failedAtMs: () => number): Promise<void> {
    while (!this.#isStopped()) {
      if (!this.#schedule.isPaused) {
        try {
          await this.#readNext();
        } catch (error) {
          if (this.#session === null || !this.#readsLessAfter(error)) throw error;
          continue;
        }
        if (attempts.failed > 0) {
          const downMs = Date.now() - failedAtMs();
          this.#options.lifecycle.emit('reader:recovered', { attempts: attempts.failed, downMs });
          attempts.reset();
        }
      }
      await this.#schedule.wait();
    }
  }

  async #readNext(): Promise<void> {
    const session = (this.#session ??= await this.#connect());
    if (this.#isStopped()) return;
    const trigger = this.#schedule.take();
    if (this.#progress === null) await this.#begin(session);
    else await this.#read(session, this.#progress, trigger);
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

  async #connect(): Promise<ReadingSession> {
    const session = await ReadingSession.open({ ...this.#options, before: this.#source });
    this.#connections += 1;
    this.#compareHistory(session.history);
    this.#compareSource(session.source);
    if (session.source.hasHostTriggers) this.#compareTriggers((await session.check()).triggers);
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
    // After a failover transactions that the standby had not received are gone, and their ids are handed out again.
    this.#restart(
      before.database === history.database
        ? `the database went from timeline ${before.timeline ?? 'unknown'} to ${history.timeline ?? 'unknown'}: a standby took over`
        : `another database answers: ${history.database} in place of ${before.database}`,
    );
  }

  /** Flagcast was installed or uninstalled meanwhile: events are read from another place. */
  #compareSource(source: EventSource): void {
    const before = this.#source;
    this.#source = source;
    const change = before === null || this.#progress === null ? null : sourceChange(before, source);
    if (change !== null) this.#restart(change);
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
    this.#schedule.pollNow();
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
    const { reason, name } = source;
    const { guarantee } = guaranteeOf(source, overlapMs);
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
    this.#schedule.done();
    const readMs = performance.now() - beganAtMs;
    this.#options.onBatch({ ...this.#batch(result, progress, beganAtMs), readMs });
    const { rows, events, snapshotXmax, hasMore } = result;
    this.#options.lifecycle.emit('reader:read', {
      trigger,
      rows,
      fresh: events.length,
      durationMs: readMs,
      startedAtMs,
      xmin: progress.state.coverage.xmin.toString(),
      snapshotXmax: snapshotXmax.toString(),
      isComplete: !hasMore,
    });
    if (trigger === 'poll') await this.#checkSource(session);
    this.#scheduleNext(progress, result);
  }

  /** Nothing announces a change of triggers, rights or policies. */
  async #checkSource(session: ReadingSession): Promise<void> {
    const { triggers, isOutdated } = await session.check();
    if (session.source.hasHostTriggers) this.#compareTriggers(triggers);
    if (isOutdated) this.#reconnect(session);
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
    return { ...found, rows: rows.length, snapshotXmax: position.coverage.xmax };
  }

  async #readOverlap(session: ReadingSession, progress: OverlapProgress): Promise<ReadResult> {
    const { rows, since } = await session.readOverlap(this.#options.overlapMs, progress);
    const events = progress.absorb(rows, since, session.source.hasState);
    return { events, controls: [], rows: rows.length, snapshotXmax: progress.snapshotXmax, hasMore: false };
  }

  #scheduleNext(progress: LogProgress | OverlapProgress, { rows, hasMore }: ReadResult): void {
    if (!(progress instanceof LogProgress)) return;
    if (!hasMore) this.#schedule.followUp({ rows, isReplica: this.readsReplica });
    else this.#schedule.continueAfter(progress.hasPartial && !this.#options.hasRoom() ? roomPauseMs : 0);
  }

  #batch(
    { events, controls, snapshotXmax, hasMore }: Omit<ReadResult, 'rows'>,
    progress: LogProgress | OverlapProgress,
    beganAtMs: number,
  ): Batch {
    return {
      events,
      controls,
      seenAtMs: Date.now(),
      beganAtMs,
      read: progress.state,
      snapshotXmax,
      isComplete: !hasMore,
      position: { ...progress.position, history: this.#historyId },
      connection: this.#connections,
    };
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }
}

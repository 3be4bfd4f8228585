import type { Batch, FlagEvent, RelayedRead } from '../events/event.js';
import { toError } from '../describe.js';
import { triggerProblem, type TriggerState } from '../host/host-triggers.js';
import type { Lifecycle } from '../lifecycle.js';
import { SessionLostError } from '../postgres/errors.js';
import type { OpenSession } from '../postgres/session.js';
import { type Attempts, retry } from '../retry.js';
import { type EventSource, guaranteeOf } from './event-source.js';
import { notifyChannel, WakeListener } from './listener.js';
import { LogProgress, type NewRows } from './log-progress.js';
import { OverlapProgress } from './overlap.js';
import { historyLosses, ReadHistory } from './read-history.js';
import { ReadSchedule, type Trigger } from './read-schedule.js';
import { PageSize, ReadingSession } from './reading-session.js';

export interface EventReaderOptions {
  /** Opens the session that reads. */
  readonly openSession: OpenSession;
  /**
   * Opens a session at the primary that listens for notifications where the session that reads cannot; null: only polls and
   * `requestBatch` read.
   */
  readonly openListenSession: OpenSession | null;
  /** The view to read, as written in SQL; null: the event log, or without one the host's tables or its view. */
  readonly view: string | null;
  /** How often to read without notifications, in milliseconds. */
  readonly pollIntervalMs: number;
  /** Without an event log: how long after its created_at an event can be committed, in milliseconds. */
  readonly overlapMs: number;
  /** How long a read may take, in milliseconds. */
  readonly queryTimeoutMs: number;
  readonly lifecycle: Lifecycle;
  /** Receives every event once. Called once for each read, also if that found nothing but a new position. */
  readonly onBatch: (batch: Batch) => void;
  /** Earlier positions are invalid; the next batch starts a new history. */
  readonly onHistoryLost: () => void;
  /** Whether connections have room for the next page of a large transaction. */
  readonly hasRoom: () => boolean;
}

/** How long a read that is under way when the reader is stopped may still take, in milliseconds. */
const stopTimeoutMs = 2_000;
/** The pause before a large transaction is looked at again while connections have no room for it, in milliseconds. */
const roomPauseMs = 20;

interface ReadResult extends NewRows {
  readonly rows: number;
  /** No transaction that has written is in flight. */
  readonly isQuiet: boolean;
  readonly snapshotXmax: bigint;
}

/** `LogProgress` reads the event log, `OverlapProgress` the tables or a view. */
type Progress = LogProgress | OverlapProgress;

/**
 * Reads new events: once every poll interval, and after each notification. Retries a failed read with exponential backoff, and
 * continues from where it was.
 */
export class EventReader {
  readonly #options: EventReaderOptions;
  readonly #history = new ReadHistory();
  readonly #pageSize = new PageSize();
  readonly #stopping = new AbortController();
  readonly #schedule: ReadSchedule;
  readonly #listener: WakeListener | null;
  /** Null before the first read, and after the history was lost. */
  #progress: Progress | null = null;
  #session: ReadingSession | null = null;
  #connections = 0;
  #running: Promise<void> | null = null;

  constructor(options: EventReaderOptions) {
    this.#options = options;
    const { pollIntervalMs, openListenSession, lifecycle } = options;
    const probeIntervalMs = openListenSession === null ? Infinity : undefined;
    this.#schedule = new ReadSchedule(pollIntervalMs, this.#stopping.signal, probeIntervalMs);
    const onWake = (): void => this.requestBatch();
    this.#listener =
      openListenSession === null
        ? null
        : new WakeListener({ openSession: openListenSession, lifecycle, onWake });
  }

  /** How many delivered events are remembered because a read may return them again. */
  get rememberedEvents(): number {
    return this.#progress?.remembered ?? 0;
  }

  get readsReplica(): boolean {
    return this.#history.isReplica;
  }

  get database(): string | null {
    return this.#history.database;
  }

  /** What is read; null before the first connection. */
  get source(): EventSource | null {
    return this.#history.source;
  }

  /** Whether a later read will deliver this event, which another query found in the log; null until more was read. */
  willBeRead(event: FlagEvent): boolean | null {
    return this.#progress instanceof LogProgress && this.#progress.willBeRead(event);
  }

  /** Begins reading; `reader:started` is emitted when events flow. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Requests a read as soon as possible. Requests during a read become one more read. */
  requestBatch(): void {
    this.#schedule.requestRead();
  }

  /** Requests a read now that also checks what can be read. */
  requestPoll(): void {
    this.#schedule.pollNow();
  }

  /** Sends no queries until `resume`, and discards the result of the read that is under way. Keeps its session. */
  pause(): void {
    this.#schedule.pause();
    void this.#listener?.stop();
  }

  /** Continues from where it was, with a read now. */
  resume(): void {
    if (this.#schedule.isPaused) this.#schedule.resume();
  }

  /** Whether it can continue from what another reader of this history has read. */
  get canFollow(): boolean {
    return this.#progress instanceof LogProgress;
  }

  /**
   * Delivers what another reader of this history has read, as if it had been read here; only while paused. Drops events
   * that were delivered before. The events may be those of some channels only.
   */
  follow(step: RelayedRead): void {
    const progress = this.#progress;
    if (!(progress instanceof LogProgress)) throw new Error('there is nothing to continue from');
    const { controls, isComplete, seenAtMs, beganAtMs, skipped } = step;
    const events = progress.follow(step);
    const { shownXmax: snapshotXmax } = progress;
    const result = { events, controls, rows: events.length, snapshotXmax, hasMore: !isComplete };
    this.#options.onBatch({ ...this.#batch(result, progress, beganAtMs), seenAtMs, skipped });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    // A database that does not answer must not delay the shutdown.
    const timer = setTimeout(() => this.#session?.discard(), stopTimeoutMs);
    await Promise.all([this.#running, this.#listener?.stop()]);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    let failedAtMs = 0;
    await retry(async (attempts) => await this.#readUntilStopped(attempts, () => failedAtMs), {
      signal: this.#stopping.signal,
      onRetry: (failure) => {
        this.#session?.discard();
        this.#forgetSession();
        if (failure.attempt === 1) failedAtMs = Date.now();
        this.#options.lifecycle.emit('reader:failed', failure);
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
          if (!this.#readsLessAfter(error)) throw error;
          continue;
        }
        if (attempts.failed > 0) {
          const downMs = Date.now() - failedAtMs();
          this.#options.lifecycle.emit('reader:recovered', { attempts: attempts.failed, downMs });
          attempts.reset();
        }
      }
      if (this.#schedule.isPaused) await this.#listen(false);
      await this.#schedule.wait();
    }
  }

  async #readNext(): Promise<void> {
    const session = (this.#session ??= await this.#connect());
    await this.#listen(true);
    if (this.#isStopped() || this.#schedule.isPaused) return;
    const trigger = this.#schedule.take();
    if (this.#progress === null) await this.#begin(session);
    else await this.#read(session, this.#progress, trigger);
  }

  /** In the session that reads, if that is possible: then a notification does not wake another session first. */
  async #listen(isWanted: boolean): Promise<void> {
    const [session, listener] = [this.#session, this.#listener];
    if (session === null || listener === null || session.isListening === isWanted) return;
    if (!session.canListen) {
      if (isWanted) listener.start();
      return;
    }
    void listener.stop();
    const { lifecycle } = this.#options;
    try {
      await session.listen(isWanted);
      if (isWanted) lifecycle.emit('listener:listening', { channel: notifyChannel });
    } catch (error) {
      lifecycle.emit('listener:failed', { error: toError(error), attempt: 1, retryInMs: 0 });
    }
  }

  #readsLessAfter(error: unknown): boolean {
    if (this.#session === null || !(this.#progress instanceof LogProgress)) return false;
    if (!this.#pageSize.reduce(error)) return false;
    const { limit: rows, mode } = this.#pageSize;
    const readsState = mode === 'full';
    this.#options.lifecycle.emit('reader:page-failed', { error: error as Error, rows, readsState });
    return true;
  }

  async #connect(): Promise<ReadingSession> {
    const session = await ReadingSession.open({ ...this.#options, before: this.#history.source });
    this.#connections += 1;
    this.#restartIf(this.#history.compareHistory(session.history));
    this.#restartIf(this.#history.compareSource(session.source));
    this.#compareTriggers(session, session.triggers);
    if (this.#progress instanceof LogProgress) this.#progress.reconnected();
    session.onNotification(() => this.requestBatch());
    // Reconnect at once, not at the next poll.
    session.onceLost(() => {
      if (this.#session === session) {
        this.#forgetSession();
        this.requestBatch();
      }
    });
    return session;
  }

  /** It is lost, and its notifications with it. PostgreSQL may end it later, when another one listens. */
  #forgetSession(): void {
    const session = this.#session;
    this.#session = null;
    if (session?.isListening !== true) return;
    const error = new SessionLostError('the session that reads and listens is lost');
    this.#options.lifecycle.emit('listener:failed', { error, attempt: 1, retryInMs: 0 });
  }

  #compareTriggers({ source }: ReadingSession, triggers: readonly TriggerState[]): void {
    if (!source.hasHostTriggers) return;
    const change = this.#history.compareTriggers(triggers);
    this.#options.lifecycle.emit('reader:triggers', { problem: triggerProblem(triggers) });
    this.#restartIf(change);
  }

  #restartIf(reason: string | null): void {
    if (reason === null || this.#progress === null) return;
    this.#progress = null;
    this.#schedule.pollNow();
    this.#options.lifecycle.emit('reader:history-lost', { reason });
    this.#options.onHistoryLost();
  }

  /** Starts at the present: what was committed before is not delivered. */
  async #begin(session: ReadingSession): Promise<void> {
    const { source } = session;
    const { overlapMs, lifecycle } = this.#options;
    const beganAtMs = performance.now();
    const startedAtMs = Date.now();
    let progress: Progress;
    let snapshotXmax: bigint;
    if (source.guarantee === 'exact') {
      const { coverage, durable } = await session.begin();
      snapshotXmax = coverage.xmax;
      progress = new LogProgress(coverage, durable);
      this.#history.begin();
    } else {
      progress = new OverlapProgress();
      const { rows, since } = await session.readOverlap(overlapMs, progress);
      progress.absorb(rows, since, source.hasState);
      ({ snapshotXmax } = progress);
      this.#history.begin(progress.history);
    }
    this.#progress = progress;
    const nothing = { events: [], controls: [], rows: 0, snapshotXmax, hasMore: false };
    this.#options.onBatch(this.#batch(nothing, progress, beganAtMs));
    const { reason, name } = source;
    const { guarantee } = guaranteeOf(source, overlapMs);
    lifecycle.emit('reader:started', { guarantee, reason, source: name, startedAtMs });
  }

  async #read(session: ReadingSession, progress: Progress, trigger: Trigger): Promise<void> {
    const [beganAtMs, startedAtMs] = [performance.now(), Date.now()];
    const { pauses } = this.#schedule;
    const isCurrent = (): boolean => this.#progress === progress && this.#schedule.pauses === pauses;
    const result =
      progress instanceof LogProgress
        ? await this.#readLog(session, progress, trigger, isCurrent)
        : await this.#readOverlap(session, progress);
    // Discard the result if the reader was paused meanwhile: the relay leader may already have published past it.
    if (result === null || !isCurrent()) return;
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
    if (trigger === 'poll') {
      const { triggers, isOutdated } = await session.check();
      this.#compareTriggers(session, triggers);
      if (isOutdated) this.#reconnect(session);
    }
    this.#scheduleNext(progress, result);
  }

  /** On a new connection, finds out again what can be read. */
  #reconnect(session: ReadingSession): void {
    this.#session = null;
    void session.end();
    this.requestBatch();
  }

  /** Null: the history was lost, or the result is not wanted. Does not wait between marking and delivering. */
  async #readLog(
    session: ReadingSession,
    progress: LogProgress,
    trigger: Trigger,
    isCurrent: () => boolean,
  ): Promise<ReadResult | null> {
    const { limit, mode } = this.#pageSize;
    const bounds = progress.bounds(progress.hasPartial && this.#options.hasRoom());
    const searchesFirst = trigger === 'follow_up' && !this.#schedule.isBusy;
    const read = await session.readLog(bounds, limit, mode, searchesFirst);
    const { position, rows, isQuiet, deletedXid, history } = read;
    if (history !== null) this.#restartIf(this.#history.compareHistory(history));
    if (!isCurrent()) return null;
    const found = progress.hasMissed(deletedXid) ? 'deleted' : progress.absorb(position, rows, bounds, limit);
    if (typeof found === 'string') {
      this.#restartIf(historyLosses[found]);
      return null;
    }
    this.#pageSize.grow();
    return { ...found, rows: rows.length, isQuiet, snapshotXmax: position.coverage.xmax };
  }

  async #readOverlap(session: ReadingSession, progress: OverlapProgress): Promise<ReadResult | null> {
    const { rows, since } = await session.readOverlap(this.#options.overlapMs, progress);
    if (progress.isSetBack(since)) {
      this.#restartIf(historyLosses['set-back']);
      return null;
    }
    const events = progress.absorb(rows, since, session.source.hasState);
    const { snapshotXmax } = progress;
    return { events, controls: [], rows: rows.length, isQuiet: false, snapshotXmax, hasMore: false };
  }

  #scheduleNext(progress: Progress, { rows, isQuiet, hasMore }: ReadResult): void {
    if (!(progress instanceof LogProgress)) return;
    if (!hasMore) this.#schedule.followUp({ rows, isQuiet, isReplica: this.readsReplica });
    else this.#schedule.continueAfter(progress.hasPartial && !this.#options.hasRoom() ? roomPauseMs : 0);
  }

  #batch(
    { events, controls, snapshotXmax, hasMore }: Omit<ReadResult, 'rows' | 'isQuiet'>,
    progress: Progress,
    beganAtMs: number,
  ): Batch {
    return {
      ...{ events, controls, beganAtMs, snapshotXmax },
      seenAtMs: Date.now(),
      read: progress.state,
      isComplete: !hasMore,
      position: { ...progress.position, history: this.#history.id },
      connection: this.#connections,
    };
  }

  // A method, so that the compiler does not assume that the flag keeps its value across an await.
  #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }
}

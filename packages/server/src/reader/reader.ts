import { createHash } from 'node:crypto';
import type pg from 'pg';
import { isPooled } from '../database/pooler.js';
import { backoffMs, discardSession, openSession } from '../database/session.js';
import type { Batch, FlagEvent } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';
import { findBeginning } from './beginning.js';
import { type EventView, findEventView } from './event-view.js';
import { ExactTracker } from './exact-tracker.js';
import { OverlapTracker } from './overlap-tracker.js';
import {
  floorStatement,
  historyStatement,
  readStatement,
  sessionSettings,
  toEvent,
  toPosition,
} from './statements.js';
import type { Absorbed, FloorBounds, Tracker } from './tracker.js';

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

interface History {
  readonly database: string;
  /** Null on a replica, which does not tell. */
  readonly timeline: string | null;
}

interface Read extends Absorbed {
  /** How many rows the database sent. */
  readonly eventRows: number;
  readonly snapshotXmax: bigint;
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
  #client: pg.Client | null = null;
  /** Whether statements are prepared once in a session. Behind a pooler the next one finds another session. */
  #keepsStatements = true;
  /** Whether each read tells the history it belongs to, because it may change while the connection lasts. */
  #tellsHistory = false;
  #trigger: Trigger | null = 'poll';
  /** On the clock of performance.now(): hints must not put the poll off, which also observes the floor. */
  #pollDueAtMs = 0;
  #nudge: (() => void) | null = null;
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

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#nudge?.();
    // A database that does not answer must not hold up the shutdown.
    const giveUp = setTimeout(() => {
      if (this.#client !== null) discardSession(this.#client);
    }, stopTimeoutMs);
    await this.#running;
    clearTimeout(giveUp);
  }

  async #run(): Promise<void> {
    let attempts = 0;
    let failedAtMs = 0;
    for (;;) {
      let backoff: number | null = null;
      try {
        const client = (this.#client ??= await this.#connect());
        if (this.#isStopped()) break;
        const trigger = performance.now() >= this.#pollDueAtMs ? 'poll' : (this.#trigger ?? 'poll');
        this.#trigger = null;
        if (trigger === 'poll') this.#pollDueAtMs = performance.now() + this.#options.pollIntervalMs;
        const { view } = this;
        if (view === null) throw new Error('connected, but without a view');
        if (this.#tracker === null) await this.#begin(client, view);
        else await this.#read(client, view, this.#tracker, trigger);
        if (attempts > 0) {
          this.#options.lifecycle.emit('reader:recovered', { attempts, downMs: Date.now() - failedAtMs });
          attempts = 0;
        }
      } catch (error) {
        if (this.#client !== null) discardSession(this.#client);
        this.#client = null;
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
    if (this.#client !== null) await this.#client.end().catch(() => undefined);
    this.#client = null;
  }

  /** Until the poll is due or somebody wakes the reader, or for the whole backoff, which hints do not shorten. */
  async #wait(backoff: number | null): Promise<void> {
    if (this.#stopped || (this.#trigger !== null && backoff === null)) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, backoff ?? this.#pollDueAtMs - performance.now());
      this.#nudge = () => {
        if (backoff !== null && !this.#stopped) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#nudge = null;
  }

  async #connect(): Promise<pg.Client> {
    const client = await openSession({
      databaseUrl: this.#options.databaseUrl,
      applicationName: 'flagcast reader',
      queryTimeoutMs: this.#options.queryTimeoutMs,
    });
    try {
      const pooled = await isPooled(client);
      if (!pooled) await client.query(sessionSettings);
      const answer = await client.query<[string, string | null]>({
        text: historyStatement,
        rowMode: 'array',
      });
      const [database = '', timeline = null] = answer.rows[0] ?? [];
      const view = await findEventView(client, this.#options.view);
      this.#compareHistory(database, timeline);
      this.#compareView(view);
      this.#keepsStatements = !pooled;
      // A pooler may lead to another server, and a replica be promoted, without a word.
      this.#tellsHistory = pooled || timeline === null;
    } catch (error) {
      discardSession(client);
      throw error;
    }
    // A lost connection is noticed now, not at the next poll: reconnecting takes a while.
    client.once('end', () => {
      if (this.#client === client) {
        this.#client = null;
        this.wake();
      }
    });
    return client;
  }

  /** Transaction ids only mean something within one history; see what became of ours. */
  #compareHistory(database: string, timeline: string | null): void {
    const before = this.#history;
    if (before?.database === database && before.timeline === timeline) return;
    const history = { database, timeline };
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

  #noteHistory(row: readonly (string | null)[] = []): void {
    if (!this.#tellsHistory) return;
    const [database, timeline = null] = row.slice(-2);
    if (typeof database === 'string') this.#compareHistory(database, timeline);
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
  async #begin(client: pg.Client, view: EventView): Promise<void> {
    const { overlapMs, lookBackMs } = this.#options;
    const isExact = view.guarantee === 'exact';
    const bounds: FloorBounds = [isExact ? lookBackMs : null, view.isOwnDefinition ? null : overlapMs, null];
    const floor = await this.#observeFloor(client, bounds);
    const beginning = await findBeginning(client);
    const tracker = isExact
      ? new ExactTracker(beginning, floor, bounds)
      : new OverlapTracker(beginning, floor, { overlapMs, lookBackMs });
    // What is there already is not news either: it is only remembered.
    const rows = await this.#select(client, view, tracker, 'poll');
    this.#noteHistory(rows[0]);
    const read = this.#absorb(rows, view, tracker);
    this.#tracker = tracker;
    this.#historyId = historyId(this.#history, view);
    this.#options.onBatch(this.#batch([], read?.snapshotXmax ?? 0n, tracker));
    const { guarantee, reason, name } = view;
    this.#options.lifecycle.emit('reader:started', { guarantee, reason, view: name });
  }

  async #read(client: pg.Client, view: EventView, tracker: Tracker, trigger: Trigger): Promise<void> {
    const startedAtMs = performance.now();
    // Both go out at once and run in this order. An observation may be older than the read, never
    // younger, and one a poll is enough.
    const observing = trigger === 'poll' ? this.#observeFloor(client, tracker.floorBounds()) : null;
    const selecting = this.#select(client, view, tracker, trigger);
    const [floor, rows] = await Promise.all([observing, selecting]);
    this.#noteHistory(rows[0]);
    if (this.#tracker !== tracker) {
      this.#trigger = 'poll';
      return;
    }
    // From here to onBatch nothing waits and nothing can fail: what is marked as delivered is delivered.
    const read = this.#absorb(rows, view, tracker);
    if (read === null) {
      this.#restart('the database is behind what was read from it before (restored from a backup?)');
      this.#trigger = 'poll';
      return;
    }
    if (floor !== null) tracker.observed(floor);
    const { fresh, late, eventRows, snapshotXmax } = read;
    const batch = this.#batch(fresh, snapshotXmax, tracker);
    this.#options.onBatch(batch);
    const { lifecycle } = this.#options;
    lifecycle.emit('reader:read', {
      trigger,
      rows: eventRows,
      fresh: fresh.length,
      durationMs: performance.now() - startedAtMs,
      watermark: batch.position.watermark.toString(),
      floor: batch.position.floor,
    });
    const [oldest] = late;
    if (oldest !== undefined) {
      const { overlapMs } = this.#options;
      lifecycle.emit('reader:late', { events: late.length, oldestCreatedAt: oldest.createdAt, overlapMs });
    }
  }

  async #observeFloor(client: pg.Client, bounds: FloorBounds): Promise<string> {
    const { allowanceMs, lifecycle } = this.#options;
    const answer = await client.query<[string, string, string]>({
      ...(this.#keepsStatements ? { name: 'flagcast_floor' } : {}),
      text: floorStatement,
      values: [allowanceMs, ...bounds],
      rowMode: 'array',
    });
    const [floor, visible, ageMs] = answer.rows[0] ?? ['', 'false', '0'];
    lifecycle.emit('reader:observed', {
      floor,
      sessionsVisible: visible === 'true',
      oldestTransactionMs: Number(ageMs),
    });
    return floor;
  }

  async #select(
    client: pg.Client,
    view: EventView,
    tracker: Tracker,
    trigger: Trigger,
  ): Promise<(string | null)[][]> {
    const answer = await client.query<(string | null)[]>({
      ...(this.#keepsStatements ? { name: 'flagcast_read' } : {}),
      ...readStatement(view, this.#tellsHistory),
      values: tracker.readBounds(trigger),
    });
    return answer.rows;
  }

  /** Null: the database went back. */
  #absorb(rows: readonly (string | null)[][], view: EventView, tracker: Tracker): Read | null {
    const position = toPosition(rows[0] ?? []);
    const events = rows.map((row) => toEvent(row, view)).filter((event) => event !== null);
    const absorbed = tracker.absorb({ position, events });
    return absorbed && { ...absorbed, eventRows: events.length, snapshotXmax: position.xmax };
  }

  #batch(events: readonly FlagEvent[], snapshotXmax: bigint, tracker: Tracker): Batch {
    return {
      events,
      seenAtMs: Date.now(),
      snapshotXmax,
      position: tracker.position(this.#historyId),
    };
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #isStopped(): boolean {
    return this.#stopped;
  }
}

/** Positions of another history, or in other events, mean nothing here. */
function historyId(history: History | null, { guarantee, isOwnDefinition, name }: EventView): string {
  const events = isOwnDefinition ? '' : `/${guarantee}/${name}`;
  return createHash('sha256')
    .update(`${history?.database ?? ''}/${history?.timeline ?? ''}${events}`)
    .digest('base64url')
    .slice(0, 12);
}

import { createHash } from 'node:crypto';
import type pg from 'pg';
import { isPooled } from '../database/pooler.js';
import { backoffMs, discardSession, openSession } from '../database/session.js';
import type { Batch, FlagEvent } from '../events/event.js';
import { durableSeen, type Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import { DeliveredSet } from './delivered.js';
import {
  floorStatement,
  historyStatement,
  positionStatement,
  readStatement,
  sessionSettings,
  toEvent,
  type KnownEvent,
  toPosition,
} from './statements.js';
import { Watermark } from './watermark.js';

export interface EventReaderOptions {
  /** `postgresql://...`; the reader keeps one connection of its own. */
  databaseUrl: string;
  /** The view to read, as it is written in SQL. Default `flagcast.v_realtime_events`. */
  view?: string;
  /** Whether events carry the state of their feature, from `public.features` and `feature_params`. Default true. */
  embedState?: boolean;
  /** How often to read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /** How far back an unseen transaction may have begun where sessions cannot be observed, in milliseconds. Default 1 h. */
  lookBackMs?: number;
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
  /** Both, as cursors name them. */
  readonly id: string;
}

interface Absorbed {
  readonly fresh: FlagEvent[];
  readonly eventRows: number;
  readonly snapshotXmax: bigint;
  readonly wentBack: boolean;
}

/**
 * More transaction ids than a database can lose in a crash or a failover and hand out again: as far
 * back is looked where no durable watermark is known. The floor keeps that from costing anything.
 */
const rewindIds = 1_000_000n;

/** With more delivered events than this, naming their transactions costs more than reading them again. */
const maxLeftOut = 5_000;

/**
 * Reads what is new in the view: once every poll interval, and whenever it is woken.
 *
 * After a read in snapshot S what was not delivered is what S could not see: transactions that
 * were running, whose id is at or above S's xmin, or that had not begun. So the next read asks for
 * `xid >= xmin(S)` and drops what was delivered already. `created_at > floor` only keeps that on
 * the index: the floor was observed before S was taken, so that whatever S could not see began
 * later than it.
 *
 * Whatever happens to the database, the reader waits for it and goes on from where it was.
 */
export class EventReader {
  readonly #options: Required<EventReaderOptions>;
  readonly #delivered = new DeliveredSet();
  #watermark: Watermark | null = null;
  #floor = '';
  /** The xmin of the last read's snapshot: what is below it has been read. */
  #xmin = 0n;
  #history: History | null = null;
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
      view: 'flagcast.v_realtime_events',
      embedState: true,
      onHistoryLost: () => undefined,
      pollIntervalMs: 1_000,
      lookBackMs: 3_600_000,
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
    return this.#delivered.size;
  }

  /** Whether this event, found in the view by somebody else, is one that a later read will bring. */
  isYetToCome(event: KnownEvent): boolean {
    if (event.xid < this.#xmin || this.#delivered.hasXid(event.xid)) return false;
    // As the read has it: the floor does not hold for decisions.
    return event.createdAt > this.#floor || (event.source === 'pending' && event.action !== 'pending');
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
        if (this.#watermark === null) await this.#begin(client);
        else await this.#read(client, this.#watermark, trigger);
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
      this.#compareHistory(database, timeline);
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
    const history = { database, timeline, id: historyId(database, timeline) };
    this.#history = history;
    if (before === null || this.#watermark === null) return;
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

  #restart(reason: string): void {
    this.#watermark = null;
    this.#delivered.clear();
    this.#options.lifecycle.emit('reader:history-lost', { reason });
    this.#options.onHistoryLost();
  }

  /** Takes the present as the beginning: what was committed before is not news. */
  async #begin(client: pg.Client): Promise<void> {
    this.#floor = await this.#observeFloor(client);
    const answer = await client.query<(string | null)[]>({ text: positionStatement, rowMode: 'array' });
    const watermark = rewound(toPosition(answer.rows[0] ?? []).xmin);
    // What has been committed above that watermark is not news either: it is only remembered.
    const rows = await this.#select(client, watermark);
    this.#noteHistory(rows[0]);
    const { snapshotXmax } = this.#absorb(rows, watermark);
    this.#watermark = watermark;
    this.#options.onBatch(this.#batch([], snapshotXmax, watermark));
    this.#options.lifecycle.emit('reader:started', {
      guarantee: 'exact',
      watermark: watermark.value.toString(),
    });
  }

  async #read(client: pg.Client, watermark: Watermark, trigger: Trigger): Promise<void> {
    const startedAtMs = performance.now();
    const floorOfThisRead = this.#floor;
    // Both go out at once and run in this order. An observation may be older than the read, never
    // younger, and one a poll is enough.
    const observing = trigger === 'poll' ? this.#observeFloor(client) : null;
    const selecting = this.#select(client, watermark);
    const [floor, rows] = await Promise.all([observing, selecting]);
    this.#noteHistory(rows[0]);
    if (this.#watermark === null) {
      this.#trigger = 'poll';
      return;
    }
    // From here to onBatch nothing waits and nothing can fail: what is marked as delivered is delivered.
    const { fresh, eventRows, snapshotXmax, wentBack } = this.#absorb(rows, watermark);
    if (wentBack) {
      this.#restart('the database is behind what was read from it before (restored from a backup?)');
      this.#trigger = 'poll';
      return;
    }
    if (floor !== null) this.#floor = floor;
    this.#options.onBatch(this.#batch(fresh, snapshotXmax, watermark));
    this.#options.lifecycle.emit('reader:read', {
      trigger,
      rows: eventRows,
      fresh: fresh.length,
      durationMs: performance.now() - startedAtMs,
      watermark: watermark.value.toString(),
      floor: floorOfThisRead,
    });
  }

  async #observeFloor(client: pg.Client): Promise<string> {
    const { allowanceMs, lookBackMs, lifecycle } = this.#options;
    const answer = await client.query<[string, string, string]>({
      ...(this.#keepsStatements ? { name: 'flagcast_floor' } : {}),
      text: floorStatement,
      values: [allowanceMs, lookBackMs],
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

  async #select(client: pg.Client, watermark: Watermark): Promise<(string | null)[][]> {
    // All rows of a transaction show at once, so one whose rows were delivered has no more to give:
    // leaving it out saves reading it again while an older transaction holds the watermark back.
    const { view, embedState } = this.#options;
    const delivered = this.#delivered.size > maxLeftOut ? [] : [...this.#delivered.xids()].map(String);
    const answer = await client.query<(string | null)[]>({
      ...(this.#keepsStatements ? { name: 'flagcast_read' } : {}),
      ...readStatement(view, embedState, this.#tellsHistory),
      values: [watermark.value.toString(), this.#floor, delivered],
    });
    return answer.rows;
  }

  /** Tells the new events from those that were delivered before, and moves the watermark. */
  #absorb(rows: readonly (string | null)[][], watermark: Watermark): Absorbed {
    const position = toPosition(rows[0] ?? []);
    const fresh: FlagEvent[] = [];
    const absorbed = { fresh, eventRows: 0, snapshotXmax: position.xmax, wentBack: false };
    if (position.xmin < watermark.value) return { ...absorbed, wentBack: true };
    this.#xmin = position.xmin;
    for (const row of rows) {
      const event = toEvent(row, this.#options.embedState);
      if (event === null) continue;
      absorbed.eventRows += 1;
      if (this.#delivered.add(event)) fresh.push(event);
    }
    if (watermark.advance(position)) this.#delivered.pruneBelow(watermark.value);
    return absorbed;
  }

  #batch(events: FlagEvent[], snapshotXmax: bigint, watermark: Watermark): Batch {
    const position: Position = {
      history: this.#history?.id ?? '',
      watermark: watermark.value,
      horizon: watermark.horizon,
      floor: this.#floor,
      seen: durableSeen(this.#delivered.xids(), watermark.horizon),
    };
    return { events, seenAtMs: Date.now(), snapshotXmax, position };
  }

  // A method, so that the compiler does not take the flag's value across an await for granted.
  #isStopped(): boolean {
    return this.#stopped;
  }
}

function historyId(database: string, timeline: string | null): string {
  return createHash('sha256')
    .update(`${database}/${timeline ?? ''}`)
    .digest('base64url')
    .slice(0, 12);
}

function rewound(xid: bigint): Watermark {
  return new Watermark(xid > rewindIds ? xid - rewindIds : 0n, 0n);
}

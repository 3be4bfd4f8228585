import type { Queries } from '../postgres/session-pool.js';
import type { Channel } from '../auth/table-authorization.js';
import { channelKey, type FlagEvent } from '../events/event.js';
import { encodeCursor, type Position, uncoveredRanges } from '../events/position.js';
import { SharedEvents } from '../events/shared-events.js';
import type { EventSource } from '../reader/event-source.js';
import { deletedXidColumn, missedStatement, toLogRow, toSnapshotPosition } from '../reader/log-statements.js';

export interface MissedEventsOptions {
  pool: Queries;
  /** What the reader reads; it has begun when a client asks for what it missed. */
  source: () => EventSource;
  /** How far events have been handed on: the number of the newest batch, and the position after it. */
  progress: () => Progress;
  /** What was missed in a channel, from somewhere else than the database; null where that cannot tell. Default: from nowhere. */
  elsewhere?: (channel: string, position: Position) => Promise<FlagEvent[] | null>;
  /** More missed events than this are not brought one by one. Default 1,000. */
  maxMissed?: number;
  /** How long an answer serves those who ask the same, in milliseconds. Default 10,000. */
  keepMs?: number;
}

export interface Progress {
  readonly sequence: number;
  readonly position: Position | null;
}

/** What a channel's client at some position has missed. */
export interface MissedEvents {
  /** How far events had been handed on when it was asked for: nothing up to there is missing in the answer. */
  readonly progress: Progress;
  /** In order; may hold events that have not been handed on yet. Null when there are too many. */
  readonly missed: SharedEvents | null;
  /** The database is behind the position: it has lost transactions that the client knows of. */
  readonly behind: boolean;
  /** Retention has deleted some of them. */
  readonly expired: boolean;
  readonly source: 'log' | 'database';
}

interface Answer {
  readonly answer: Promise<MissedEvents>;
  readonly sequence: number;
  readonly staleAtMs: number;
  /** How many events it holds; 0 while it is under way. */
  events: number;
}

/** How long the states of missed events may be together, in UTF-16 code units. */
const maxStateLength = 2_097_152;
/** How many answers are kept at the most, and how many events in all of them. */
const maxKept = 256;
const maxKeptEvents = 20_000;

/**
 * Asks PostgreSQL for what was missed. Clients that come back together mostly come from the same
 * position: equal questions share one query, those under way and those of the last seconds alike.
 */
export class MissedEventsSource {
  readonly #options: Required<MissedEventsOptions>;
  readonly #answers = new Map<string, Answer>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: MissedEventsOptions) {
    this.#options = {
      elsewhere: async () => await Promise.resolve(null),
      maxMissed: 1_000,
      keepMs: 10_000,
      ...options,
    };
  }

  /**
   * Whether these are too many events, or have too large states, to be sent one by one: each client that resumes
   * elsewhere has bytes of its own until it has read them. A snapshot is shared.
   */
  isTooMuch(events: readonly FlagEvent[]): boolean {
    if (events.length > this.#options.maxMissed) return true;
    let length = 0;
    for (const { featureJson } of events) length += featureJson?.length ?? 0;
    return length > maxStateLength;
  }

  /**
   * `oldestSequence`: an answer from before this batch is of no use, because what came after it is no
   * longer kept. Rejects with what the database throws; then nothing is kept.
   */
  async since(channel: Channel, position: Position, oldestSequence: number): Promise<MissedEvents> {
    const question = JSON.stringify([channel.projectId, channel.environmentId, encodeCursor(position)]);
    const nowMs = performance.now();
    const kept = this.#answers.get(question);
    if (kept !== undefined && nowMs < kept.staleAtMs && kept.sequence >= oldestSequence)
      return await kept.answer;
    // Taken before the query is sent: its snapshot comes later.
    const progress = this.#options.progress();
    const answer = this.#ask(channel, position, progress);
    const asked = { answer, sequence: progress.sequence, staleAtMs: nowMs + this.#options.keepMs, events: 0 };
    this.#answers.delete(question);
    this.#answers.set(question, asked);
    this.#dropOldest();
    try {
      const { missed } = await answer;
      asked.events = missed?.events.length ?? 0;
      this.#dropOldest();
      this.#dropWhenStale();
      return await answer;
    } catch (error) {
      if (this.#answers.get(question) === asked) this.#answers.delete(question);
      throw error;
    }
  }

  /** Those who come back from many places at once must not fill the memory. */
  #dropOldest(): void {
    let keptEvents = 0;
    for (const { events } of this.#answers.values()) keptEvents += events;
    for (const [question, { events }] of this.#answers) {
      if (this.#answers.size <= maxKept && keptEvents <= maxKeptEvents) break;
      this.#answers.delete(question);
      keptEvents -= events;
    }
  }

  /** What nobody asks for any more is not held until somebody asks for something else. */
  #dropWhenStale(): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const nowMs = performance.now();
      for (const [question, { staleAtMs }] of this.#answers) {
        if (staleAtMs <= nowMs) this.#answers.delete(question);
      }
      if (this.#answers.size > 0) this.#dropWhenStale();
    }, this.#options.keepMs);
    this.#timer.unref();
  }

  async #ask(channel: Channel, position: Position, progress: Progress): Promise<MissedEvents> {
    const { pool, maxMissed, elsewhere } = this.#options;
    const asAnswer = (events: FlagEvent[]): SharedEvents | null =>
      this.isTooMuch(events) ? null : new SharedEvents(events, Date.now());
    const known = { progress, behind: false, expired: false };
    const logged = await elsewhere(channelKey(channel.projectId, channel.environmentId), position);
    if (logged !== null) return { ...known, missed: asAnswer(logged), source: 'log' };
    const source = this.#options.source();
    // Only the event log remembers by transaction.
    if (source.reason !== 'event_log') return { ...known, missed: null, source: 'database' };
    const { lows, highs } = uncoveredRanges(position);
    const { rows } = await pool.query<(string | null)[]>({
      rowMode: 'array',
      types: { getTypeParser: () => (value: string | Buffer) => value },
      text: missedStatement(source, maxMissed + 1),
      values: [lows, highs, channel.projectId, channel.environmentId],
    });
    const first = rows[0] ?? [];
    const deletedXid = BigInt(first[deletedXidColumn] ?? 0);
    return {
      progress,
      missed: asAnswer(rows.flatMap((row) => toLogRow(row, source)?.event ?? [])),
      behind: toSnapshotPosition(first).coverage.xmax < position.xmax,
      // The ranges are ascending: the first one begins with the oldest transaction that was missed.
      expired: BigInt(lows[0] ?? position.xmax.toString()) <= deletedXid,
      source: 'database',
    };
  }
}

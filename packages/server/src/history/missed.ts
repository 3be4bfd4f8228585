import type { Pool } from 'pg';
import type { Channel } from '../access/access.js';
import { channelKey, type FlagEvent } from '../events/event.js';
import { encodeCursor, missedAt, type Position } from '../events/position.js';
import { SharedEvents } from '../events/shared-events.js';
import type { EventView } from '../reader/event-view.js';
import {
  eventColumns,
  eventOrder,
  positionColumns,
  toEvent,
  toPosition,
  unseenRows,
} from '../reader/statements.js';

export interface MissedEventsOptions {
  pool: Pool;
  /** What the reader reads; it has begun when somebody asks for what was missed. */
  view: () => EventView;
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
  readonly source: 'log' | 'database';
}

interface Answer {
  readonly answer: Promise<MissedEvents>;
  readonly sequence: number;
  readonly staleAtMs: number;
  /** How many events it holds; 0 while it is under way. */
  events: number;
}

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

  /** More missed events than this are not brought one by one. */
  get maxMissed(): number {
    return this.#options.maxMissed;
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
      events.length > maxMissed ? null : new SharedEvents(events, Date.now());
    const logged = await elsewhere(channelKey(channel.projectId, channel.environmentId), position);
    if (logged !== null) return { progress, missed: asAnswer(logged), behind: false, source: 'log' };
    const view = this.#options.view();
    // Without transaction ids what has been seen is only told apart here.
    const limit = maxMissed + (position.byTime ? position.seen.length : 0) + 1;
    const { rows } = await pool.query<(string | null)[]>({
      rowMode: 'array',
      types: { getTypeParser: () => (value: string | Buffer) => value },
      text: `
SELECT ${positionColumns}, ${eventColumns(view)}
FROM (SELECT 1) AS always
LEFT JOIN (
  ${unseenRows(view)} AND v.project_id::text = $4 AND v.environment_id::text = $5
  ORDER BY ${eventOrder}
  LIMIT ${limit}
) v ON true
ORDER BY ${eventOrder}
`,
      values: [
        position.watermark.toString(),
        position.floor,
        position.byTime ? [] : position.seen.map(String),
        channel.projectId,
        channel.environmentId,
      ],
    });
    const events = rows
      .map((row) => toEvent(row, view))
      .filter((event) => event !== null)
      .filter(missedAt(position));
    const behind = toPosition(rows[0] ?? []).xmax < position.horizon;
    return { progress, missed: asAnswer(events), behind, source: 'database' };
  }
}

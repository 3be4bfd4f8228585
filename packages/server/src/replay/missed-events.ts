import type { Channel } from '../auth/authorization.js';
import type { Relay } from '../broadcast/relay.js';
import { SharedEvents } from '../events/dialect.js';
import { approvalsFeed, channelKey, type FlagEvent } from '../events/event.js';
import { encodeCursor, type Position, uncoveredRanges } from '../events/position.js';
import { readListColumns } from '../host/feature-lists.js';
import type { Queries } from '../postgres/session-pool.js';
import type { EventSource } from '../reader/event-source.js';
import {
  deletedXidColumn,
  missedStatement,
  toLogRows,
  toSnapshotPosition,
} from '../reader/log-statements.js';

export interface MissedEventsOptions {
  pool: Queries;
  /** What the reader reads. */
  source: () => EventSource;
  /** How far events were broadcast: the sequence of the newest batch, and the position after it. */
  progress: () => Progress;
  /** Its log is asked before the database. Default: the database is asked. */
  relay?: Pick<Relay, 'missedSince'> | null;
  /** How long an answer is reused, in milliseconds. Default 10,000. */
  keepMs?: number;
}

export interface Progress {
  readonly sequence: number;
  readonly position: Position | null;
}

/** A channel, or the approvals feed: the steps of requests in all channels. */
export type MissedTarget = Channel | 'approvals';

/** What a client at a position has missed in a channel or in the approvals feed. */
export interface MissedEvents {
  /** How far events were broadcast before the query: the answer has everything up to there. */
  readonly progress: Progress;
  /** In order; may contain events that are not broadcast yet. Null if they are too many or too large. */
  readonly missed: SharedEvents | null;
  /** The database has lost transactions that the client knows. */
  readonly isDatabaseBehind: boolean;
  /** Retention has deleted some of the events. */
  readonly expired: boolean;
  readonly source: 'log' | 'database';
}

interface Answer {
  readonly answer: Promise<MissedEvents>;
  readonly sequence: number;
  /** Another source may read other tables, so its events have other states. */
  readonly source: EventSource;
  /** How many events it has; 0 while the query runs. */
  events: number;
}

/** Limits of what is replayed event by event: each such client has bytes of its own. A snapshot is shared. */
const maxMissedEvents = 1_000;
/** In UTF-16 code units. */
const maxStateLength = 2_097_152;
const maxAnswers = 256;
const maxEventsOfAnswers = 20_000;

/** Queries missed events. Clients that reconnect together from the same position share one query. */
export class MissedEventsSource {
  readonly #options: MissedEventsOptions;
  /** Oldest first. */
  readonly #answers = new Map<string, Answer>();

  constructor(options: MissedEventsOptions) {
    this.#options = options;
  }

  /** Whether these are too many events, or have too large states, to be replayed. */
  isTooMuch(events: readonly FlagEvent[]): boolean {
    if (events.length > maxMissedEvents) return true;
    let length = 0;
    for (const { featureJson, pendingChangeJson } of events) {
      length += (featureJson?.length ?? 0) + (pendingChangeJson?.length ?? 0);
    }
    return length > maxStateLength;
  }

  /** An answer from before the batch `oldestSequence`, or of another source, is not reused. Rejects with the error of the database. */
  async since(target: MissedTarget, position: Position, oldestSequence: number): Promise<MissedEvents> {
    const key = JSON.stringify([keyOf(target), encodeCursor(position)]);
    const known = this.#answers.get(key);
    const { keepMs = 10_000, progress: currentProgress, source: currentSource } = this.#options;
    const source = currentSource();
    if (known?.source === source && known.sequence >= oldestSequence) return await known.answer;
    // Before the query, whose snapshot is later.
    const progress = currentProgress();
    const entry = {
      answer: this.#query(target, position, { progress, source }),
      sequence: progress.sequence,
      source,
      events: 0,
    };
    const drop = (): void => {
      if (this.#answers.get(key) === entry) this.#answers.delete(key);
    };
    this.#answers.delete(key);
    this.#answers.set(key, entry);
    setTimeout(drop, keepMs).unref();
    this.#dropOldest();
    try {
      const answer = await entry.answer;
      entry.events = answer.missed?.events.length ?? 0;
      this.#dropOldest();
      return answer;
    } catch (error) {
      drop();
      throw error;
    }
  }

  /** Bounds the memory when clients reconnect from many positions. */
  #dropOldest(): void {
    let total = 0;
    for (const { events } of this.#answers.values()) total += events;
    for (const [key, { events }] of this.#answers) {
      if (this.#answers.size <= maxAnswers && total <= maxEventsOfAnswers) break;
      this.#answers.delete(key);
      total -= events;
    }
  }

  async #query(
    target: MissedTarget,
    position: Position,
    { progress, source }: { progress: Progress; source: EventSource },
  ): Promise<MissedEvents> {
    const { pool, relay } = this.#options;
    const toShared = (events: FlagEvent[]): SharedEvents | null =>
      this.isTooMuch(events) ? null : new SharedEvents(events, Date.now());
    const logged = (await relay?.missedSince(keyOf(target), position)) ?? null;
    if (logged !== null) {
      return { progress, missed: toShared(logged), isDatabaseBehind: false, expired: false, source: 'log' };
    }
    // Without an event log, transaction ids are unknown.
    if (source.reason !== 'event_log') {
      return { progress, missed: null, isDatabaseBehind: false, expired: false, source: 'database' };
    }
    const lists = await readListColumns(pool);
    const { lows, highs } = uncoveredRanges(position);
    const { rows } = await pool.query<(string | null)[]>({
      rowMode: 'array',
      types: { getTypeParser: () => (value: string | Buffer) => value },
      text: missedStatement(
        { ...source, lists },
        { limit: maxMissedEvents + 1, of: target === 'approvals' ? target : 'channel' },
      ),
      values: target === 'approvals' ? [lows, highs] : [lows, highs, target.projectId, target.environmentId],
    });
    const first = rows[0] ?? [];
    const deletedXid = BigInt(first[deletedXidColumn] ?? 0);
    return {
      progress,
      missed: toShared(toLogRows(rows, source).flatMap(({ event }) => event ?? [])),
      isDatabaseBehind: toSnapshotPosition(first).coverage.xmax < position.xmax,
      // The first range begins with the oldest transaction that was missed.
      expired: BigInt(lows[0] ?? position.xmax.toString()) <= deletedXid,
      source: 'database',
    };
  }
}

function keyOf(target: MissedTarget): string {
  return target === 'approvals' ? approvalsFeed : channelKey(target.projectId, target.environmentId);
}

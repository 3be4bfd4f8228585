import type { ResyncReason } from '@flagcast/protocol';
import type { Channel } from '../auth/authorization.js';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { Relay } from '../broadcast/relay.js';
import { SharedEvents } from '../events/dialect.js';
import { approvalsFeed, channelKey, type FlagEvent } from '../events/event.js';
import { type Position, textOf, uncoveredRanges } from '../events/position.js';
import { ReadableLists } from '../host/feature-lists.js';
import { isOfData } from '../postgres/errors.js';
import type { Queries } from '../postgres/session-pool.js';
import { type EventSource, hidesTheSame } from '../reader/event-source.js';
import { deletedXidColumn, hasPoliciesColumn, missedStatement, toLogRows } from '../reader/log-statements.js';
import { toSnapshotPosition } from '../reader/snapshot-position.js';

export interface MissedEventsOptions {
  pool: Queries;
  /** What the reader reads. */
  source: () => EventSource;
  broadcaster: Broadcaster;
  /**
   * Whether the reader will deliver this event, so that it must not be taken from another source; null: that is known after
   * a later batch.
   */
  willBeRead: (event: FlagEvent) => boolean | null;
  /** Default: those of this source only. */
  lists?: ReadableLists;
  /** Its log is asked before the database. Default: the database is asked. */
  relay?: Pick<Relay, 'missedSince'> | null;
  /** How long an answer is reused, in milliseconds. Default 10,000. */
  keepMs?: number;
}

/** How far events were broadcast: the sequence of the newest batch, and the position after it. */
interface Progress {
  readonly sequence: number;
  readonly position: Position | null;
}

/** A channel, or the approvals feed: the steps of requests in all channels. */
export type MissedTarget = Channel | 'approvals';

/** What was missed since a position, and the batch and position after which the replay buffer continues. */
export interface Missed extends Progress {
  readonly events: SharedEvents;
  readonly source: 'buffer' | 'log' | 'database';
}

/** What the relay's log or the database has since a position, with the progress before the query. */
interface Answer extends Progress {
  /** In order; may contain events that are not broadcast yet. Null if they are too many or too large. */
  readonly events: SharedEvents | null;
  readonly source: 'log' | 'database';
  /** The database has lost transactions that the client knows. */
  readonly isDatabaseBehind: boolean;
  /** Retention has deleted some of the events. */
  readonly expired: boolean;
}

interface KeptAnswer {
  readonly answer: Promise<Answer>;
  readonly sequence: number;
  /** Another source may read other tables, so its events have other states. */
  readonly source: EventSource;
  /** How many events it has; 0 while the query runs. */
  events: number;
}

/** How often the database is asked, if the replay buffer has moved past its answer each time. */
const maxAttempts = 3;
/** Limits of what is replayed event by event: each such client has bytes of its own. A snapshot is shared. */
const maxMissedEvents = 1_000;
/** In UTF-16 code units. */
const maxStateLength = 2_097_152;
const maxAnswers = 256;
const maxEventsOfAnswers = 20_000;

/** Finds missed events. Clients that reconnect together from the same position share one query. */
export class MissedEventsSource {
  readonly #options: MissedEventsOptions;
  readonly #lists: ReadableLists;
  /** Oldest first. */
  readonly #answers = new Map<string, KeptAnswer>();

  constructor(options: MissedEventsOptions) {
    this.#options = options;
    this.#lists = options.lists ?? new ReadableLists();
  }

  /**
   * What a client at the position has missed: from the replay buffer, else from the relay's log or the database. Without
   * an exact answer it is the reason of a resync; `unavailable`: the database does not answer. Rejects with what the
   * database throws. `isWanted`: whether to ask again.
   */
  async since(
    target: MissedTarget,
    position: Position,
    isWanted: () => boolean = () => true,
  ): Promise<Missed | ResyncReason | 'unavailable'> {
    const { broadcaster, willBeRead } = this.#options;
    const key = keyOf(target);
    if (broadcaster.position !== null && broadcaster.position.history !== position.history) {
      return 'history_changed';
    }
    const reached = await broadcaster.progress.reach(position);
    if (reached === 'unavailable') return 'unavailable';
    if (reached === 'database_behind') return 'cursor_ahead';
    const buffered = broadcaster.buffer.since(position, key);
    if (buffered !== null) {
      if (isTooMuch(buffered.events)) return 'too_many_missed';
      return { events: buffered, source: 'buffer', ...progressOf(broadcaster) };
    }
    for (let attempt = 1; attempt <= maxAttempts && isWanted(); attempt += 1) {
      const { isDatabaseBehind, expired, events: found, ...answer } = await this.find(target, position);
      if (isDatabaseBehind) return 'cursor_ahead';
      if (expired) return 'cursor_expired';
      if (found === null) break;
      while (isWanted() && found.events.some((event) => willBeRead(event) === null)) {
        if (!(await broadcaster.progress.advanced())) return 'unavailable';
      }
      const later = broadcaster.buffer.after(answer.sequence, key)?.flatMap(({ events }) => events);
      // The replay buffer has dropped batches that the answer may not contain.
      if (later === undefined) continue;
      // Events that the buffer has, or the reader will read, must not be sent twice.
      const inBuffer = new Set(later.map(({ id }) => id));
      const missed = found.events.filter((event) => !inBuffer.has(event.id) && willBeRead(event) === false);
      if (isTooMuch([...missed, ...later])) break;
      const isWhole = missed.length === found.events.length;
      return { ...answer, events: isWhole ? found : new SharedEvents(missed, found.seenAtMs) };
    }
    return 'too_many_missed';
  }

  /**
   * What the relay's log or the database has. An answer of another source or history, or from before batches that the
   * replay buffer has dropped, is not reused. Rejects with the error of the database.
   */
  async find(target: MissedTarget, position: Position): Promise<Answer> {
    const { keepMs = 10_000, broadcaster } = this.#options;
    const key = JSON.stringify([broadcaster.historyLosses, keyOf(target), textOf(position)]);
    const known = this.#answers.get(key);
    const source = this.#options.source();
    const oldest = broadcaster.buffer.evicted(keyOf(target));
    if (known?.source === source && known.sequence >= oldest) return await known.answer;
    // Before the query, whose snapshot is later.
    const progress = progressOf(broadcaster);
    const answer = this.#query(target, position, source).then((found) => ({ ...found, ...progress }));
    const entry = { answer, sequence: progress.sequence, source, events: 0 };
    const drop = (): void => {
      if (this.#answers.get(key) === entry) this.#answers.delete(key);
    };
    this.#answers.delete(key);
    this.#answers.set(key, entry);
    setTimeout(drop, keepMs).unref();
    this.#dropOldest();
    try {
      entry.events = (await answer).events?.events.length ?? 0;
      this.#dropOldest();
      return await answer;
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
    source: EventSource,
  ): Promise<Omit<Answer, keyof Progress>> {
    const { pool, relay } = this.#options;
    const nothing = { events: null, isDatabaseBehind: false, expired: false } as const;
    const logged = (await relay?.missedSince(keyOf(target), position)) ?? null;
    if (logged !== null) return { ...nothing, events: toShared(logged), source: 'log' };
    // Without an event log, transaction ids are unknown.
    if (source.reason !== 'event_log') return { ...nothing, source: 'database' };
    const lists = await this.#lists.read(pool, source.lists);
    const { lows, highs } = uncoveredRanges(position);
    const answer = await pool
      .query<(string | null)[]>({
        rowMode: 'array',
        types: { getTypeParser: () => (value: string | Buffer) => value },
        text: missedStatement(
          { ...source, lists },
          { limit: maxMissedEvents + 1, of: target === 'approvals' ? target : 'channel' },
        ),
        values:
          target === 'approvals' ? [lows, highs] : [lows, highs, target.projectId, target.environmentId],
      })
      .catch((error: unknown) => {
        // One of them cannot be read, and each attempt would fail. A snapshot has its state escaped.
        if (isOfData(error)) return null;
        throw error;
      });
    if (answer === null) return { ...nothing, source: 'database' };
    const { rows } = answer;
    const first = rows[0] ?? [];
    const isNew = source.policies === null && first[hasPoliciesColumn] === 'true';
    if (isNew && !(await hidesTheSame(pool, source))) {
      throw new Error('row-level security may hide rows since a moment, so the states may lack rows');
    }
    const deletedXid = BigInt(first[deletedXidColumn] ?? 0);
    return {
      events: toShared(toLogRows(rows, source).flatMap(({ event }) => event ?? [])),
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

function progressOf({ sequence, position }: Broadcaster): Progress {
  return { sequence, position };
}

function toShared(events: readonly FlagEvent[]): SharedEvents | null {
  return isTooMuch(events) ? null : new SharedEvents(events, Date.now());
}

/** Whether these are too many events, or have too large states, to be replayed. */
function isTooMuch(events: readonly FlagEvent[]): boolean {
  if (events.length > maxMissedEvents) return true;
  let length = 0;
  for (const { featureJson, pendingChangeJson } of events) {
    length += (featureJson?.length ?? 0) + (pendingChangeJson?.length ?? 0);
  }
  return length > maxStateLength;
}

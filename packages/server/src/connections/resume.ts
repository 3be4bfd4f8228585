import type { ResyncReason } from '@flagcast/protocol';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { FlagEvent } from '../events/event.js';
import type { Position } from '../events/position.js';
import { SharedEvents } from '../events/dialect.js';
import type { MissedEventsSource, MissedTarget, Progress } from '../replay/missed-events.js';
import type { Subscription } from './subscription.js';

export interface ResumeSources {
  readonly broadcaster: Broadcaster;
  readonly missedEvents: MissedEventsSource;
  /** Whether the reader will read this event again, so that it must not be taken from another source. */
  readonly willBeRead: (event: FlagEvent) => boolean;
}

/** What was missed since a position, and the batch and position after which the replay buffer continues. */
export interface Missed extends Progress {
  readonly events: SharedEvents;
  readonly source: 'buffer' | 'log' | 'database';
}

/** How often the database is asked, if the replay buffer has moved past its answer each time. */
const maxAttempts = 3;

/**
 * What the subscription has missed since a position: from the replay buffer, else from the relay's log or the database.
 * Without an exact answer it is the reason of a resync; `unavailable`: the database does not answer. Rejects with what the
 * database throws.
 */
export async function findMissed(
  { broadcaster, missedEvents, willBeRead }: ResumeSources,
  {
    subscription,
    target,
    position,
  }: { subscription: Subscription; target: MissedTarget; position: Position },
): Promise<Missed | ResyncReason | 'unavailable'> {
  const { key } = subscription;
  if (broadcaster.position !== null && broadcaster.position.history !== position.history) {
    return 'history_changed';
  }
  const reached = await broadcaster.reach(position);
  if (reached === 'unavailable') return 'unavailable';
  if (reached === 'database_behind') return 'cursor_ahead';
  const buffered = broadcaster.eventsSince(position, key);
  if (buffered !== null) {
    if (missedEvents.isTooMuch(buffered.events)) return 'too_many_missed';
    const { sequence, position: newest } = broadcaster;
    return { events: buffered, source: 'buffer', sequence, position: newest };
  }
  for (let attempt = 1; attempt <= maxAttempts && !subscription.isEnded; attempt += 1) {
    const answer = await missedEvents.since(target, position, broadcaster.oldestSequence(key));
    if (answer.isDatabaseBehind) return 'cursor_ahead';
    if (answer.expired) return 'cursor_expired';
    if (answer.missed === null) break;
    const later = broadcaster.missedSince(answer.progress.sequence, key)?.flatMap(({ events }) => events);
    // The replay buffer has dropped batches that the answer may not contain.
    if (later === undefined) continue;
    // Events that the buffer has, or the reader will read, must not be sent twice.
    const inBuffer = new Set(later.map(({ id }) => id));
    const { events, seenAtMs } = answer.missed;
    const missed = events.filter((event) => !inBuffer.has(event.id) && !willBeRead(event));
    if (missedEvents.isTooMuch([...missed, ...later])) break;
    const shared = missed.length === events.length ? answer.missed : new SharedEvents(missed, seenAtMs);
    return { events: shared, source: answer.source, ...answer.progress };
  }
  return 'too_many_missed';
}

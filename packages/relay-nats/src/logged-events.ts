import { covers, type FlagEvent, NewestStates, type Position } from 'flagcast/support';
import type { EventLog } from './event-log.js';
import { decodeCommit, decodeEvents } from './messages.js';

/** Beyond this many messages of one channel the database is queried. */
const maxMessages = 5_000;

/**
 * The channel's events after the position, from the log, each with the newest states of its feature and request in the log. May
 * contain events whose commit is still to come. Null if the log does not reach back to the position, has a gap since,
 * or does not contain the commit `applied`, which was delivered here. Rejects if NATS does not respond.
 */
export async function loggedSince(
  log: EventLog,
  channel: string,
  position: Position,
  applied: number,
): Promise<FlagEvent[] | null> {
  const start = await sequenceAfter(log, position.xmax, applied);
  const messages = start === null ? null : await log.eventsFrom(channel, start, maxMessages);
  // While that commit is stored, so is everything after it: NATS deletes the oldest messages first.
  if (start === null || messages === null || (await log.message(start - 1)) === null) return null;
  const missed = new Map<string, FlagEvent>();
  const states = new NewestStates();
  for (const { data } of messages) {
    const events = decodeEvents(data);
    if (events === null) return null;
    for (const event of events) {
      states.add(event);
      // Two servers may have written the same event while the leader changed.
      if (!covers(position, event.xid)) missed.set(event.id, event);
    }
  }
  return [...missed.values()].map((event) => states.applyTo(event));
}

/** The sequence after the last commit that precedes every snapshot of this xmax; null if it is not stored. */
async function sequenceAfter(log: EventLog, xmax: bigint, applied: number): Promise<number | null> {
  const [oldest, last] = await Promise.all([log.commitFrom(1), log.lastCommit()]);
  // The new leader of a cluster's stream may not have all of it yet.
  if (last === null || oldest === null || last.sequence < applied) return null;
  const newest = decodeCommit(last.data);
  if (newest.unbrokenSince >= xmax) return null;
  const isBefore = (data: Uint8Array): boolean => {
    const { log: name, progress } = decodeCommit(data);
    // The ids of an earlier log may be greater, if the database went back.
    return name !== newest.log || progress.xmax < xmax;
  };
  if (!isBefore(oldest.data)) return null;
  let before = oldest.sequence;
  let end = last.sequence;
  while (before < end) {
    const middle = Math.ceil((before + end) / 2);
    const commit = await log.commitFrom(middle);
    if (commit !== null && isBefore(commit.data)) before = commit.sequence;
    else end = middle - 1;
  }
  return before + 1;
}

import { covers, type FlagEvent, type Position, withStateOf } from 'flagcast/relay-support';
import type { EventLog } from './event-log.js';
import { decodeCommit, decodeEvents } from './messages.js';

/** With more messages of one channel than this the database is asked. */
const maxMessages = 5_000;

/**
 * What somebody at the position has missed in the channel, out of the log; null where the log cannot tell, because
 * it does not reach back so far, has a gap since, or does not reach to the commit `applied`, which was handed on. Each event has the newest state of its feature that the log
 * has. May hold events whose commit is still to come. Rejects when NATS does not answer.
 */
export async function loggedSince(
  log: EventLog,
  channel: string,
  position: Position,
  applied: number,
): Promise<FlagEvent[] | null> {
  const start = await placeAfter(log, position.xmax, applied);
  const messages = start === null ? null : await log.eventsFrom(channel, start, maxMessages);
  if (messages === null) return null;
  const missed = new Map<string, FlagEvent>();
  const states = new Map<string | null, FlagEvent>();
  for (const { data } of messages) {
    const events = decodeEvents(data);
    if (events === null) return null;
    for (const event of events) {
      states.set(event.featureId, event);
      // What two servers wrote while the reader changed is there twice.
      if (!covers(position, event.xid)) missed.set(event.id, event);
    }
  }
  return [...missed.values()].map((event) => withStateOf(event, states.get(event.featureId)));
}

/** Where the log goes on after the last commit that came before a snapshot of this xmax; null: that is not kept. */
async function placeAfter(log: EventLog, xmax: bigint, applied: number): Promise<number | null> {
  const [last, { first }] = await Promise.all([log.lastCommit(), log.bounds()]);
  const oldest = last === null ? null : await log.commitFrom(first);
  // Whoever has just begun to lead a cluster's stream may not have all of it yet.
  if (last === null || oldest === null || last.sequence < applied) return null;
  const newest = decodeCommit(last.data);
  if (newest.unbrokenSince >= xmax) return null;
  const isBefore = (data: Uint8Array): boolean => {
    const { log: name, progress } = decodeCommit(data);
    // The ids of a log before may be greater, if the database went back.
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

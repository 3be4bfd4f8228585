/** @import { Breach } from './compare.js' */
/** @import { Member } from './population.js' */
/** @import { Segment } from './segment.js' */
/** @import { ServerProcess } from './server-process.js' */

/** How much is told of the time before and after an event, in milliseconds. */
const beforeMs = 3_000;
const afterMs = 15_000;
const maxLines = 80;

/** @typedef {{ readonly atMs: number, readonly endMs: number, readonly kind: string, readonly what: string }} InflictedFault */

/**
 * What happened around an event that a client should have been told of, or not: its commit, reads and sends
 * of each server, what became of the client, and the faults, a line each.
 *
 * @param {Breach} breach
 * @param {{
 *   readonly startedAtMs: number,
 *   readonly members: readonly Member[],
 *   readonly servers: readonly ServerProcess[],
 *   readonly faults: readonly InflictedFault[],
 * }} of
 * @returns {string[]}
 */
export function timelineOf({ event, segment, key }, { startedAtMs, members, servers, faults }) {
  const told = segment.received.find((one) => one.key === key);
  const aroundMs = event?.committedMs ?? told?.atMs ?? segment.fromMs;
  const window = { fromMs: aroundMs - beforeMs, untilMs: aroundMs + afterMs };
  /** @type {(readonly [atMs: number, what: string])[]} */
  const lines = [[segment.fromMs, `${segment.client}: this segment begins`]];
  if (segment.untilMs !== null) lines.push([segment.untilMs, `${segment.client}: this segment ends`]);
  if (event !== null) lines.push([event.committedMs, `the event ${event.id} (${event.action}) is committed`]);
  for (const { atMs } of segment.received.filter((one) => one.key === key)) {
    lines.push([atMs, `${segment.client} is told of it`]);
  }
  const others = members.flatMap(({ client }) => client.segments).filter((other) => other !== segment);
  const firstMs = firstTold(others, segment, event === null ? [key] : [event.id, event.plainKey]);
  if (firstMs !== null) lines.push([firstMs, 'the first of the other clients is told of it']);
  const own = members.find(({ client }) => client.name === segment.client)?.client.history ?? [];
  for (const [atMs, what] of own) if (within(window, atMs)) lines.push([atMs, `${segment.client}: ${what}`]);
  for (const { name, notes } of servers) {
    for (const [atMs, what] of notes) {
      const ofOthers = what.startsWith('connection ') && !what.includes(`user ${segment.userId}`);
      if (within(window, atMs) && !ofOthers) lines.push([atMs, `${name}: ${what}`]);
    }
  }
  for (const { atMs, endMs, kind, what } of faults) {
    if (endMs >= window.fromMs && atMs <= window.untilMs) lines.push([atMs, `fault: ${kind}, ${what}`]);
  }
  return lines
    .sort(([one], [other]) => one - other)
    .slice(0, maxLines)
    .map(([atMs, what]) => `${((atMs - startedAtMs) / 1_000).toFixed(3).padStart(9)} s  ${what}`);
}

/**
 * @param {{ readonly fromMs: number, readonly untilMs: number }} window
 * @param {number} atMs
 */
function within({ fromMs, untilMs }, atMs) {
  return atMs >= fromMs && atMs <= untilMs;
}

/**
 * @param {readonly Segment[]} others
 * @param {Segment} segment
 * @param {readonly string[]} keys
 */
function firstTold(others, segment, keys) {
  let firstMs = null;
  for (const { channel, received } of others) {
    if (channel !== segment.channel) continue;
    const told = received.find(({ key }) => keys.includes(key));
    if (told !== undefined) firstMs = Math.min(told.atMs, firstMs ?? Infinity);
  }
  return firstMs;
}

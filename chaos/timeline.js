/** @import { Breach } from './compare.js' */
/** @import { Member } from './population.js' */
/** @import { Segment } from './segment.js' */
/** @import { ServerProcess } from './server-process.js' */

/** How much is told of the time before and after the commit of an event and its arrival, in milliseconds. */
const aroundMs = { before: 2_000, after: 3_000 };
/** The faults of a longer time are told. In milliseconds. */
const faultsMs = { before: 15_000, after: 15_000 };
/** Of each server those that are nearest. */
const maxServerLines = 60;

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
  const told = segment.received.filter((one) => keysOf(event, key).includes(one.key));
  const moments = [event?.committedMs, told[0]?.atMs].filter((atMs) => atMs !== undefined);
  /** @param {{ readonly before: number, readonly after: number }} of */
  const near = ({ before, after }) => {
    return (/** @type {number} */ atMs) =>
      moments.some((moment) => atMs >= moment - before && atMs <= moment + after);
  };
  /** @type {(readonly [atMs: number, what: string])[]} */
  const lines = [[segment.fromMs, `${segment.client}: this segment begins`]];
  if (segment.untilMs !== null) lines.push([segment.untilMs, `${segment.client}: this segment ends`]);
  if (event !== null) lines.push([event.committedMs, `the event ${event.id} (${event.action}) is committed`]);
  for (const { atMs } of told) lines.push([atMs, `${segment.client} is told of it`]);
  const others = members.flatMap(({ client }) => client.segments).filter((other) => other !== segment);
  const firstMs = firstTold(others, segment, keysOf(event, key));
  if (firstMs !== null) lines.push([firstMs, 'the first of the other clients is told of it']);
  const own = members.find(({ client }) => client.name === segment.client)?.client.history ?? [];
  const isNear = near(aroundMs);
  const mayMatter = near(faultsMs);
  for (const [atMs, what] of own) if (mayMatter(atMs)) lines.push([atMs, `${segment.client}: ${what}`]);
  for (const { atMs, endMs, kind, what } of faults) {
    if (mayMatter(atMs) || mayMatter(endMs)) lines.push([atMs, `fault: ${kind}, ${what}`]);
  }
  /** @param {number} atMs */
  const distanceMs = (atMs) => Math.min(...moments.map((moment) => Math.abs(moment - atMs)));
  const notes = servers.flatMap(({ name, notes: all }) =>
    all
      .filter(([atMs, what]) => isNear(atMs) && !isOfOthers(what, segment.userId))
      .sort(([one], [other]) => distanceMs(one) - distanceMs(other))
      .slice(0, maxServerLines)
      .map(([atMs, what]) => /** @type {const} */ ([atMs, `${name}: ${what}`])),
  );
  return [...lines, ...notes]
    .sort(([one], [other]) => one - other)
    .map(([atMs, what]) => `${((atMs - startedAtMs) / 1_000).toFixed(3).padStart(9)} s  ${what}`);
}

/**
 * @param {string} what a note of a server
 * @param {string} userId
 */
function isOfOthers(what, userId) {
  return what.startsWith('connection ') && !what.includes(`user ${userId} `);
}

/**
 * What the event is told by, in either dialect.
 *
 * @param {Breach['event']} event
 * @param {string} key
 */
function keysOf(event, key) {
  return event === null ? [key] : [event.id, event.plainKey];
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

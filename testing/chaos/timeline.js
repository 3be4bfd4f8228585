/** @import { Anomaly } from './segment-checker.js' */
/** @import { MixMember } from './client-mix.js' */
/** @import { Segment } from './segment.js' */
/** @import { ServerProcess } from './server-process.js' */

/** Notes this long before and after the commit of the event and its arrival are listed, in milliseconds. */
const aroundMs = { before: 2_000, after: 3_000 };
/** Faults and entries of the client's log are listed for longer, in milliseconds. */
const faultsMs = { before: 15_000, after: 15_000 };
/** Maximum number of notes of a server; the nearest in time are listed. */
const maxServerLines = 60;

/** @typedef {{ readonly atMs: number, readonly endMs: number, readonly kind: string, readonly detail: string }} InjectedFault */

/**
 * Lists what happened around the event of an anomaly, one line each: its commit, the servers' reads and sends, the log
 * of the client, and the faults.
 *
 * @param {Anomaly} anomaly
 * @param {{
 *   readonly startedAtMs: number,
 *   readonly members: readonly MixMember[],
 *   readonly servers: readonly ServerProcess[],
 *   readonly faults: readonly InjectedFault[],
 * }} of
 * @returns {string[]}
 */
export function timelineOf({ event, segment, key }, { startedAtMs, members, servers, faults }) {
  const receipts = segment.received.filter((one) => keysOf(event, key).includes(one.key));
  const moments = [event?.committedMs, receipts[0]?.atMs].filter((atMs) => atMs !== undefined);
  /** @param {{ readonly before: number, readonly after: number }} of */
  const near = ({ before, after }) => {
    return (/** @type {number} */ atMs) =>
      moments.some((moment) => atMs >= moment - before && atMs <= moment + after);
  };
  /** @type {(readonly [atMs: number, text: string])[]} */
  const lines = [[segment.fromMs, `${segment.client}: the segment starts`]];
  if (segment.untilMs !== null) lines.push([segment.untilMs, `${segment.client}: the segment ends`]);
  if (event !== null) lines.push([event.committedMs, `the event ${event.id} (${event.action}) is committed`]);
  for (const { atMs } of receipts) lines.push([atMs, `${segment.client} receives it`]);
  const others = members.flatMap(({ client }) => client.segments).filter((other) => other !== segment);
  const firstMs = firstReceipt(others, segment, keysOf(event, key));
  if (firstMs !== null) lines.push([firstMs, 'the first of the other clients receives it']);
  const own = members.find(({ client }) => client.name === segment.client)?.client.log ?? [];
  const isNear = near(aroundMs);
  const mayMatter = near(faultsMs);
  for (const [atMs, text] of own) if (mayMatter(atMs)) lines.push([atMs, `${segment.client}: ${text}`]);
  for (const { atMs, endMs, kind, detail } of faults) {
    if (mayMatter(atMs) || mayMatter(endMs)) lines.push([atMs, `fault: ${kind}, ${detail}`]);
  }
  /** @param {number} atMs */
  const distanceMs = (atMs) => Math.min(...moments.map((moment) => Math.abs(moment - atMs)));
  const notes = servers.flatMap(({ name, notes: all }) =>
    all
      .filter(([atMs, text]) => isNear(atMs) && !isOfOtherUser(text, segment.userId))
      .sort(([one], [other]) => distanceMs(one) - distanceMs(other))
      .slice(0, maxServerLines)
      .map(([atMs, text]) => /** @type {const} */ ([atMs, `${name}: ${text}`])),
  );
  return [...lines, ...notes]
    .sort(([one], [other]) => one - other)
    .map(([atMs, text]) => `${((atMs - startedAtMs) / 1_000).toFixed(3).padStart(9)} s  ${text}`);
}

/**
 * @param {string} note of a server
 * @param {string} userId
 */
function isOfOtherUser(note, userId) {
  return note.startsWith('connection ') && !note.includes(`user ${userId} `);
}

/**
 * The keys of the event in both dialects.
 *
 * @param {Anomaly['event']} event
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
function firstReceipt(others, segment, keys) {
  let firstMs = null;
  for (const { channel, received } of others) {
    if (channel !== segment.channel) continue;
    const receipt = received.find(({ key }) => keys.includes(key));
    if (receipt !== undefined) firstMs = Math.min(receipt.atMs, firstMs ?? Infinity);
  }
  return firstMs;
}

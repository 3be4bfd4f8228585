/** @import { ChaosChannel } from './writers.js' */

/**
 * A stretch in which one client has to be told of everything in one channel: a connection of a plain
 * client, or everything between two snapshots of a flagcast.v1 client, whatever became of its connections.
 *
 * `client`: its name. `named`: whether events are told by their ids (flagcast.v1) or by what the plain
 * dialect tells of them. `fromMs`: what was committed after this has to come. `untilMs`: when it ended; null
 * while it lasts. `received`: the events, in order, each by its `keys` (id, or plainKey).
 *
 * @typedef {{
 *   readonly client: string,
 *   readonly userId: string,
 *   readonly channel: ChaosChannel,
 *   readonly named: 'id' | 'plain',
 *   readonly fromMs: number,
 *   untilMs: number | null,
 *   readonly received: { readonly key: string, readonly atMs: number }[],
 *   readonly keys: Set<string>,
 * }} Segment
 */

/**
 * @param {Pick<Segment, 'client' | 'userId' | 'channel' | 'named'>} of
 * @param {number} [fromMs] default now
 * @returns {Segment}
 */
export function openSegment(of, fromMs = Date.now()) {
  return { ...of, fromMs, untilMs: null, received: [], keys: new Set() };
}

/**
 * @param {Segment} segment
 * @param {string} key
 */
export function receive(segment, key) {
  segment.received.push({ key, atMs: Date.now() });
  segment.keys.add(key);
}

/**
 * What identifies an event in the plain dialect, apart from its channel.
 *
 * @param {{ readonly entity_id: string, readonly action: string, readonly timestamp: string }} event
 */
export function plainKey({ entity_id, action, timestamp }) {
  return `${entity_id} ${action} ${timestamp}`;
}

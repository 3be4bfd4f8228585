/** @import { ChaosChannel } from './writers.js' */

/**
 * A period in which one client must receive every event of one channel: a connection of a plain client, or the time
 * between two snapshots of a flagcast.v1 client, over any number of connections.
 *
 * `client`: the client's name. `keyedBy`: events are identified by their ids (flagcast.v1), or by plainKey (the plain
 * dialect). `fromMs`: events committed later must be received. `untilMs`: the end, null while the segment is open.
 * `received`: the events in order. `keys`: the same, as a set.
 *
 * @typedef {{
 *   readonly client: string,
 *   readonly userId: string,
 *   readonly channel: ChaosChannel,
 *   readonly keyedBy: 'id' | 'plain',
 *   readonly fromMs: number,
 *   untilMs: number | null,
 *   readonly received: { readonly key: string, readonly atMs: number }[],
 *   readonly keys: Set<string>,
 * }} Segment
 */

/**
 * @param {Pick<Segment, 'client' | 'userId' | 'channel' | 'keyedBy'>} of
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
 * Identifies an event of a channel by the fields of the plain dialect, which has no ids.
 *
 * @param {{ readonly entity_id: string, readonly action: string, readonly timestamp: string }} event
 */
export function plainKey({ entity_id, action, timestamp }) {
  return `${entity_id} ${action} ${timestamp}`;
}

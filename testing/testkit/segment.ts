import type { EventMessage } from '@flagcast/protocol';
import type { TestChannel } from './channel.ts';
import { contentsOf } from './contents.ts';

interface Receipt {
  readonly key: string;
  readonly atMs: number;
  /** Of a step of a request: see `contentsOf`. Undefined if the event does not have the request. */
  readonly contents?: string | undefined;
}

/**
 * A period in which one client must receive every event of one channel or feed: a connection of a plain client, or the time
 * between two snapshots of a flagcast.v1 client, over any number of connections. Times are in milliseconds since the epoch.
 */
export interface Segment {
  /** The client's name. */
  readonly client: string;
  readonly userId: string;
  readonly channel: TestChannel;
  /** Events are identified by their ids (flagcast.v1), or by plainKey (the plain dialect). */
  readonly keyedBy: 'id' | 'plain';
  /** Events committed later must be received. */
  readonly fromMs: number;
  /** The end; null while the segment is open. */
  untilMs: number | null;
  /** The events in order. */
  readonly received: Receipt[];
  /** The keys of `received`. */
  readonly keys: Set<string>;
}

export function openSegment(of: Pick<Segment, 'client' | 'userId' | 'channel' | 'keyedBy'>): Segment {
  return { ...of, fromMs: Date.now(), untilMs: null, received: [], keys: new Set() };
}

export function receive(segment: Segment, key: string, event?: EventMessage): void {
  const request = event?.pending_change;
  const contents = request === undefined ? undefined : contentsOf(request);
  segment.received.push({ key, atMs: Date.now(), contents });
  segment.keys.add(key);
}

/** Identifies an event of a channel by the fields of the plain dialect, which has no ids. */
export function plainKey({
  entity_id,
  action,
  timestamp,
}: {
  readonly entity_id: string;
  readonly action: string;
  readonly timestamp: string;
}): string {
  return `${entity_id} ${action} ${timestamp}`;
}

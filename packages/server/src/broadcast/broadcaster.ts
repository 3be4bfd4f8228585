import { type Batch, channelKey, type FlagEvent } from '../events/event.js';
import type { Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import { ChannelBatch, Ring } from './ring.js';

/** What the broadcaster knows of a peer: that it wants the batches of one channel. */
export interface Subscriber {
  /** Called in order, once for every batch that holds events of the channel; must not throw or block. */
  deliver(batch: ChannelBatch): void;
  /** The database went back in time: what was delivered may not be true any more. */
  historyLost(): void;
}

export interface BroadcasterOptions {
  lifecycle: Lifecycle;
  /** How many recent events are kept for peers that fell behind or come back. Default 10,000. */
  ringEvents?: number | undefined;
}

/**
 * Who wants what: `(project_id, environment_id) -> subscribers`. Knows no socket and no SQL.
 */
export class Broadcaster {
  readonly #lifecycle: Lifecycle;
  readonly #ringEvents: number;
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  #ring: Ring;
  #sequence = 0;
  #position: Position | null = null;
  #snapshotXmax = 0n;

  constructor(options: BroadcasterOptions) {
    this.#lifecycle = options.lifecycle;
    this.#ringEvents = options.ringEvents ?? 10_000;
    this.#ring = new Ring(this.#ringEvents, 0n);
  }

  /** The number of the newest batch. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Where who has been given everything so far stands; null before the first read. */
  get position(): Position | null {
    return this.#position;
  }

  /** From now on the subscriber gets every batch of the channel, until the returned function is called. */
  subscribe(channel: string, subscriber: Subscriber): () => void {
    let subscribers = this.#subscribers.get(channel);
    if (subscribers === undefined) {
      subscribers = new Set();
      this.#subscribers.set(channel, subscribers);
    }
    subscribers.add(subscriber);
    return () => {
      subscribers.delete(subscriber);
      if (subscribers.size === 0 && this.#subscribers.get(channel) === subscribers) {
        this.#subscribers.delete(channel);
      }
    };
  }

  /** The channel's batches after batch number `sequence`; null when some are no longer kept. */
  missedSince(sequence: number, channel: string): ChannelBatch[] | null {
    return this.#ring.after(sequence, channel);
  }

  /** The channel's events that somebody at the position has not been given; null when the ring cannot tell. */
  eventsSince(position: Position, channel: string): FlagEvent[] | null {
    // A position that is ahead of ours may be another server's, or one that the database has lost.
    if (position.history !== this.#position?.history || position.horizon > this.#snapshotXmax) return null;
    return this.#ring.since(position, channel);
  }

  broadcast(batch: Batch): void {
    if (this.#position === null) this.#ring = new Ring(this.#ringEvents, batch.snapshotXmax);
    this.#position = batch.position;
    this.#snapshotXmax = batch.snapshotXmax;
    if (batch.events.length === 0) return;
    this.#sequence += 1;
    const eventsByChannel = new Map<string, FlagEvent[]>();
    for (const event of batch.events) {
      const key = channelKey(event.projectId, event.environmentId);
      const events = eventsByChannel.get(key);
      if (events === undefined) eventsByChannel.set(key, [event]);
      else events.push(event);
    }
    const channels = new Map<string, ChannelBatch>();
    for (const [key, events] of eventsByChannel) {
      channels.set(key, new ChannelBatch(this.#sequence, events, batch));
    }
    this.#ring.append({
      sequence: this.#sequence,
      eventCount: batch.events.length,
      snapshotXmax: batch.snapshotXmax,
      channels,
    });
    let deliveries = 0;
    for (const [key, channelBatch] of channels) {
      const subscribers = this.#subscribers.get(key);
      if (subscribers === undefined) continue;
      deliveries += subscribers.size * channelBatch.events.length;
      // A copy of the set is not needed: who leaves meanwhile is skipped, who comes is served.
      for (const subscriber of subscribers) subscriber.deliver(channelBatch);
    }
    this.#lifecycle.emit('batch:broadcast', {
      events: batch.events.length,
      channels: channels.size,
      deliveries,
    });
  }

  /** What was handed on belongs to a history that has ended: everybody begins anew with the next batch. */
  forget(): void {
    this.#position = null;
    this.#snapshotXmax = 0n;
    this.#ring = new Ring(this.#ringEvents, 0n);
    for (const subscribers of [...this.#subscribers.values()]) {
      for (const subscriber of [...subscribers]) subscriber.historyLost();
    }
  }
}

import { type Batch, channelKey, type FlagEvent } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';
import { ChannelBatch, Ring } from './ring.js';

/** What the broadcaster knows of a peer: that it wants the batches of one channel. */
export interface Subscriber {
  /** Called in order, once for every batch that holds events of the channel; must not throw or block. */
  deliver(batch: ChannelBatch): void;
}

export interface BroadcasterOptions {
  lifecycle: Lifecycle;
  /** How many recent events are kept for peers that fell behind. Default 10,000. */
  ringEvents?: number;
}

/**
 * Who wants what: `(project_id, environment_id) -> subscribers`. Knows no socket and no SQL.
 */
export class Broadcaster {
  readonly #lifecycle: Lifecycle;
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  readonly #ring: Ring;
  #sequence = 0;

  constructor(options: BroadcasterOptions) {
    this.#lifecycle = options.lifecycle;
    this.#ring = new Ring(options.ringEvents ?? 10_000);
  }

  /** The number of the newest batch. */
  get sequence(): number {
    return this.#sequence;
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

  broadcast(batch: Batch): void {
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
    for (const [key, events] of eventsByChannel) channels.set(key, new ChannelBatch(this.#sequence, events));
    this.#ring.append({ sequence: this.#sequence, eventCount: batch.events.length, channels });
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
}

import type { Broadcaster, ChannelEnd, Subscriber } from '../broadcast/broadcaster.js';
import { DeliveryBatch } from '../broadcast/deliveries.js';
import type { Dialect } from '../events/dialect.js';
import type { Position } from '../events/position.js';

/** Where a subscription's bytes go. */
export interface SubscriptionOutput {
  /** Hands over bytes; never blocks. */
  send(bytes: Buffer): void;
  /** The peer has so much waiting that it gets nothing more until it has drained. */
  readonly full: boolean;
}

/** What a subscription knows of its connection. */
export interface SubscriptionHost {
  readonly dialect: Dialect;
  /** The database has lost transactions: what the subscription brought may not be true any more. */
  historyLost(subscription: Subscription): void;
  /** The environment of the channel has another key now. */
  channelRenamed(subscription: Subscription, environmentKey: string): void;
  /** The channel has ended. */
  channelEnded(subscription: Subscription, reason: ChannelEnd): void;
}

/** `replaying`: missed events are being fetched; `behind`: the peer has to drain first. */
type State = 'replaying' | 'live' | 'behind' | 'ended';

/**
 * One channel of one connection. A peer that does not read gets nothing, and is not buffered for;
 * what it missed is taken from the broadcaster's ring when it has drained.
 */
export class Subscription implements Subscriber {
  readonly channel: string;
  readonly #broadcaster: Broadcaster;
  readonly #owner: SubscriptionHost;
  // Both at hand, not by way of the owner: each object that a delivery has to look at is one more that is
  // no longer in the processor's cache when thousands of others had their turn before.
  readonly #outlet: SubscriptionOutput;
  readonly #dialect: Dialect;
  #state: State = 'replaying';
  /** On the clock of performance.now(); null while it is not behind. */
  #behindSinceMs: number | null = null;
  /** The newest batch that it was given, or that is older than it; null where only its position tells what is due. */
  #after: number | null;
  /** Where the peer stands, once it has read what was sent. */
  #position: Position | null;

  /** Begins as `replaying` where the broadcaster stands now, until `goLive`. */
  constructor(
    channel: string,
    broadcaster: Broadcaster,
    owner: SubscriptionHost,
    outlet: SubscriptionOutput,
  ) {
    this.channel = channel;
    this.#broadcaster = broadcaster;
    this.#owner = owner;
    this.#outlet = outlet;
    this.#dialect = owner.dialect;
    this.#after = broadcaster.sequence;
    this.#position = broadcaster.position;
    broadcaster.subscribe(channel, this);
  }

  get isLive(): boolean {
    return this.#state === 'live';
  }

  get isBehind(): boolean {
    return this.#state === 'behind';
  }

  /** For how long the peer has had to drain, in milliseconds; null while it has not. */
  get behindForMs(): number | null {
    return this.#behindSinceMs === null ? null : performance.now() - this.#behindSinceMs;
  }

  get isEnded(): boolean {
    return this.#state === 'ended';
  }

  /** Where the peer stands; null before the first read of the database. */
  get position(): Position | null {
    return this.#position;
  }

  deliver(run: DeliveryBatch): void {
    if (this.#state !== 'live' || this.#after === null) return;
    if (this.#outlet.full) {
      if (this.#after < run.last) {
        this.#state = 'behind';
        this.#behindSinceMs = performance.now();
      }
      return;
    }
    const bytes = run.encodedAfter(this.#after, this.#dialect);
    if (bytes === null) return;
    this.#outlet.send(bytes);
    this.#after = run.last;
    this.#position = run.position;
  }

  /**
   * Whether the peer is live and has been given all that was broadcast: while others of its channel have
   * their turns, it is given that now.
   */
  flush(): boolean {
    const isDelivering = this.#broadcaster.isDelivering(this.channel);
    return this.isLive && (!isDelivering || (this.catchUp() && this.isLive));
  }

  /**
   * From now on batches after number `after` are due: what came before was sent in another way, and the
   * peer stands at `position`.
   */
  replayFrom(after: number, position: Position | null): void {
    if (this.#state === 'ended') return;
    this.#state = 'replaying';
    this.#behindSinceMs = null;
    this.#after = after;
    this.#position = position;
  }

  /** The peer has to drain before it is brought what came after the position. */
  waitAt(position: Position): void {
    if (this.#state === 'ended') return;
    this.#state = 'behind';
    this.#behindSinceMs ??= performance.now();
    this.#after = null;
    this.#position = position;
  }

  /**
   * Sends the batches that came meanwhile and becomes live, or falls behind again when the peer is
   * full; false when some of those batches are no longer kept, or it is not known which they are.
   */
  catchUp(): boolean {
    if (this.#state === 'ended') return true;
    const missed = this.#after === null ? null : this.#broadcaster.missedSince(this.#after, this.channel);
    if (missed === null) return false;
    this.#state = 'live';
    this.#behindSinceMs = null;
    // Once the peer is full again, deliver() leaves the rest for the next time.
    for (const batch of missed) this.deliver(new DeliveryBatch([batch]));
    return true;
  }

  /** The peer has been told, by a heartbeat, that it stands here. */
  advance(position: Position): void {
    this.#position = position;
  }

  historyLost(): void {
    this.#owner.historyLost(this);
  }

  channelRenamed(environmentKey: string): void {
    this.#owner.channelRenamed(this, environmentKey);
  }

  channelEnded(reason: ChannelEnd): void {
    this.#owner.channelEnded(this, reason);
  }

  end(): void {
    this.#state = 'ended';
    this.#broadcaster.unsubscribe(this.channel, this);
  }
}

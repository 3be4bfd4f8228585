import type { Broadcaster, ChannelChange, Subscriber } from '../broadcast/broadcaster.js';
import { DeliveryBatch } from '../broadcast/deliveries.js';
import type { Dialect } from '../events/dialect.js';
import type { Position } from '../events/position.js';
import type { Connection } from './connection.js';

export interface SubscriptionOptions {
  /** Of `channelKey()`. */
  key: string;
  broadcaster: Broadcaster;
  connection: Connection;
  dialect: Dialect;
}

/** `replaying`: missed events are being fetched; `behind`: the connection has to drain first. */
type State = 'replaying' | 'live' | 'behind' | 'ended';

/**
 * One channel of one connection. While the connection is full it gets nothing, and nothing is buffered for it: the missed
 * batches come from the replay buffer when it has drained.
 */
export abstract class Subscription implements Subscriber {
  readonly key: string;
  readonly dialect: Dialect;
  protected readonly connection: Connection;
  readonly #broadcaster: Broadcaster;
  #state: State = 'replaying';
  /** By performance.now(); null while it is not behind. */
  #behindSinceMs: number | null = null;
  /** Batches up to this number were sent, or are older than the position; null: only the position says what is missing. */
  #after: number | null;
  /** Everything before it was sent. */
  #position: Position | null;

  /** Begins as `replaying` at the newest batch. */
  constructor({ key, broadcaster, connection, dialect }: SubscriptionOptions) {
    this.key = key;
    this.#broadcaster = broadcaster;
    this.connection = connection;
    this.dialect = dialect;
    this.#after = broadcaster.sequence;
    this.#position = broadcaster.position;
    broadcaster.subscribe(key, this);
  }

  abstract changed(change: ChannelChange): void;

  get isLive(): boolean {
    return this.#state === 'live';
  }

  get isBehind(): boolean {
    return this.#state === 'behind';
  }

  get isEnded(): boolean {
    return this.#state === 'ended';
  }

  get behindForMs(): number | null {
    return this.#behindSinceMs === null ? null : performance.now() - this.#behindSinceMs;
  }

  /** Null before the first read of the database. */
  get position(): Position | null {
    return this.#position;
  }

  deliver(batch: DeliveryBatch): void {
    if (this.#state !== 'live' || this.#after === null) return;
    if (this.connection.isFull) {
      if (this.#after < batch.last) {
        this.#state = 'behind';
        this.#behindSinceMs = performance.now();
      }
      return;
    }
    if (this.#after >= batch.last) return;
    const bytes = this.encodeAfter(batch, this.#after);
    if (bytes !== null) this.connection.send(bytes);
    this.#after = batch.last;
    this.#position = batch.position;
  }

  /** The events after batch number `after` that it receives; null if there are none. */
  protected encodeAfter(batch: DeliveryBatch, after: number): Buffer | null {
    return batch.encodedAfter(after, this.dialect);
  }

  /** Sends the rest of a delivery in progress. Returns whether all that was broadcast is sent now. */
  flush(): boolean {
    const isDelivering = this.#broadcaster.isDelivering(this.key);
    return this.isLive && (!isDelivering || (this.catchUp() && this.isLive));
  }

  /** Everything up to batch number `after` was sent in another way, and the client is at `position`. */
  replayFrom(after: number, position: Position | null): void {
    if (this.#state === 'ended') return;
    this.#state = 'replaying';
    this.#behindSinceMs = null;
    this.#after = after;
    this.#position = position;
  }

  /** The connection has to drain before the events after `position` are sent. */
  waitAt(position: Position): void {
    if (this.#state === 'ended') return;
    this.#state = 'behind';
    this.#behindSinceMs ??= performance.now();
    this.#after = null;
    this.#position = position;
  }

  /**
   * Sends the batches that were missed. Then it is live, or behind again if the connection is full. False: the replay
   * buffer does not have all of them, or it is unknown which they are.
   */
  catchUp(): boolean {
    if (this.#state === 'ended') return true;
    const missed = this.#after === null ? null : this.#broadcaster.buffer.after(this.#after, this.key);
    if (missed === null) return false;
    this.#state = 'live';
    this.#behindSinceMs = null;
    // As soon as the connection is full, deliver() leaves the rest for the next time.
    for (const batch of missed) this.deliver(new DeliveryBatch([batch]));
    return true;
  }

  /** The client was sent this position as a cursor. */
  advance(position: Position): void {
    this.#position = position;
  }

  end(): void {
    this.#state = 'ended';
    this.#broadcaster.unsubscribe(this.key, this);
  }
}

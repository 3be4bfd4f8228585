import type { Broadcaster, Subscriber } from '../broadcast/broadcaster.js';
import type { ChannelBatch } from '../broadcast/ring.js';
import type { Dialect } from '../events/dialect.js';
import type { Position } from '../events/position.js';

/** What a subscription knows of its connection. */
export interface Outlet {
  readonly dialect: Dialect;
  /** Hands over bytes; never blocks. */
  send(bytes: Buffer): void;
  /** The peer has so much waiting that it gets nothing more until it has drained. */
  readonly full: boolean;
  /** The database has lost transactions: what the subscription brought may not be true any more. */
  historyLost(subscription: Subscription): void;
}

/**
 * - `replaying`: missed events are being fetched; `live`; `behind`: the peer has to drain first, and then
 * batches after number `after` are due, or what came after its position where that is null; `ended`.
 */
type State =
  | { readonly name: 'replaying'; readonly after: number }
  | { readonly name: 'live' }
  | { readonly name: 'behind'; readonly after: number | null }
  | { readonly name: 'ended' };

/**
 * One channel of one connection. A peer that does not read gets nothing, and is not buffered for;
 * what it missed is taken from the broadcaster's ring when it has drained.
 */
export class Subscription implements Subscriber {
  readonly channel: string;
  readonly #broadcaster: Broadcaster;
  readonly #outlet: Outlet;
  readonly #leave: () => void;
  #state: State;
  /** Where the peer stands, once it has read what was sent. */
  #position: Position | null;

  /** Begins as `replaying` where the broadcaster stands now, until `goLive`. */
  constructor(channel: string, broadcaster: Broadcaster, outlet: Outlet) {
    this.channel = channel;
    this.#broadcaster = broadcaster;
    this.#outlet = outlet;
    this.#state = { name: 'replaying', after: broadcaster.sequence };
    this.#position = broadcaster.position;
    this.#leave = broadcaster.subscribe(channel, this);
  }

  get isLive(): boolean {
    return this.#state.name === 'live';
  }

  get isBehind(): boolean {
    return this.#state.name === 'behind';
  }

  get isEnded(): boolean {
    return this.#state.name === 'ended';
  }

  /** Where the peer stands; null before the first read of the database. */
  get position(): Position | null {
    return this.#position;
  }

  deliver(batch: ChannelBatch): void {
    if (this.#state.name !== 'live') return;
    if (this.#outlet.full) {
      this.#state = { name: 'behind', after: batch.sequence - 1 };
      return;
    }
    this.#outlet.send(batch.encoded(this.#outlet.dialect));
    this.#position = batch.position;
  }

  /**
   * From now on batches after number `after` are due: what came before was sent in another way, and the
   * peer stands at `position`.
   */
  replayFrom(after: number, position: Position | null): void {
    if (this.#state.name === 'ended') return;
    this.#state = { name: 'replaying', after };
    this.#position = position;
  }

  /** The peer has to drain before it is brought what came after the position. */
  waitAt(position: Position): void {
    if (this.#state.name === 'ended') return;
    this.#state = { name: 'behind', after: null };
    this.#position = position;
  }

  /**
   * Sends the batches that came meanwhile and becomes live, or falls behind again when the peer is
   * full; false when some of those batches are no longer kept, or it is not known which they are.
   */
  catchUp(): boolean {
    const state = this.#state;
    if (state.name === 'live' || state.name === 'ended') return true;
    const missed = state.after === null ? null : this.#broadcaster.missedSince(state.after, this.channel);
    if (missed === null) return false;
    this.#state = { name: 'live' };
    // Once the peer is full again, deliver() leaves the rest for the next time.
    for (const batch of missed) this.deliver(batch);
    return true;
  }

  /** The peer has been told, by a heartbeat, that it stands here. */
  advance(position: Position): void {
    this.#position = position;
  }

  historyLost(): void {
    this.#outlet.historyLost(this);
  }

  end(): void {
    this.#state = { name: 'ended' };
    this.#leave();
  }
}

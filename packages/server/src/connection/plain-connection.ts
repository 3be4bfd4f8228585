import { CloseCode } from '@flagcast/protocol';
import type { Channel } from '../access/access.js';
import type { Broadcaster } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { channelKey } from '../events/event.js';
import { answerPlain } from '../wire/plain-input.js';
import type { Peer } from './peer.js';
import { type Outlet, Subscription } from './subscription.js';

export interface PlainConnectionOptions {
  peer: Peer;
  dialect: Dialect;
  broadcaster: Broadcaster;
  channel: Channel;
  /** Past this many bytes that the network has not taken the peer gets nothing more until it has drained. */
  highWaterBytes: number;
}

/**
 * One plain peer on one channel. It has no cursor: what it missed while it did not read is brought
 * from the broadcaster's ring, and when that no longer reaches back far enough it is closed, with a
 * code that tells it to reconnect.
 */
export class PlainConnection implements Outlet {
  readonly dialect: Dialect;
  readonly #options: PlainConnectionOptions;
  readonly #subscription: Subscription;
  #behindSinceMs: number | null = null;
  /** Whether it is worth asking how much is waiting: it is asked before and after each of very many writes. */
  #isFilling = false;
  #closed = false;

  constructor(options: PlainConnectionOptions) {
    this.#options = options;
    this.dialect = options.dialect;
    const { projectId, environmentId } = options.channel;
    this.#subscription = new Subscription(channelKey(projectId, environmentId), options.broadcaster, this);
    this.#subscription.catchUp();
  }

  get full(): boolean {
    return this.#isFilling && this.#options.peer.bufferedAmount > this.#options.highWaterBytes;
  }

  /** Since when the peer is not keeping up, in milliseconds since the epoch; null while it does. */
  get pausedSinceMs(): number | null {
    return this.#behindSinceMs;
  }

  channels(): Channel[] {
    return this.#closed ? [] : [this.#options.channel];
  }

  send(bytes: Buffer): void {
    this.#isFilling = !this.#options.peer.send(bytes);
    if (this.full) this.#behindSinceMs ??= Date.now();
  }

  /** Takes a message of the peer. One that does not read the answers gets none: they would pile up. */
  receive(data: Buffer, isBinary: boolean): void {
    const answer = isBinary || this.full ? null : answerPlain(data);
    if (answer !== null) this.send(answer);
  }

  /** To be called when the peer's buffer is empty. */
  drained(): void {
    this.#behindSinceMs = null;
    if (!this.#subscription.catchUp()) this.close(CloseCode.slow, 'fell too far behind');
  }

  revoke(mayView: (channel: Channel) => boolean): void {
    if (mayView(this.#options.channel)) return;
    this.close(CloseCode.forbidden, 'you may no longer see this project');
  }

  /** The plain dialect has no word for where a peer stands. */
  heartbeat(): void {
    return;
  }

  /** A plain client cannot be told: it comes back and fetches its state anew. */
  historyLost(): void {
    this.close(CloseCode.historyLost, 'the database has lost transactions');
  }

  close(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    this.ended();
    this.#options.peer.close(code, reason);
  }

  /** To be called when the peer is gone. */
  ended(): void {
    this.#closed = true;
    this.#subscription.end();
  }
}

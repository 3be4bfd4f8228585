import { CloseCode } from '@flagcast/protocol';
import type { Channel } from '../auth/table-authorization.js';
import type { Broadcaster, ChannelEnd } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { channelKey } from '../events/event.js';
import { answerPlain } from './codecs/plain-input.js';
import type { Connection } from './connection.js';
import { Subscription, type SubscriptionHost } from './subscription.js';

export interface PlainSessionOptions {
  peer: Connection;
  dialect: Dialect;
  broadcaster: Broadcaster;
  channel: Channel;
}

/**
 * One plain peer on one channel. It has no cursor: what it missed while it did not read is brought
 * from the broadcaster's ring, and when that no longer reaches back far enough it is closed, with a
 * code that tells it to reconnect.
 */
export class PlainSession implements SubscriptionHost {
  readonly dialect: Dialect;
  readonly #peer: Connection;
  readonly #channel: Channel;
  readonly #subscription: Subscription;
  #closed = false;

  constructor({ peer, dialect, broadcaster, channel }: PlainSessionOptions) {
    this.dialect = dialect;
    this.#peer = peer;
    this.#channel = channel;
    const key = channelKey(channel.projectId, channel.environmentId);
    this.#subscription = new Subscription(key, broadcaster, this, peer);
    this.#subscription.catchUp();
  }

  channels(): Channel[] {
    return this.#closed ? [] : [this.#channel];
  }

  /** Takes a message of the peer. One that does not read the answers gets none: they would pile up. */
  receive(data: Buffer, isBinary: boolean): void {
    const answer = isBinary || this.#peer.full ? null : answerPlain(data);
    if (answer !== null) this.#peer.send(answer);
  }

  /** To be called when the peer's buffer is empty. */
  drained(): void {
    this.#peer.drained();
    if (!this.#subscription.catchUp()) this.close(CloseCode.slow, 'fell too far behind');
  }

  revoke(mayView: (channel: Channel) => boolean): boolean {
    if (this.#closed || mayView(this.#channel)) return false;
    this.close(CloseCode.forbidden, 'you may no longer see this project');
    return true;
  }

  /** The plain dialect has no word for where a peer stands. */
  heartbeat(): void {
    return;
  }

  /** A plain client cannot be told: it comes back and fetches its state anew. */
  historyLost(): void {
    this.close(CloseCode.historyLost, 'the database has lost transactions');
  }

  /** The plain dialect has no message for it: the events of the channel carry the new key. */
  channelRenamed(): void {
    return;
  }

  channelEnded(_subscription: Subscription, reason: ChannelEnd): void {
    this.close(CloseCode.unknownChannel, reason);
  }

  /** The plain dialect has no message for it. A client that would be misled for too long is closed. */
  freshness(): void {
    return;
  }

  close(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    this.ended();
    this.#peer.close(code, reason);
  }

  /** To be called when the peer is gone. */
  ended(): void {
    this.#closed = true;
    this.#subscription.end();
  }
}

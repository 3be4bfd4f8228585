import { CloseCode, type CloseReason } from '@flagcast/protocol';
import type { Channel } from '../auth/authorization.js';
import type { Broadcaster, ChannelEnd } from '../broadcast/broadcaster.js';
import type { Dialect } from '../events/dialect.js';
import { channelKey } from '../events/event.js';
import { answerPlain } from './codecs/plain.js';
import type { Connection, Session } from './connection.js';
import { Subscription } from './subscription.js';

export interface PlainSessionOptions {
  connection: Connection;
  dialect: Dialect;
  broadcaster: Broadcaster;
  channel: Channel;
}

/**
 * A plain connection and its one channel. The dialect has no cursor: what the client misses while it does not read comes
 * from the replay buffer, and if that does not have all of it, the connection is closed.
 */
export class PlainSession extends Subscription implements Session {
  readonly approvalsScope = null;
  readonly #channel: Channel;

  constructor({ connection, dialect, broadcaster, channel }: PlainSessionOptions) {
    super({ key: channelKey(channel.projectId, channel.environmentId), broadcaster, connection, dialect });
    this.#channel = channel;
    this.catchUp();
  }

  channels(): Channel[] {
    return this.isEnded ? [] : [this.#channel];
  }

  /** Answers a ping, unless the client does not read the answers. */
  receive(data: Buffer, isBinary: boolean): void {
    const answer = isBinary || this.connection.isFull ? null : answerPlain(data);
    if (answer !== null) this.connection.send(answer);
  }

  drained(): void {
    if (this.isEnded) return;
    this.connection.drained();
    if (!this.catchUp()) this.close(CloseCode.slow, 'slow');
  }

  revoke(mayView: (channel: Channel) => boolean): boolean {
    if (this.isEnded || mayView(this.#channel)) return false;
    this.close(CloseCode.forbidden, 'forbidden');
    return true;
  }

  /** The client reconnects and loads the state again. */
  historyLost(): void {
    this.close(CloseCode.historyLost, 'history_lost');
  }

  channelEnded(reason: ChannelEnd): void {
    this.close(CloseCode.unknownChannel, reason);
  }

  // The dialect has no approvals feed.
  rescope(): void {
    return;
  }

  channelsChanged(): void {
    return;
  }

  // The dialect has no messages for these. Events have the new key; stale connections are closed after a while.
  channelRenamed(): void {
    return;
  }

  sendHeartbeat(): void {
    return;
  }

  sendFreshness(): void {
    return;
  }

  close(code: CloseCode, reason: CloseReason): void {
    if (this.isEnded) return;
    this.end();
    this.connection.close(code, reason);
  }
}

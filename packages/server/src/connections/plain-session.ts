import { CloseCode, type CloseReason } from '@flagcast/protocol';
import type { Channel } from '../auth/authorization.js';
import type { Broadcaster, ChannelChange } from '../broadcast/broadcaster.js';
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

  /** After a lost history the client reconnects and loads the state again. After a rename the events have the new key. */
  changed(change: ChannelChange): void {
    if (change.type === 'history_lost') this.close(CloseCode.historyLost, 'history_lost');
    if (change.type === 'ended') this.close(CloseCode.unknownChannel, change.reason);
  }

  close(code: CloseCode, reason: CloseReason): void {
    if (this.isEnded) return;
    this.end();
    this.connection.close(code, reason);
  }
}

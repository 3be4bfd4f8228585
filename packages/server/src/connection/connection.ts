import { CloseCode } from '@flagcast/protocol';
import type { Broadcaster, Subscriber } from '../broadcast/broadcaster.js';
import type { ChannelBatch } from '../broadcast/ring.js';
import type { Dialect } from '../events/dialect.js';

/** All that a connection knows of its socket. */
export interface Peer {
  /** Hands over bytes; never blocks. What the network does not take is buffered. */
  send(bytes: Buffer): void;
  /** Ends the connection with a close code and a short reason. */
  close(code: CloseCode, reason: string): void;
  /** How many bytes are waiting for the network. */
  readonly bufferedAmount: number;
}

export interface ConnectionOptions {
  peer: Peer;
  dialect: Dialect;
  broadcaster: Broadcaster;
  /** The channel's key. */
  channel: string;
  /** Past this many bytes that the network has not taken the peer gets nothing more until it has drained. */
  highWaterBytes: number;
}

/**
 * One peer on one channel. A peer that does not read is paused, and not buffered for: when it has
 * drained it is brought up to date from what the broadcaster keeps, and it is closed, with a code
 * that tells it to reconnect, when that no longer reaches back far enough.
 */
export class Connection implements Subscriber {
  readonly #options: ConnectionOptions;
  readonly #unsubscribe: () => void;
  /** The last batch that was sent before the pause; null while not paused. */
  #pausedAfter: number | null = null;
  #pausedAtMs = 0;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#unsubscribe = options.broadcaster.subscribe(options.channel, this);
  }

  /** Since when the peer is not keeping up, in milliseconds since the epoch; null while it does. */
  get pausedSinceMs(): number | null {
    return this.#pausedAfter === null ? null : this.#pausedAtMs;
  }

  deliver(batch: ChannelBatch): void {
    if (this.#closed || this.#pausedAfter !== null) return;
    this.#send(batch);
  }

  /** To be called when the peer's buffer is empty. */
  drained(): void {
    if (this.#closed || this.#pausedAfter === null) return;
    const { broadcaster, channel } = this.#options;
    const missed = broadcaster.missedSince(this.#pausedAfter, channel);
    if (missed === null) {
      this.close(CloseCode.slow, 'fell too far behind');
      return;
    }
    this.#pausedAfter = null;
    for (const batch of missed) {
      if (!this.#send(batch)) return;
    }
  }

  /** A plain client cannot be told: it comes back and fetches its state anew. */
  historyLost(): void {
    this.close(CloseCode.historyLost, 'the database has lost transactions');
  }

  close(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    this.closed();
    this.#options.peer.close(code, reason);
  }

  /** To be called when the peer is gone. */
  closed(): void {
    this.#closed = true;
    this.#unsubscribe();
  }

  /** False when the peer has to drain before it gets more. */
  #send(batch: ChannelBatch): boolean {
    const { peer, dialect, highWaterBytes } = this.#options;
    peer.send(batch.encoded(dialect));
    if (peer.bufferedAmount <= highWaterBytes) return true;
    this.#pausedAfter = batch.sequence;
    this.#pausedAtMs = Date.now();
    return false;
  }
}

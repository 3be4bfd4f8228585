import type { CloseCode, CloseReason, FreshnessMessage } from '@flagcast/protocol';
import type { Principal } from '../auth/request-authorizer.js';
import type { ApprovalsScope, Channel } from '../auth/authorization.js';
import type { Dialect } from '../events/dialect.js';
import type { ChannelsChange } from '../lifecycle.js';
import type { Heartbeat } from './codecs/v1.js';
import type { ConnectionRegistry } from './connection-registry.js';

/** A connection with more bytes in its buffer is paused. It is more than the buffer that a socket fills before `drain`. */
const maxBufferedBytes = 1_048_576;

/** The channels of one connection, in its dialect: PlainSession or V1Session. */
export interface Session {
  readonly dialect: Dialect;
  /** Takes a message of the client. Never throws. */
  receive(data: Buffer, isBinary: boolean): void;
  channels(): Channel[];
  /** Of the approvals feed; null if it is not subscribed, as always in the plain dialect. */
  readonly approvalsScope: ApprovalsScope | null;
  /** Ends the channels that the user may no longer view. Returns whether there were any. */
  revoke(mayView: (channel: Channel) => boolean): boolean;
  /** What the user may view now; null if the user may not connect any more. */
  rescope?(scope: ApprovalsScope | null): void;
  channelsChanged?(change: ChannelsChange): void;
  /** The plain dialect has no message for it, nor for the next. */
  sendHeartbeat?(heartbeat: Heartbeat): void;
  /** The server has become stale or fresh. */
  sendFreshness?(message: FreshnessMessage): void;
  /** The connection's buffer is empty. */
  drained(): void;
  close(code: CloseCode, reason: CloseReason): void;
  /** The connection is closed. */
  end(): void;
}

/**
 * One open WebSocket or event stream. It never holds bytes itself: while the transport's buffer is full, the session sends
 * nothing, and continues when it has drained.
 */
export abstract class Connection {
  /** Unique in this process; set by the registry. */
  connectionId = 0;
  #principal: Principal;
  /** False from a ping until its pong. */
  hasAnswered = true;
  abstract readonly session: Session;
  protected readonly registry: ConnectionRegistry;
  /** Whether the buffer may hold bytes: only then is its length read, which would take long for thousands of writes. */
  #isBuffering = false;
  #isIdle = false;
  /** The first code and reason of `close`. */
  #closedWith: { readonly code: number; readonly reason: string } | null = null;

  constructor(principal: Principal, registry: ConnectionRegistry) {
    this.#principal = principal;
    this.registry = registry;
  }

  get principal(): Principal {
    return this.#principal;
  }

  /** The client has sent a new token. */
  renew(principal: Principal): void {
    this.#principal = principal;
    this.registry.renewed(this);
  }

  /** The bytes that the kernel has not accepted. */
  protected abstract get bufferedAmount(): number;

  /** Hands bytes to the transport if it is open. False: its buffer is filling. */
  protected abstract write(bytes: Buffer): boolean;

  protected abstract closeTransport(code: CloseCode, reason: CloseReason): void;

  /** Ends the connection without a close code. */
  abstract terminate(): void;

  /** Expects a pong, where the transport has one. */
  ping(): void {
    return;
  }

  /** Sends an empty frame if nothing was sent since the last call. Event streams have heartbeats instead. */
  sendKeepAlive(): void {
    return;
  }

  /** A resync has ended the last channel. A stream closes then, because its client cannot subscribe again. */
  onLastChannelEnded(): void {
    return;
  }

  /** So much is buffered that nothing more may be sent. */
  get isFull(): boolean {
    return this.#isBuffering && this.bufferedAmount > maxBufferedBytes;
  }

  send(bytes: Buffer): void {
    this.#isIdle = false;
    this.onWritten(this.write(bytes));
  }

  /** Takes the result of `write`, also later for bytes that were only collected. */
  onWritten(hasRoom: boolean): void {
    this.#isBuffering = !hasRoom;
    if (!this.isFull || !this.registry.pause(this)) return;
    this.registry.lifecycle.emit('connection:paused', { dialect: this.session.dialect.name });
  }

  /** Whether nothing was sent since the last call. */
  protected takeIdle(): boolean {
    const wasIdle = this.#isIdle;
    this.#isIdle = true;
    return wasIdle;
  }

  /** The buffer is empty. */
  drained(): void {
    const pausedSinceMs = this.registry.paused.get(this);
    if (pausedSinceMs !== undefined && this.#closedWith === null) {
      const pausedMs = Date.now() - pausedSinceMs;
      this.registry.lifecycle.emit('connection:drained', { dialect: this.session.dialect.name, pausedMs });
    }
    this.registry.resume(this);
  }

  /** Ends the connection with a close code. One that does not read it is terminated like a slow one. */
  close(code: CloseCode, reason: CloseReason): void {
    this.#closedWith ??= { code, reason };
    this.expectEnd();
    this.closeTransport(code, reason);
  }

  /** The connection is terminated if it has not ended after the time-out of slow ones. */
  expectEnd(): void {
    this.registry.pause(this);
  }

  /** The transport is closed, with this code unless the server had closed it with another one. */
  ended(code: number, reason: string): void {
    this.session.end();
    const ended = this.#closedWith ?? { code, reason };
    this.registry.remove(this, ended.code, ended.reason);
  }
}

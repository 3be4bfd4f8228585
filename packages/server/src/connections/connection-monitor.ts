import { CloseCode } from '@flagcast/protocol';
import type { Authorization } from '../auth/authorization.js';
import { Heartbeat } from './heartbeat.js';
import type { Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import type { Freshness } from '../reader/freshness.js';
import { type OpenConnection, connectionParts, type ConnectionRegistry } from './connection-registry.js';
import type { ResolvedConnectionTimeouts } from './connection-timeouts.js';
import { AccessRecheck } from './access-recheck.js';

/** The least time from one part of the peers to the next, in milliseconds: a timer costs something as well. */
const leastTickMs = 250;

export interface ConnectionMonitorOptions extends ResolvedConnectionTimeouts {
  peers: ConnectionRegistry;
  /** Where whoever has been given everything so far stands; null before the first read. */
  position: () => Position | null;
  authorization: Authorization;
  freshness: Pick<Freshness, 'isFresh' | 'asOf' | 'staleForMs' | 'staleMessage'>;
  /** What is said to many in it goes out together. */
  cork: (work: () => void) => void;
  lifecycle: Lifecycle;
}

/**
 * Looks after all open sockets together, with one timer for each question and not one a socket:
 * whose token has ended, who does not answer, who does not read, who may no longer look.
 */
export class ConnectionMonitor {
  readonly #options: ConnectionMonitorOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  #rechecking = false;
  #isRecheckDue = false;
  /** Since when rights cannot be checked while events come, by the clock that never goes back; null while they can. */
  #uncheckedSinceMs: number | null = null;

  constructor(options: ConnectionMonitorOptions) {
    this.#options = options;
    const { lifecycle } = options;
    lifecycle.on('rights:changed', () => void this.#recheck());
    lifecycle.on('freshness:changed', () => this.#sendFreshness());
  }

  start(): void {
    const { sweepIntervalMs, pingIntervalMs, quietIntervalMs, recheckIntervalMs, heartbeatIntervalMs } =
      this.#options;
    this.#timers.push(
      setInterval(() => this.#closeExpiredAndSlow(), sweepIntervalMs),
      setInterval(() => void this.#recheck(), recheckIntervalMs),
      this.#inParts(pingIntervalMs, (peers) => this.#ping(peers)),
      this.#inParts(heartbeatIntervalMs, (peers) => this.#beat(peers)),
      this.#inParts(quietIntervalMs, (peers) => {
        for (const peer of peers) peer.keepOpen();
      }),
    );
    // The server's sockets keep the process alive, not these.
    for (const timer of this.#timers) timer.unref();
  }

  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  /**
   * Comes to each peer once every interval, to a part of them at a time: thousands that are written to at once,
   * and answer at once, would hold up everything else.
   */
  #inParts(intervalMs: number, visit: (peers: Iterable<OpenConnection>) => void): NodeJS.Timeout {
    const ticks = Math.min(connectionParts, Math.max(1, Math.floor(intervalMs / leastTickMs)));
    let tick = 0;
    return setInterval(() => {
      const first = Math.floor((tick * connectionParts) / ticks);
      tick = (tick + 1) % ticks;
      const end = tick === 0 ? connectionParts : Math.floor((tick * connectionParts) / ticks);
      this.#options.cork(() => visit(this.#options.peers.parts(first, end)));
    }, intervalMs / ticks);
  }

  /** Sends every connection whether the server is fresh; closes none. */
  #sendFreshness(): void {
    const { peers, freshness, cork } = this.#options;
    const message = freshness.staleMessage ?? { type: 'freshness', state: 'fresh' };
    cork(() => {
      for (const { connection } of peers.open) connection.freshness(message);
    });
  }

  #closeExpiredAndSlow(): void {
    const nowMs = Date.now();
    const { freshness, staleTimeoutMs } = this.#options;
    const isStale = freshness.staleForMs > staleTimeoutMs;
    for (const peer of this.#options.peers.open) {
      const { connection, pausedSinceMs } = peer;
      // The plain dialect has no message for it.
      if (isStale && peer.dialect === 'plain') {
        connection.close(CloseCode.unavailable, 'the server cannot read the database');
      }
      if (peer.expiresAtMs <= nowMs) connection.close(CloseCode.tokenExpired, 'the token has expired');
      if (pausedSinceMs !== null && pausedSinceMs + this.#options.slowTimeoutMs <= nowMs) {
        connection.close(CloseCode.slow, 'did not read for too long');
        // It would not read the close frame either, and its buffer would stay.
        peer.terminate();
      }
    }
  }

  #ping(peers: Iterable<OpenConnection>): void {
    for (const peer of peers) {
      if (peer.answered) {
        peer.ping();
      } else {
        peer.connection.close(CloseCode.unresponsive, 'did not answer a ping');
        peer.terminate();
      }
    }
  }

  #beat(peers: Iterable<OpenConnection>): void {
    const position = this.#options.position();
    if (position === null) return;
    const beat = new Heartbeat(position, this.#options.freshness.asOf);
    for (const { connection } of peers) connection.heartbeat(beat);
  }

  /** One question for all. While the database does not answer nobody is cut off: no events come either. */
  async #recheck(): Promise<void> {
    const { peers, authorization, lifecycle } = this.#options;
    if (peers.open.size === 0) return;
    if (this.#rechecking) {
      // Rights may have changed since that question was sent.
      this.#isRecheckDue = true;
      return;
    }
    this.#rechecking = true;
    const startedAtMs = performance.now();
    try {
      const checked = [...peers.open];
      const viewers = new AccessRecheck();
      for (const { user, connection } of checked) {
        for (const channel of connection.channels()) viewers.add(user.id, channel);
      }
      viewers.allow(await authorization.recheck(viewers.all));
      this.#uncheckedSinceMs = null;
      let closed = 0;
      for (const { user, connection } of checked) {
        if (connection.revoke((channel) => viewers.mayView(user.id, channel))) closed += 1;
      }
      const durationMs = performance.now() - startedAtMs;
      lifecycle.emit('access:rechecked', { connections: checked.length, closed, durationMs });
    } catch (error) {
      lifecycle.emit('access:failed', { error: error instanceof Error ? error : new Error(String(error)) });
      this.#endUnchecked();
    } finally {
      this.#rechecking = false;
    }
    if (!this.#isRecheckDue) return;
    this.#isRecheckDue = false;
    await this.#recheck();
  }

  /** Where only the question about rights fails, a right that was taken away would count for ever. */
  #endUnchecked(): void {
    const { peers, freshness, recheckPatienceMs } = this.#options;
    const nowMs = performance.now();
    this.#uncheckedSinceMs = freshness.isFresh ? (this.#uncheckedSinceMs ?? nowMs) : null;
    if (this.#uncheckedSinceMs === null || nowMs - this.#uncheckedSinceMs < recheckPatienceMs) return;
    for (const { connection } of peers.open) {
      if (connection.channels().length > 0)
        connection.close(CloseCode.unavailable, 'your rights cannot be checked');
    }
  }
}

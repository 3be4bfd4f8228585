import { CloseCode, type FreshnessMessage } from '@flagcast/protocol';
import {
  type ApprovalsScope,
  type Authorization,
  type Channel,
  type Viewer,
  viewerKey,
} from '../auth/authorization.js';
import type { Position } from '../events/position.js';
import type { Lifecycle } from '../lifecycle.js';
import type { Freshness } from '../reader/freshness.js';
import { Heartbeat } from './codecs/v1.js';
import type { Connection } from './connection.js';
import { type ConnectionRegistry, partitionCount } from './connection-registry.js';
import { toError } from '../describe.js';

const defaultTimeouts = {
  /** How often token expiry and slow connections are checked, in milliseconds. Default 1,000. */
  checkIntervalMs: 1_000,
  /** How often clients are pinged, in milliseconds; one that has not answered by the next ping is dropped. Default 180,000. */
  pingIntervalMs: 180_000,
  // Proxies close connections that are silent for a minute. An empty pong costs less than half of a ping with its answer.
  /** A connection to which nothing was sent for so long is sent an empty frame, in milliseconds. Default 25,000. */
  keepAliveIntervalMs: 25_000,
  /** How often the rights of all are checked, in milliseconds. Default 25,000: a revoked right ends within 30 s. */
  recheckIntervalMs: 25_000,
  /** How often flagcast.v1 clients are sent a heartbeat, in milliseconds. Default 13,500. */
  heartbeatIntervalMs: 13_500,
  /** How long connections stay open while events arrive but rights cannot be checked, in milliseconds. Default 60,000. */
  recheckTimeoutMs: 60_000,
  /** How long a connection may be paused, in milliseconds. Default 30,000. */
  slowTimeoutMs: 30_000,
  /** How long plain connections stay open while the server is stale, in milliseconds. Default 60,000. */
  staleTimeoutMs: 60_000,
};

type ResolvedTimeouts = Readonly<typeof defaultTimeouts>;

/** Intervals and time-outs of open connections. */
export type ConnectionTimeouts = { readonly [Name in keyof ResolvedTimeouts]?: number | undefined };

/** Replaces what is absent or undefined with the defaults. */
export function resolveTimeouts(timeouts: ConnectionTimeouts = {}): ResolvedTimeouts {
  const resolved = { ...defaultTimeouts };
  for (const name of Object.keys(resolved) as (keyof ResolvedTimeouts)[]) {
    resolved[name] = timeouts[name] ?? resolved[name];
  }
  return resolved;
}

/** The shortest interval of a timer for a part of the connections, in milliseconds. */
const minTickMs = 250;

export interface ConnectionMonitorOptions extends ResolvedTimeouts {
  registry: ConnectionRegistry;
  /** The position after everything that was broadcast; null before the first read. */
  position: () => Position | null;
  authorization: Authorization;
  freshness: Pick<Freshness, 'isFresh' | 'asOf' | 'staleForMs' | 'staleMessage'>;
  /** Writes to many connections in `work` are sent together. */
  cork: (work: () => void) => void;
  lifecycle: Lifecycle;
}

/**
 * Checks all connections periodically: token expiry, pings, slow clients, rights. One timer for each check, because timers
 * for each of thousands of connections cost more.
 */
export class ConnectionMonitor {
  readonly #options: ConnectionMonitorOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  #isRechecking = false;
  /** Rights may have changed after the query of the recheck in progress. */
  #isRecheckDue = false;
  /** Since when rights cannot be checked while events are delivered, by performance.now(); else null. */
  #uncheckedSinceMs: number | null = null;

  constructor(options: ConnectionMonitorOptions) {
    this.#options = options;
    const { lifecycle } = options;
    lifecycle.on('rights:changed', () => void this.#recheck());
    lifecycle.on('channels:changed', (change) => {
      for (const { session } of options.registry.connections()) session.channelsChanged?.(change);
    });
    lifecycle.on('freshness:changed', () => this.#sendFreshness());
  }

  start(): void {
    const { checkIntervalMs, pingIntervalMs, keepAliveIntervalMs, recheckIntervalMs, heartbeatIntervalMs } =
      this.#options;
    this.#timers.push(
      setInterval(() => this.#closeExpiredAndSlow(), checkIntervalMs),
      setInterval(() => void this.#recheck(), recheckIntervalMs),
      this.#startTimer(pingIntervalMs, (connections) => this.#ping(connections)),
      this.#startTimer(heartbeatIntervalMs, (connections) => this.#sendHeartbeat(connections)),
      this.#startTimer(keepAliveIntervalMs, (connections) => {
        for (const connection of connections) connection.sendKeepAlive();
      }),
    );
    // Only the server's sockets keep the process running.
    for (const timer of this.#timers) timer.unref();
  }

  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  /** Visits each connection once in every interval, a part of them at a time: all at once would block the event loop. */
  #startTimer(intervalMs: number, visit: (connections: Iterable<Connection>) => void): NodeJS.Timeout {
    const ticks = Math.min(partitionCount, Math.max(1, Math.floor(intervalMs / minTickMs)));
    let tick = 0;
    return setInterval(() => {
      const first = Math.floor((tick * partitionCount) / ticks);
      tick = (tick + 1) % ticks;
      const end = tick === 0 ? partitionCount : Math.floor((tick * partitionCount) / ticks);
      this.#options.cork(() => visit(this.#options.registry.connections(first, end)));
    }, intervalMs / ticks);
  }

  #sendFreshness(): void {
    const { registry, freshness, cork } = this.#options;
    const message: FreshnessMessage = freshness.staleMessage ?? { type: 'freshness', state: 'fresh' };
    cork(() => {
      for (const { session } of registry.connections()) session.sendFreshness?.(message);
    });
  }

  #closeExpiredAndSlow(): void {
    const nowMs = Date.now();
    const { registry, freshness, staleTimeoutMs, slowTimeoutMs } = this.#options;
    if (freshness.staleForMs > staleTimeoutMs) {
      for (const { session } of registry.connections()) {
        // The plain dialect has no message for it.
        if (session.dialect.name === 'plain') session.close(CloseCode.unavailable, 'unavailable');
      }
    }
    for (const { session } of registry.expired(nowMs)) {
      session.close(CloseCode.tokenExpired, 'token_expired');
    }
    for (const [connection, pausedSinceMs] of registry.paused) {
      if (pausedSinceMs + slowTimeoutMs > nowMs) continue;
      connection.session.close(CloseCode.slow, 'slow');
      // It would not read the close frame either.
      connection.terminate();
    }
  }

  #ping(connections: Iterable<Connection>): void {
    for (const connection of connections) {
      if (connection.hasAnswered) {
        connection.ping();
      } else {
        connection.session.close(CloseCode.unresponsive, 'unresponsive');
        connection.terminate();
      }
    }
  }

  #sendHeartbeat(connections: Iterable<Connection>): void {
    const position = this.#options.position();
    if (position === null) return;
    const heartbeat = new Heartbeat(position, this.#options.freshness.asOf);
    for (const { session } of connections) session.sendHeartbeat?.(heartbeat);
  }

  /** Checks all rights in one query. If the database does not answer, connections stay open: no events arrive either. */
  async #recheck(): Promise<void> {
    const { registry, authorization, lifecycle } = this.#options;
    if (registry.size === 0) return;
    if (this.#isRechecking) {
      this.#isRecheckDue = true;
      return;
    }
    this.#isRechecking = true;
    const startedAtMs = performance.now();
    try {
      const checked = [...registry.connections()];
      const viewers = new Map<string, Viewer>();
      for (const { principal, session } of checked) {
        for (const channel of session.channels()) {
          const viewer = viewerOf(principal.user.id, channel);
          viewers.set(viewerKey(viewer), viewer);
        }
      }
      const feedUsers = new Set(
        checked
          .filter(({ session }) => session.approvalsScope !== null)
          .map(({ principal }) => principal.user.id),
      );
      const [allowed, scopes] = await Promise.all([
        authorization.recheck([...viewers.values()]),
        feedUsers.size === 0
          ? new Map<string, ApprovalsScope>()
          : authorization.approvalsScopes([...feedUsers]),
      ]);
      this.#uncheckedSinceMs = null;
      // Without what was subscribed meanwhile, which was checked then.
      const revoked = new Set([...viewers.keys()].filter((key) => !allowed.has(key)));
      let closed = 0;
      // Nearly always nothing was revoked: thousands of idle connections are not visited a second time.
      for (const { principal, session } of revoked.size + feedUsers.size === 0 ? [] : checked) {
        const { id } = principal.user;
        const mayView = (channel: Channel): boolean => !revoked.has(viewerKey(viewerOf(id, channel)));
        if (revoked.size > 0 && session.revoke(mayView)) closed += 1;
        if (feedUsers.has(id)) session.rescope?.(scopes.get(id) ?? null);
      }
      const durationMs = performance.now() - startedAtMs;
      lifecycle.emit('access:rechecked', { connections: checked.length, closed, durationMs });
    } catch (error) {
      lifecycle.emit('access:failed', { error: toError(error) });
      this.#closeUnchecked();
    } finally {
      this.#isRechecking = false;
    }
    if (!this.#isRecheckDue) return;
    this.#isRecheckDue = false;
    await this.#recheck();
  }

  /** If only this query fails, while events arrive, a revoked right must not stay valid forever. */
  #closeUnchecked(): void {
    const { registry, freshness, recheckTimeoutMs } = this.#options;
    const nowMs = performance.now();
    this.#uncheckedSinceMs = freshness.isFresh ? (this.#uncheckedSinceMs ?? nowMs) : null;
    if (this.#uncheckedSinceMs === null || nowMs - this.#uncheckedSinceMs < recheckTimeoutMs) return;
    for (const { session } of registry.connections()) {
      if (session.channels().length > 0 || session.approvalsScope !== null) {
        session.close(CloseCode.unavailable, 'unavailable');
      }
    }
  }
}

function viewerOf(userId: string, { projectId, environmentId }: Channel): Viewer {
  return { userId, projectId, environmentId };
}

import type { FreshnessReason } from '#protocol';
import type { ConnectionPhase, StaleStatus } from './status.js';

/** The keys of messages that are about freshness or the end of the connection. */
export interface StatusKeys {
  readonly type: string;
  readonly state?: string;
  readonly since?: string | null;
  readonly as_of?: string | null;
  readonly code?: number;
  readonly reason?: string;
}

/** Up to when the state is complete, and whether the server is reading its database. */
export interface Freshness {
  /** Reads a message before and after `apply`. */
  readonly read: (message: object, apply: () => void) => void;
  /** Returns the phase of a connection that is open, or being opened. */
  readonly phase: (isConnected: boolean) => ConnectionPhase;
}

export function createFreshness(): Freshness {
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before `hello`. */
  let asOfMs = 0;
  /** Set while the server is stale. */
  let stale: StaleStatus | null = null;
  return {
    read(message, apply) {
      const { type, state, reason, as_of: asOf, since = asOf } = message as StatusKeys;
      // The server's clock may be ahead.
      if (since) asOfMs = Math.min(Date.now(), Date.parse(since));
      const sinceMs = asOfMs || Date.now();
      if (state === 'stale') stale = { state, sinceMs, reason: reason as FreshnessReason };
      else if (type === 'hello' || type === 'freshness') stale = null;
      apply();
      // Not earlier: until the machine knows of the first `hello`, the client is connecting, not disconnected.
      asOfMs ||= sinceMs;
    },
    phase(isConnected) {
      if (isConnected) return stale ?? { state: 'live' };
      return asOfMs ? { state: 'stale', sinceMs: asOfMs, reason: 'disconnected' } : { state: 'connecting' };
    },
  };
}

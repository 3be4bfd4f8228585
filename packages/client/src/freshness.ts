import type { FreshnessReason, ServerMessage } from '#protocol';
import type { StaleStatus } from './status.js';

/** How old the state that a connection has brought may be. */
export interface Freshness {
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before `hello`. */
  readonly asOfMs: number;
  /** Set while the server is stale. */
  readonly stale: StaleStatus | null;
}

/** The keys of messages that are about freshness. */
interface FreshnessKeys {
  readonly type: string;
  readonly as_of?: string | null;
  readonly state?: string;
  readonly since?: string | null;
  readonly reason?: string;
}

/** Returns the freshness after a message. */
export function updateFreshness({ asOfMs, stale }: Freshness, message: ServerMessage): Freshness {
  const { type, state, reason, as_of: asOf, since = asOf }: FreshnessKeys = message;
  const nowMs = Date.now();
  // The server's clock may be ahead.
  const sinceMs = since ? Math.min(nowMs, Date.parse(since)) : asOfMs || nowMs;
  if (state === 'stale')
    return { asOfMs: sinceMs, stale: { state, sinceMs, reason: reason as FreshnessReason } };
  return { asOfMs: sinceMs, stale: type === 'hello' || type === 'freshness' ? null : stale };
}

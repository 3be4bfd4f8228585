import type { FreshnessReason, ServerMessage } from '#protocol';
import type { StaleStatus } from './status.js';

/** The stale servers, by event stream: the event streams of one client can end at different servers. */
export type StaleStatuses = Map<string | undefined, StaleStatus>;

/** The keys of messages that are about freshness. */
interface FreshnessKeys {
  readonly type: string;
  readonly as_of?: string | null;
  readonly state?: string;
  readonly since?: string | null;
  readonly reason?: string;
}

/**
 * Updates the freshness of the connection from a message. Everything that was committed before `asOfMs` has arrived
 * (milliseconds since the epoch; 0 before the first message). `stream` identifies the event stream; undefined for a
 * WebSocket. Returns the new `asOfMs`.
 */
export function updateFreshness(
  message: ServerMessage,
  asOfMs: number,
  [staleStatuses, stream]: readonly [StaleStatuses, string | undefined],
): number {
  const { type, state, reason, as_of: asOf, since = asOf }: FreshnessKeys = message;
  const nowMs = Date.now();
  // The server's clock may be ahead.
  const sinceMs = since ? Math.min(nowMs, Date.parse(since)) : asOfMs || nowMs;
  if (type === 'hello' || type === 'freshness') staleStatuses.delete(stream);
  if (state === 'stale') staleStatuses.set(stream, { state, sinceMs, reason: reason as FreshnessReason });
  return sinceMs;
}

import type { FreshnessReason } from '#protocol';

/** Why a state is stale: `disconnected`, or the reason that a server sends while it does not read its database. */
export type StaleReason = FreshnessReason | 'disconnected';

/**
 * The state is not the newest. Everything that was committed before `sinceMs` (milliseconds since the epoch) is
 * in it. The client reconnects by itself, and the server tries again by itself.
 */
export interface StaleStatus {
  readonly state: 'stale';
  readonly sinceMs: number;
  readonly reason: StaleReason;
}

import type { FreshnessReason } from '#protocol';
import type { FlagcastError } from './flagcast-error.js';

/** Why a state is stale: `disconnected`, or the reason why the server cannot read its database. */
export type StaleReason = FreshnessReason | 'disconnected';

/**
 * The state may be out of date. It contains everything that was committed before `sinceMs` (milliseconds since
 * the epoch). The client reconnects and the server retries its database without any action by the app.
 */
export interface StaleStatus {
  readonly state: 'stale';
  readonly sinceMs: number;
  readonly reason: StaleReason;
}

/** Final. `error` is null if the app called `close`. */
interface ClosedStatus {
  readonly state: 'closed';
  readonly error: FlagcastError | null;
}

/**
 * The status of a client's connection.
 *
 * - `idle`: no channel is open, so there is no connection
 * - `connecting`: the first connection is being established
 * - `live`: connected, and the server is reading its database
 * - `stale`: not connected, or the server cannot read its database at the moment
 * - `closed`: final
 */
export type ConnectionStatus =
  | { readonly state: 'idle' | 'connecting' | 'live' }
  | StaleStatus
  | ClosedStatus;

/**
 * The status of a channel.
 *
 * - `connecting`: no snapshot yet
 * - `catching-up`: connected; the server is sending the missed events
 * - `live`: connected, and the server is reading its database: the state is current, apart from events in transit
 * - `stale`: not connected, or the server cannot read its database at the moment
 * - `closed`: final
 */
export type ChannelStatus =
  | { readonly state: 'connecting' | 'catching-up' | 'live' }
  | StaleStatus
  | ClosedStatus;

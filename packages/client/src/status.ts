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
export type ConnectionStatus = ConnectionPhase & ConnectionDetails;

/** The part of a connection's status that its channels share. */
export type ConnectionPhase = { readonly state: 'idle' | 'connecting' | 'live' } | StaleStatus | ClosedStatus;

/** What is known about a connection besides its state. */
export interface ConnectionDetails {
  /** What the current or next attempt uses: a WebSocket, or server-sent events. */
  readonly transport: 'websocket' | 'sse';
  /** How many attempts have failed in a row; 0 while connected. */
  readonly attempt: number;
  /** When the next attempt starts, in milliseconds since the epoch; null if none is planned. */
  readonly retryAtMs: number | null;
  /** The last failure that the client has retried: of the connection, a snapshot or a token; null if there was none. */
  readonly lastError: FlagcastError | null;
}

/**
 * The status of a channel.
 *
 * - `connecting`: no snapshot yet
 * - `catching-up`: there is a snapshot, and the events since then are about to arrive
 * - `live`: connected, and the server is reading its database: the state is current, apart from events in transit
 * - `stale`: not connected, or the server cannot read its database at the moment
 * - `closed`: final
 */
export type ChannelStatus =
  | { readonly state: 'connecting' | 'catching-up' | 'live' }
  | StaleStatus
  | ClosedStatus;

import { EventEmitter } from 'node:events';
import type { FreshnessReason } from '@flagcast/protocol';

/** A delivered batch that had events. Numbers only, for metrics and traces. */
export interface BroadcastBatch {
  readonly events: number;
  readonly channels: number;
  /** The number of events times the subscribers that received them. */
  readonly deliveries: number;
  /** How long its read took, in milliseconds; null if another server read it. */
  readonly readMs: number | null;
  /** When this server received it, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** When its last subscriber received it, in milliseconds since the epoch. */
  readonly sentAtMs: number;
  /** When its first and last event were committed, by the database's clock; null if the database does not record that. */
  readonly committed: { readonly firstAtMs: number; readonly lastAtMs: number } | null;
}

/** An environment was renamed or deleted, or (`environmentId` null) a project was archived or deleted. */
export interface ChannelsChange {
  readonly projectId: string;
  readonly environmentId: string | null;
}

/**
 * What happens inside the server. Logs, metrics and traces subscribe to these events, and tests await them. No payload
 * contains a token.
 */
export interface LifecycleEvents {
  /** The first read of a history has started, at `startedAtMs` (milliseconds since the epoch). */
  'reader:started': [{ guarantee: string; reason: string; source: string; startedAtMs: number }];
  /** A read of the database has ended. */
  'reader:read': [
    {
      trigger: 'poll' | 'wake' | 'follow_up';
      rows: number;
      fresh: number;
      durationMs: number;
      /** When it started, in milliseconds since the epoch. */
      startedAtMs: number;
      /** All transactions below this id have ended and were read. */
      xmin: string;
      /** No transaction from this id on had ended. */
      snapshotXmax: string;
      /** False if the page was full; then the next read follows immediately. */
      isComplete: boolean;
    },
  ];
  /** A page has an unreadable row. The next read requests only `rows` rows, with states if `readsState`. */
  'reader:page-failed': [{ error: Error; rows: number; readsState: boolean }];
  /** A poll has checked the triggers of the event log. `problem` is null if they are in order. */
  'reader:triggers': [{ problem: string | null }];
  /** A read has failed. */
  'reader:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** A read has succeeded after failures. */
  'reader:recovered': [{ attempts: number; downMs: number }];
  /** The database went back in time, by a restore or by a failover that lost transactions; or its source has changed. */
  'reader:history-lost': [{ reason: string }];
  /** The server has become stale (it does not read the database), or fresh again. */
  'freshness:changed': [
    { state: 'fresh' } | { state: 'stale'; reason: FreshnessReason; sinceMs: number; problem: string },
  ];
  /** The host has ended the pool that it gave to this server. Emitted once. */
  'pool:ended': [{ message: string; fix: string }];
  /** Memberships, roles or users have changed. */
  'rights:changed': [];
  /** All events before it were delivered. */
  'channels:changed': [change: ChannelsChange];
  /** Old rows of the event log were deleted. */
  'log:pruned': [{ rows: number }];
  /** Old rows of the event log could not be deleted. */
  'log:prune-failed': [{ error: Error }];
  /** LISTEN works. */
  'listener:listening': [{ channel: string }];
  /** The session for LISTEN has failed. */
  'listener:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** LISTEN is not possible on this connection, so only polls find changes. Emitted once for each reason. */
  'listener:unavailable': [{ reason: 'pooler' | 'replica'; message: string; fix: string }];
  /** A NATS server has accepted the connection. */
  'relay:connected': [{ server: string }];
  /** The connection to NATS is lost: this server reads the database for itself. Emitted once until `relay:connected`. */
  'relay:lost': [{ error: Error }];
  /** NATS is connected, but its log cannot be used. */
  'relay:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** The relay cannot be used with this database. Emitted once for each message. */
  'relay:refused': [{ message: string; fix: string }];
  /** This server leads: it reads the database for all. `continues`: its reads continue from the relay's log. */
  'relay:elected': [{ continues: boolean }];
  /** This server no longer leads, and reads for itself. */
  'relay:leadership-lost': [{ reason: string }];
  /** This server follows the leader, after `directMs` of reading for itself. */
  'relay:following': [{ directMs: number }];
  /** This server no longer follows, and reads for itself. */
  'relay:direct': [{ reason: string }];
  /** The leader has written a commit to the relay's log. */
  'relay:published': [{ events: number; channels: number; bytes: number; durationMs: number }];
  /** A follower has delivered a commit, `delayMs` after the leader's read, by the clocks of both machines. */
  'relay:applied': [{ events: number; skippedChannels: number; delayMs: number }];
  /** The leader has sent a message; it read the database `readAgoMs` ago; null if it does not say so, or has not yet. */
  'relay:heartbeat': [{ readAgoMs: number | null }];
  /** Messages that were not received were fetched from the relay's log. */
  'relay:fetched': [{ messages: number }];
  /** A message of another server about presence could not be decoded, and is ignored. Emitted once. */
  'presence:message-ignored': [{ error: Error }];
  /** A completion of io_uring was missing: from now on each connection is written to separately. */
  'socket-writer:fallback': [Record<string, never>];
  /** How WebSockets are written to: by `io_uring`, or `plain` and the reason. */
  'socket-writer:chosen': [{ writer: string; reason: string | null }];
  /** All subscribers have received a batch. */
  'batch:broadcast': [BroadcastBatch];
  /** A WebSocket or event stream was opened. */
  'connection:opened': [{ connectionId: number; userId: string; dialect: string }];
  /** A WebSocket or event stream was closed. */
  'connection:closed': [
    { connectionId: number; userId: string; dialect: string; code: number; reason: string },
  ];
  /** A client reads too slowly: it is sent nothing more until it has read everything. */
  'connection:paused': [{ dialect: string }];
  /** A paused client has read everything, and is sent the missed events. */
  'connection:drained': [{ dialect: string; pausedMs: number }];
  /** A client has resumed a channel and was sent the missed events. */
  'channel:resumed': [{ channel: string; source: 'buffer' | 'log' | 'database'; events: number }];
  /** A client could not resume a channel and has to load a snapshot. */
  'channel:resync': [{ channel: string; reason: string }];
  /** A connection was refused, before or during its WebSocket handshake. */
  'connection:refused': [{ status: number; code: string; message: string; address: string }];
  /** The authorizer has refused an HTTP request or an event stream. */
  'request:refused': [{ status: number; code: string }];
  /** The permissions of all connections were checked again. */
  'access:rechecked': [{ connections: number; closed: number; durationMs: number }];
  /** A request or a permission check has failed with an error. `request`: method and route, for HTTP requests. */
  'access:failed': [{ error: Error; request?: string }];
  /** The host's list of channels has invalid rows. Emitted once. */
  'access:rows-ignored': [{ source: string; rows: number }];
}

/** Emits `LifecycleEvents`. Listeners run synchronously within the work that they observe: they must be fast and must not throw. */
export class Lifecycle extends EventEmitter<LifecycleEvents> {}

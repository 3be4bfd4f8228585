import { EventEmitter } from 'node:events';
import type { FreshnessReason } from '@flagcast/protocol';

/** What became of a batch that brought events; numbers only, so that it may go to metrics and traces. */
export interface BroadcastBatch {
  readonly events: number;
  readonly channels: number;
  /** Events times the connections that were handed them. */
  readonly deliveries: number;
  /** How long the read took that brought it, in milliseconds; null where another server read it. */
  readonly readMs: number | null;
  /** When it arrived here, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** When the last subscriber had been handed it, likewise. */
  readonly sentAtMs: number;
  /** When its first and its last event were committed, by the clock of the database; null where that records no times. */
  readonly committed: { readonly firstAtMs: number; readonly lastAtMs: number } | null;
}

/**
 * What happens inside the server, one entry a boundary. The log and the metrics are
 * subscribers, and tests await these instead of sleeping. A payload never holds a token.
 */
export interface LifecycleEvents {
  /** `startedAtMs`: when the first read began, in milliseconds since the epoch. */
  'reader:started': [{ guarantee: string; reason: string; source: string; startedAtMs: number }];
  'reader:read': [
    {
      trigger: 'poll' | 'wake' | 'follow_up';
      rows: number;
      fresh: number;
      durationMs: number;
      /** When it began, in milliseconds since the epoch. */
      startedAtMs: number;
      /** Every transaction below has ended, and was read. */
      xmin: string;
      /** No transaction from here on had ended. */
      snapshotXmax: string;
      /** False: a page was full, and the next read follows at once. */
      isComplete: boolean;
    },
  ];
  /** A page could not be read because of what its rows hold; the next one asks for so many rows. */
  'reader:page-failed': [{ error: Error; rows: number; readsState: boolean }];
  /** Once a poll: what is wrong with the triggers that write the event log; null where nothing is. */
  'reader:triggers': [{ problem: string | null }];
  'reader:failed': [{ error: Error; attempt: number; retryInMs: number }];
  'reader:recovered': [{ attempts: number; downMs: number }];
  /** The database went back in time (restored, or failed over and lost transactions). */
  'reader:history-lost': [{ reason: string }];
  /** The server does not read the database, or does again. */
  'freshness:changed': [
    { state: 'fresh' } | { state: 'stale'; reason: FreshnessReason; sinceMs: number; problem: string },
  ];
  /** Memberships, roles or users have changed. */
  'rights:changed': [];
  /** An environment was renamed or deleted, or a project was archived or deleted. */
  'channels:changed': [];
  /** Old rows of the event log were deleted. */
  'log:pruned': [{ rows: number }];
  'log:prune-failed': [{ error: Error }];
  'listener:listening': [{ channel: string }];
  'listener:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** No hint can come by this way; told once for each reason, and looked at again from time to time. */
  'listener:unavailable': [{ reason: 'pooler' | 'replica'; message: string; fix: string }];
  /** A server of NATS answers. */
  'relay:connected': [{ server: string }];
  /** None does; told once until one does. Each server reads the database for itself. */
  'relay:lost': [{ error: Error }];
  /** NATS answers, and its log cannot be used. */
  'relay:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** It cannot be used with this database; told once. */
  'relay:refused': [{ message: string; fix: string }];
  /** This server reads the database for all. `continues`: what it reads follows on what the log has. */
  'relay:elected': [{ continues: boolean }];
  'relay:leadership-lost': [{ reason: string }];
  /** This server asks the database for no events any more: another one does. */
  'relay:following': [{ directMs: number }];
  /** It reads the database for itself again. */
  'relay:direct': [{ reason: string }];
  'relay:published': [{ events: number; channels: number; bytes: number; durationMs: number }];
  /** `delayMs`: since the reader had read it, by the clocks of two machines. */
  'relay:applied': [{ events: number; skippedChannels: number; delayMs: number }];
  /** The reader lives, and has read the database so long ago. */
  'relay:heard': [{ readAgoMs: number }];
  /** Messages that had not come by themselves were fetched from the log. */
  'relay:fetched': [{ messages: number }];
  /** A completion of io_uring was missing: from now on each connection is written to by itself. */
  'socket-writer:fallback': [Record<string, never>];
  /** How WebSockets are written to: by `io_uring`, or `plain` and the reason. */
  'socket-writer:chosen': [{ writer: string; reason: string | null }];
  /** All subscribers have been handed a batch. */
  'batch:broadcast': [BroadcastBatch];
  'connection:opened': [{ connectionId: number; userId: string; dialect: string }];
  'connection:closed': [
    { connectionId: number; userId: string; dialect: string; code: number; reason: string },
  ];
  /** A peer does not read what it is sent: it gets nothing more until it has. */
  'connection:paused': [{ dialect: string }];
  /** A paused peer has read all, and is brought what it missed. */
  'connection:drained': [{ dialect: string; pausedMs: number }];
  /** A flagcast.v1 client came back and was brought what it had missed. */
  'channel:resumed': [{ channel: string; source: 'ring' | 'log' | 'database'; events: number }];
  /** It was told that this cannot be done. */
  'channel:resync': [{ channel: string; reason: string }];
  'connection:refused': [{ status: number; code: string; address: string }];
  /** An HTTP request, or one for a stream, was turned away at the authorizer. */
  'request:refused': [{ status: number; code: string }];
  'access:rechecked': [{ connections: number; closed: number; durationMs: number }];
  /** `request`: the method and the route of the HTTP request that failed, if it was one. */
  'access:failed': [{ error: Error; request?: string }];
  /** The host's list of channels has rows that are none; told once. */
  'access:rows-ignored': [{ source: string; rows: number }];
}

export class Lifecycle extends EventEmitter<LifecycleEvents> {}

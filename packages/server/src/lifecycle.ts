import { EventEmitter } from 'node:events';

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
  'reader:started': [{ guarantee: string; reason: string; view: string }];
  /** Once a poll: how far back the next reads look, and what holds them there. */
  'reader:observed': [{ floor: string; sessionsVisible: boolean; oldestTransactionMs: number }];
  'reader:read': [
    {
      trigger: 'poll' | 'wake';
      rows: number;
      fresh: number;
      durationMs: number;
      watermark: string;
      /** The youngest transaction that the read could see; above the watermark while something holds that back. */
      snapshotXmax: string;
      floor: string;
    },
  ];
  /** Events that were committed later than the overlap after their created_at, where a view tells no transaction ids. */
  'reader:late': [{ events: number; oldestCreatedAt: string; overlapMs: number }];
  'reader:failed': [{ error: Error; attempt: number; retryInMs: number }];
  'reader:recovered': [{ attempts: number; downMs: number }];
  /** The database went back in time (restored, or failed over and lost transactions). */
  'reader:history-lost': [{ reason: string }];
  'listener:listening': [{ channel: string }];
  'listener:failed': [{ error: Error; attempt: number; retryInMs: number }];
  /** No hint can come by this way; told once for each reason, and looked at again from time to time. */
  'listener:deaf': [{ reason: 'pooler' | 'replica'; what: string; mend: string }];
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
  'channel:resumed': [{ channel: string; source: 'ring' | 'database'; events: number }];
  /** It was told that this cannot be done. */
  'channel:resync': [{ channel: string; reason: string }];
  'connection:refused': [{ status: number; code: string; address: string }];
  /** An HTTP request, or one for a stream, was turned away at the door. */
  'request:refused': [{ status: number; code: string }];
  'access:rechecked': [{ connections: number; closed: number; durationMs: number }];
  'access:failed': [{ error: Error }];
  /** The host's list of channels has rows that are none; told once. */
  'access:rows-ignored': [{ source: string; rows: number }];
}

export class Lifecycle extends EventEmitter<LifecycleEvents> {}

import { EventEmitter } from 'node:events';

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
  'batch:broadcast': [{ events: number; channels: number; deliveries: number }];
  'connection:opened': [{ connectionId: number; userId: string; dialect: string }];
  'connection:closed': [
    { connectionId: number; userId: string; dialect: string; code: number; reason: string },
  ];
  /** A flagcast.v1 client came back and was brought what it had missed. */
  'channel:resumed': [{ channel: string; source: 'ring' | 'database'; events: number }];
  /** It was told that this cannot be done. */
  'channel:resync': [{ channel: string; reason: string }];
  'connection:refused': [{ status: number; code: string; address: string }];
  'access:rechecked': [{ connections: number; closed: number; durationMs: number }];
  'access:failed': [{ error: Error }];
  /** The host's list of channels has rows that are none; told once. */
  'access:rows-ignored': [{ source: string; rows: number }];
}

export class Lifecycle extends EventEmitter<LifecycleEvents> {}

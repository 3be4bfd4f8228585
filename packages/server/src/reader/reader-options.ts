import type { OpenSession } from '../postgres/session.js';
import type { Batch } from '../events/event.js';
import type { Lifecycle } from '../lifecycle.js';

export interface EventReaderOptions {
  /** The reader keeps one session of its own. */
  openSession: OpenSession;
  /** The view to read, as it is written in SQL. Default null: the event log, or what there is in its place. */
  view?: string | null;
  /** How often to read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /** How long after its created_at an event may be committed where there is no event log, in milliseconds. Default 60,000. */
  overlapMs?: number;
  /** After this many milliseconds without an answer a read has failed. Default 30,000. */
  queryTimeoutMs?: number;
  lifecycle: Lifecycle;
  /** Gets every event once: one call a read, also when it brought nothing but a new position. */
  onBatch: (batch: Batch) => void;
  /** Positions from before mean nothing any more; the next batch begins anew. Default: nothing. */
  onHistoryLost?: () => void;
  /** Whether connections have room for the next page of a large transaction. Default: always. */
  hasRoom?: () => boolean;
}

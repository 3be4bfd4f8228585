import type { Position } from './position.js';

/**
 * One row of `v_realtime_events`, as every stage after the reader sees it. Ids are opaque
 * strings: a foreign schema may use uuid, bigint or text. Times are RFC 3339 in UTC with
 * PostgreSQL's microseconds, and never pass through a JavaScript Date.
 */
export interface FlagEvent {
  /** `audit` or `pending`. */
  readonly source: string;
  readonly eventId: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly environmentKey: string;
  readonly entity: string;
  readonly entityId: string;
  /** `created`, `updated`, `deleted`, `pending`, `approved`, `rejected`, `cancelled`. */
  readonly action: string;
  readonly createdAt: string;
  /** The transaction that wrote the row, 64 bits wide; null where the view does not tell. */
  readonly xid: bigint | null;
  /** The feature that the entity belongs to (itself, for a feature); null where unknown. */
  readonly featureId: string | null;
  readonly pendingChangeId: string | null;
  /** Who did it, as the database names them; null where it does not. */
  readonly actor: string | null;
  /** When it was committed; null where the database does not record that. */
  readonly committedAt: string | null;
  /**
   * The state of the feature after the change, true at the read's own snapshot, as JSON text that is
   * passed on and never parsed; null when the feature is gone or unknown; undefined where states are
   * not read.
   */
  readonly featureJson: string | null | undefined;
}

/** What one read of the database brought: all of it from one snapshot, in order; often nothing. */
export interface Batch {
  readonly events: readonly FlagEvent[];
  /** When the read's answer arrived here, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** The snapshot's own xmax, which a crash can take back; `position` is never ahead of it. */
  readonly snapshotXmax: bigint;
  /** Where whoever has been given this batch and all before it stands. */
  readonly position: Position;
}

/** The key of a channel: one environment of one project. */
export function channelKey(projectId: string, environmentId: string): string {
  return `${projectId}/${environmentId}`;
}

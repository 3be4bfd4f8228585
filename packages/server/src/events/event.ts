import { hash } from 'node:crypto';
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
  /** What tells it from other events of the same names; empty where the view gives each a name of its own. */
  readonly occurrence: string;
  /**
   * By what a position lists it: the transaction that wrote its row, 64 bits wide; where the view does
   * not tell that, its `hashOf`.
   */
  readonly mark: bigint;
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
  /** When the read began, on the clock of performance.now(): what was committed before is in it, or in one before. */
  readonly beganAtMs: number;
  /** The snapshot's own xmin. */
  readonly snapshotXmin: bigint;
  /** How long the read took, in milliseconds; not there where this server did not read it. */
  readonly readMs?: number;
  /** The snapshot's own xmax, which a crash can take back; `position` is never ahead of it. */
  readonly snapshotXmax: bigint;
  /** Where whoever has been given this batch and all before it stands. */
  readonly position: Position;
  /** Counts the reader's connections to the database: between two of them it may have crashed. */
  readonly connection: number;
  /** Channels of which it held events that are left out; none where that is not said. */
  readonly skipped?: readonly string[];
}

/** The key of a channel: one environment of one project. Ids are any text, also with a slash in it. */
export function channelKey(projectId: string, environmentId: string): string {
  return `${projectId.replace(/[%/]/g, encodeURIComponent)}/${environmentId}`;
}

/** The events of each channel, in order. */
export function byChannel(events: readonly FlagEvent[]): Map<string, FlagEvent[]> {
  const channels = new Map<string, FlagEvent[]>();
  for (const event of events) {
    const key = channelKey(event.projectId, event.environmentId);
    const ofChannel = channels.get(key);
    if (ofChannel === undefined) channels.set(key, [event]);
    else ofChannel.push(event);
  }
  return channels;
}

/** JSON, because a column may hold any separator that one could choose. */
export function identityOf(
  event: Pick<FlagEvent, 'source' | 'eventId' | 'entity' | 'entityId' | 'action' | 'occurrence'>,
): string {
  const { source, eventId, entity, entityId, action, occurrence } = event;
  const names = [source, eventId, entity, entityId, action];
  return JSON.stringify(occurrence === '' ? names : [...names, occurrence]);
}

/** 48 bits of the event's identity. */
export function hashOf(event: Parameters<typeof identityOf>[0]): bigint {
  return BigInt(`0x${hash('sha256', identityOf(event), 'hex').slice(0, 12)}`);
}

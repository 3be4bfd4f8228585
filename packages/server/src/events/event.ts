import { hash } from 'node:crypto';
import type { Coverage, Position } from './position.js';

/**
 * One event, as every stage after the reader sees it. Ids are opaque strings: hosts have uuid, bigint or text.
 * Times are RFC 3339 in UTC with PostgreSQL's microseconds, and never pass through a JavaScript Date.
 */
export interface FlagEvent {
  /** Unique in its history: the row's number in the event log, or a hash of its names without an event log. */
  readonly id: string;
  /** The id of the transaction that wrote it; without an event log, the number of its batch. */
  readonly xid: bigint;
  /** `audit` or `pending`. */
  readonly source: string;
  /** The id of the host's row. Not unique: a request has several steps, and a host may use an id again. */
  readonly rowId: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly environmentKey: string;
  readonly entity: string;
  readonly entityId: string;
  /** `created`, `updated`, `deleted`; of a request `pending`, `updated`, `approved`, `rejected`, `cancelled`. */
  readonly action: string;
  readonly createdAt: string;
  /** The feature that the entity belongs to (itself, for a feature); null where unknown. */
  readonly featureId: string | null;
  readonly pendingChangeId: string | null;
  /** The name of the person or system that made the change; null if the database does not record it. */
  readonly actor: string | null;
  /** When it was committed; null if the database does not record that. */
  readonly committedAt: string | null;
  /**
   * The state of the feature after the change, true at the read's own snapshot, as JSON text that is passed on
   * without being parsed; null if the feature does not exist; undefined if states are not read.
   */
  readonly featureJson: string | null | undefined;
  /** The state is too large, or cannot be decoded: `featureJson` is undefined then. */
  readonly featureUnreadable: boolean;
  /** Of a step of a request: the request after the step, in the same form. */
  readonly pendingChangeJson: string | null | undefined;
  readonly pendingChangeUnreadable: boolean;
}

/** A change of channels or rights, in the order of the events. */
export type ControlEntry =
  | {
      readonly type: 'environment_renamed';
      readonly projectId: string;
      readonly environmentId: string;
      /** The key after the change. */
      readonly environmentKey: string;
    }
  | { readonly type: 'environment_deleted'; readonly projectId: string; readonly environmentId: string }
  | { readonly type: 'project_archived'; readonly projectId: string }
  | { readonly type: 'project_deleted'; readonly projectId: string }
  /** Memberships, roles or users have changed. */
  | { readonly type: 'rights_changed' };

/** The result of one read of the database, from one snapshot; often without events. */
export interface Batch {
  readonly events: readonly FlagEvent[];
  readonly controls: readonly ControlEntry[];
  /** When the result arrived, in milliseconds since the epoch. */
  readonly seenAtMs: number;
  /** When the read started, on the clock of performance.now(). Earlier commits are in this batch or an earlier one. */
  readonly beganAtMs: number;
  /** Everything that was read so far, including commits that a crash of the database may undo. */
  readonly read: ReadState;
  /**
   * The xmax of the snapshot of the read, or of an earlier one of which more was delivered: no snapshot with a higher xmax
   * lacks any of that. The xmax of `read.coverage` is smaller after a full page.
   */
  readonly snapshotXmax: bigint;
  /** Whether everything that the snapshot shows was read. */
  readonly isComplete: boolean;
  /** How long the read took, in milliseconds; absent if another server read it. */
  readonly readMs?: number;
  /** The position of a client that has received this batch and all before it. */
  readonly position: Position;
  /** The number of the reader's connection: the database may have crashed between two connections. */
  readonly connection: number;
  /** Channels whose events are left out of this batch. Default: no channels. */
  readonly skipped?: readonly string[];
}

/** What another server has read of the same history, with the events of those channels that have subscribers here. */
export interface RelayedRead extends Pick<
  Batch,
  'events' | 'controls' | 'read' | 'seenAtMs' | 'beganAtMs' | 'snapshotXmax' | 'isComplete'
> {
  /** The coverage that cursors get. */
  readonly position: Coverage;
  readonly skipped: readonly string[];
  /** Identifies that server and its connection to the database: between two connections the database may have crashed. */
  readonly readBy: string;
}

/** What a reader has read, as another one can continue from it. */
export interface ReadState {
  readonly coverage: Coverage;
  /** The part of it that a crash of the database cannot undo. */
  readonly durable: Coverage;
  /** Large transactions of which only a part has been read. */
  readonly partial: readonly PartialRead[];
  /** How far the transactions were read that `durable` does not cover because only a part is known to be on disk. */
  readonly durablePartial: readonly PartialRead[];
}

/** A large transaction of which all rows up to the number `afterSeq` have been read. */
export interface PartialRead {
  readonly xid: bigint;
  readonly afterSeq: bigint;
}

/** The key of a channel: one environment of one project. Ids are any text, also with a slash in it. */
export function channelKey(projectId: string, environmentId: string): string {
  return `${projectId.replace(/[%/]/g, encodeURIComponent)}/${environmentId}`;
}

/** The key of the approvals feed: the steps of requests in all channels. No `channelKey` is like it. */
export const approvalsFeed = 'approvals';

/** The events of each channel and of the approvals feed, in order. */
export function byChannel<Event extends FlagEvent>(events: readonly Event[]): Map<string, Event[]> {
  const channels = new Map<string, Event[]>();
  for (const event of events) {
    const keys = [channelKey(event.projectId, event.environmentId)];
    if (event.source === 'pending') keys.push(approvalsFeed);
    for (const key of keys) {
      const ofChannel = channels.get(key);
      if (ofChannel === undefined) channels.set(key, [event]);
      else ofChannel.push(event);
    }
  }
  return channels;
}

/** An id for an event without a number: 128 bits of a hash of its names. */
export function hashedId(names: readonly string[]): string {
  return hash('sha256', JSON.stringify(names), 'base64url').slice(0, 22);
}

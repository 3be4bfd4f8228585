import type { ApprovalsSnapshot, EventMessage, ServerMessage, Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { isEqual } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import type { SnapshotLoader } from './snapshot-loader.js';
import type { ChannelStatus } from './status.js';
import type { Model, Store } from './store.js';

/** The snapshot of a channel or of the approvals feed. */
export type AnySnapshot = Snapshot | ApprovalsSnapshot;

/** The keys that say what a message or a snapshot is about. */
export interface Subject {
  readonly type?: string;
  readonly feed?: string;
  readonly scope?: string;
  readonly project_id?: string;
  readonly environment?: string | null;
  readonly environment_id?: string;
}

/** Returns what a message or a snapshot is about. The events of the feed are about several channels. */
function subjectOf({ feed, project_id, environment_id }: Subject = {}): unknown {
  return feed ?? [project_id, environment_id];
}

/** Whether the message is about one channel or feed: not about the connection. */
export function hasSubject(message: object): boolean {
  return 'environment_id' in message || 'feed' in message;
}

/**
 * Whether the event contains the state after it, as far as a snapshot does. A feature that is unreadable in events is not
 * better in a snapshot, but a request that is too large for events is.
 */
export function isComplete(event: EventMessage): boolean | undefined {
  return (
    (event.source !== 'pending' || 'pending_change' in event) &&
    (!!event.feed || 'feature' in event || event.feature_unreadable)
  );
}

/** The position of a subscription in the server's stream of events. */
export interface StreamPosition<Content> {
  cursor?: string | undefined;
  /** The snapshot that the store was last filled with. Its `environment` is the current key. */
  snapshot?: (Content & Subject) | undefined;
  /** The snapshot contains everything that was committed before this time, in milliseconds since the epoch. */
  sinceMs?: number;
  /** The events since a snapshot was requested that may not contain them; undefined if the stream will begin at it. */
  newerEvents?: EventMessage[] | undefined;
  isSubscribed?: boolean | undefined;
  isCaughtUp?: boolean | undefined;
}

/** Whether the subscription of this position gets messages about the subject. */
export function isSubscribedTo(
  { isSubscribed, snapshot }: StreamPosition<unknown>,
  subject: Subject | undefined,
): boolean | undefined {
  return isSubscribed && isEqual(subjectOf(subject), subjectOf(snapshot));
}

/**
 * Applies a message to the store and the position. Messages about other subscriptions are ignored. `reset` is called when
 * the subscription has ended on the server, `close` when the server refuses it.
 */
export function receive<State, Content extends AnySnapshot>(
  position: StreamPosition<Content>,
  store: Store<State, Content>,
  message: ServerMessage,
  loader: SnapshotLoader,
  reset: () => void,
  close: (error: FlagcastError) => void,
  references: number,
): void {
  // Another channel of this environment may be subscribed while this one is not.
  if (hasSubject(message) && !isSubscribedTo(position, message)) return;
  const { snapshot } = position;
  if ('source' in message) {
    store.apply(message);
    position.newerEvents?.push(message);
    position.cursor = message.cursor ?? position.cursor;
    // The server no longer has the tables, or the request is too large for events.
    if (!isComplete(message) && snapshot?.embedded_state) loader.reload();
    return;
  }
  if ('environment' in message && snapshot) {
    position.snapshot = { ...snapshot, environment: message.environment ?? snapshot.environment };
  }
  if (message.type === 'caught_up') {
    position.isCaughtUp = position.isSubscribed;
    position.cursor = message.cursor;
    loader.resetBackoff();
  } else if (message.type === 'resync') {
    reset();
    position.cursor = undefined;
    loader.reload();
  } else if (message.type === 'heartbeat') {
    if (position.isCaughtUp) position.cursor = message.cursor;
  } else if (message.type === 'unsubscribed') reset();
  else if (message.type === 'error') {
    const { code } = message;
    // The second of two requests to unsubscribe is refused with `not_subscribed`. A channel that is in use may have
    // subscribed again in between.
    if (code !== 'not_subscribed' || !references) reset();
    if (code.endsWith('unavailable')) loader.backoff();
    else if (code !== 'not_subscribed') close(new FlagcastError(code, message.message));
  }
}

/** Returns the current state in the form of a snapshot; null before the first one. */
export function toSnapshot<State, Content extends AnySnapshot>(
  { snapshot, cursor }: StreamPosition<Content>,
  model: Model<State, Content>,
): Content | null {
  return snapshot && cursor ? { ...snapshot, ...model.contents(), cursor } : null;
}

/** Returns the status of a subscription at this position. */
export function statusAt(
  { snapshot, sinceMs = 0, isCaughtUp }: StreamPosition<unknown>,
  connection: Connection,
): ChannelStatus {
  const phase = connection.phase();
  if (!snapshot) return { state: 'connecting' };
  if (phase.state === 'connecting' && connection.view.getStatus().attempt) {
    return { state: 'stale', sinceMs, reason: 'disconnected' };
  }
  return isCaughtUp || phase.state === 'stale' ? (phase as ChannelStatus) : { state: 'catching-up' };
}

import type { ErrorMessage, EventMessage, ServerMessage } from '#protocol';
import type { Connection } from './connection.js';
import { isEqual } from './emitter.js';
import type { SubscriptionParams } from './request.js';
import type { SnapshotLoader } from './snapshot-loader.js';
import type { ChannelStatus, ConnectionPhase } from './status.js';
import type { Store } from './store.js';
import type { AnySnapshot, SubscriptionController } from './subscription.js';

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
  /** When the snapshot was requested, in milliseconds since the epoch. */
  snapshotAtMs?: number;
  isSubscribed: boolean;
  isCaughtUp: boolean;
}

/** Whether the subscription of this position gets messages about the subject. */
export function isSubscribedTo(
  { isSubscribed, snapshot }: StreamPosition<unknown>,
  subject: Subject | undefined,
): boolean {
  return isSubscribed && isEqual(subjectOf(subject), subjectOf(snapshot));
}

/**
 * Applies a message to the store and the position. Messages about other subscriptions are ignored. `reset` is called when
 * the subscription has ended on the server, `onRefused` when the server refuses it.
 */
export function receive<State, Content extends AnySnapshot>(
  position: StreamPosition<Content>,
  store: Store<State, Content>,
  message: ServerMessage,
  loader: SnapshotLoader,
  reset: () => void,
  onRefused: (error: ErrorMessage) => void,
): void {
  // Another channel of this environment may be subscribed while this one is not.
  if (hasSubject(message) && !isSubscribedTo(position, message)) return;
  const { snapshot } = position;
  if ('source' in message) {
    store.apply(message);
    position.cursor = message.cursor ?? position.cursor;
    // The server no longer has the tables, or the request is too large for events.
    if (!isComplete(message) && snapshot?.embedded_state) loader.reload();
    return;
  }
  if (message.type === 'heartbeat') {
    if (position.isCaughtUp) position.cursor = message.cursor;
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
  } else if (message.type === 'unsubscribed') reset();
  else if (message.type === 'error') onRefused(message);
}

/** Returns the current state in the form of a snapshot; null before the first one. */
export function toSnapshot<State, Content extends AnySnapshot>(
  { snapshot, cursor }: StreamPosition<Content>,
  store: Store<State, Content>,
): Content | null {
  return snapshot && cursor ? { ...snapshot, ...store.contents(), cursor } : null;
}

/** Returns the status of a subscription at this position. */
export function statusAt(
  { snapshot, snapshotAtMs = 0, isCaughtUp }: StreamPosition<unknown>,
  phase: ConnectionPhase,
  attempt: number,
): ChannelStatus {
  if (!snapshot) return { state: 'connecting' };
  if (phase.state === 'connecting' && attempt) {
    return { state: 'stale', sinceMs: snapshotAtMs, reason: 'disconnected' };
  }
  return isCaughtUp || phase.state === 'stale' ? (phase as ChannelStatus) : { state: 'catching-up' };
}

/**
 * Subscribes from the position. `shared` is another subscription to the same environment: two channels can have the same
 * one, e.g. after a key change, and the server allows one subscription.
 */
export function subscribe<State, Content extends AnySnapshot>(
  position: StreamPosition<Content>,
  store: Store<State, Content>,
  params: SubscriptionParams,
  connection: Connection,
  shared: SubscriptionController | undefined,
): void {
  if (shared) {
    // Both channels receive the events from now on, so both must have the same state.
    const state = shared.view.toSnapshot() as Content;
    if (!isEqual(state, toSnapshot(position, store))) store.replace(state);
    position.snapshot = state;
    position.cursor = state.cursor;
    position.isCaughtUp = shared.position.isCaughtUp;
  } else {
    // A feed sends the scope of its snapshot back to resume: the server refuses another one.
    const scope = position.snapshot?.scope as string;
    connection.send({ type: 'subscribe', ...params, scope, cursor: position.cursor as string });
  }
  position.isSubscribed = true;
}

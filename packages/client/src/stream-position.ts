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
export function hasSubject({ feed, environment_id }: Subject): string | undefined {
  return feed ?? environment_id;
}

/**
 * Whether the event contains the state after it, as far as a snapshot does. A feature that is unreadable in events is not
 * better in a snapshot, but a request that is too large for events is.
 */
export function isComplete(event: EventMessage): boolean | string | undefined {
  return (
    (event.source !== 'pending' || 'pending_change' in event) &&
    (event.feed || 'feature' in event || event.feature_unreadable)
  );
}

/** The position of a subscription in the server's stream of events. */
export interface StreamPosition<Content> {
  cursor?: string | undefined;
  /** The snapshot that the store was last filled with. Its `environment` is the current key. */
  snapshot?: (Content & Subject) | undefined;
  /** The snapshot contains everything that was committed before this time, in milliseconds since the epoch. */
  sinceMs?: number;
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

/** The code with which the server refuses to end a subscription that does not exist. */
export const notSubscribed = 'not_subscribed';

/** What a message can change in a subscription. */
export interface MessageReceiver<State, Content> {
  readonly position: StreamPosition<Content>;
  readonly store: Store<State, Content>;
  readonly loader: SnapshotLoader;
  /** Called when the subscription has ended on the server, with the code of the error that says so. */
  readonly reset: (code?: string) => void;
  /** Called when the server refuses the subscription. */
  readonly close: (error: FlagcastError) => void;
}

/** Applies a message to a subscription. Messages about other subscriptions are ignored. */
export function receive<State, Content extends AnySnapshot>(
  { position, store, loader, reset, close }: MessageReceiver<State, Content>,
  message: ServerMessage,
): void {
  // Another channel of this environment may be subscribed while this one is not.
  if (hasSubject(message) && !isSubscribedTo(position, message)) return;
  const { snapshot } = position;
  if ('source' in message) {
    store.apply(message);
    loader.record(message);
    position.cursor = message.cursor ?? position.cursor;
    // The server no longer has the tables, or the request is too large for events.
    if (!isComplete(message) && snapshot?.embedded_state) loader.reload();
    return;
  }
  if ('environment' in message && snapshot) {
    position.snapshot = { ...snapshot, environment: message.environment ?? snapshot.environment };
  }
  if (message.type === 'caught_up') {
    position.isCaughtUp = true;
    position.cursor = message.cursor;
  } else if (message.type === 'resync') {
    position.cursor = undefined;
    reset();
    loader.reload();
  } else if (message.type === 'heartbeat') {
    if (position.isCaughtUp) position.cursor = message.cursor;
  } else if (message.type === 'unsubscribed') reset();
  else if (message.type === 'error') {
    const { code } = message;
    reset(code);
    if (code.endsWith('unavailable')) loader.backoff();
    else if (code !== notSubscribed) close(new FlagcastError(code, message.message));
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
  { snapshot, sinceMs, isCaughtUp }: StreamPosition<unknown>,
  connection: Connection,
): ChannelStatus {
  const phase = connection.phase(sinceMs);
  if (!snapshot) return { state: 'connecting' };
  return isCaughtUp || phase.state === 'stale' ? (phase as ChannelStatus) : { state: 'catching-up' };
}

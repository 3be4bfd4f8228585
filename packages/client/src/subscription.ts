/// <reference lib="esnext.disposable" preserve="true" />
import type { ApprovalsSnapshot, ErrorMessage, ServerMessage, Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { isEqual } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import type { SubscriptionParams } from './request.js';
import { createSnapshotLoader } from './snapshot-loader.js';
import type { ChannelStatus } from './status.js';
import { createStore, type Model, type Store, type StoreView } from './store.js';
import {
  isSubscribedTo,
  receive,
  statusAt,
  type StreamPosition,
  type Subject,
  subscribe,
  toSnapshot,
} from './stream-position.js';

/** The snapshot of a channel or of the approvals feed. */
export type AnySnapshot = Snapshot | ApprovalsSnapshot;

/** What all calls that have opened a subscription share. */
export interface SubscriptionView<State, Content> extends StoreView<State> {
  /** Returns the current state in the form of the server's snapshot; null before the first snapshot. */
  readonly toSnapshot: () => Content | null;
  /**
   * Resolves with the state when it is live. Rejects with the error when it is closed, or with the reason of `signal`
   * when that is aborted.
   */
  readonly ready: (options?: { readonly signal?: AbortSignal }) => Promise<State>;
}

/** A channel or the approvals feed, kept up to date. `using` closes it, too. */
export interface Subscription<State, Content> extends SubscriptionView<State, Content>, Disposable {
  /** Closes it for the call that opened it; a second time has no effect. The last one ends the subscription. */
  readonly close: () => void;
}

/** What a client opens: a channel or the approvals feed. */
export interface SubscriptionDefinition<State, Content> {
  /** The parameters of the first request. */
  readonly params: SubscriptionParams;
  /** Further keys of the subscription. */
  readonly key?: object;
  readonly createModel: () => Model<State, Content>;
}

/** The client's interface to a subscription. */
export interface SubscriptionController {
  readonly view: SubscriptionView<unknown, AnySnapshot>;
  readonly position: StreamPosition<AnySnapshot>;
  /** Adds a reference to the subscription and starts the connection. */
  retain(): void;
  /** Removes a reference. Without any, the subscription is closed. */
  release(): void;
  /** Whether the subscription was opened with these parameters, and its environment still has this key. */
  matches(params: SubscriptionParams): boolean;
  /**
   * Does what the connection allows now: updates the status, loads a snapshot, subscribes. `error` means that the
   * environment that the connection was subscribed to no longer exists: a channel that is caught up closes.
   */
  update(error?: FlagcastError | null): void;
  /** Handles a message. After a message that is not an event, `update` must be called on all controllers. */
  receive(message: ServerMessage): void;
}

export interface SubscriptionDependencies {
  readonly connection: Connection;
  /** The controllers of all subscriptions of the client. */
  readonly controllers: Iterable<SubscriptionController>;
  readonly onError: (error: unknown) => void;
  /** Called with each snapshot after the store has been filled with it. */
  readonly onSnapshot: (snapshot: AnySnapshot) => void;
  readonly onClosed: () => void;
}

export function createSubscription<State, Content extends AnySnapshot>(
  definition: SubscriptionDefinition<State, Content>,
  { connection, controllers, onError, onSnapshot, onClosed }: SubscriptionDependencies,
): SubscriptionController {
  const store = createStore(definition.createModel(), onError);
  const position: StreamPosition<Content> = { isSubscribed: false, isCaughtUp: false };
  let { params } = definition;
  let isClosed = false;
  let references = 0;
  /** Whether the connection could subscribe at the last update. */
  let wasReady = false;

  const setStatus = (status: ChannelStatus): void =>
    store.setStatus(status, position.snapshot?.environment ?? null);
  const close = (error: FlagcastError | null): void => {
    if (isClosed) return;
    isClosed = true;
    loader.stop();
    setStatus({ state: 'closed', error });
    onClosed();
  };
  /** Handles the end of the subscription: the channel subscribes again, or closes if it has no reference. */
  const reset = (): void => {
    position.isSubscribed = position.isCaughtUp = false;
    if (!references) close(null);
  };
  const update: SubscriptionController['update'] = (error) => {
    const isReady = connection.canSubscribe();
    const phase = connection.phase();
    if (error && position.isCaughtUp) close(error);
    if (!isReady) reset();
    else if (!wasReady) loader.endPause();
    wasReady = isReady;
    if (phase.state === 'closed') close(phase.error);
    if (isClosed) return;
    if (!loader.isPaused()) {
      if (connection.canRequest()) loader.load(params);
      if (position.cursor && isReady && !position.isSubscribed) {
        const shared = [...controllers].find((each) => isSubscribedTo(each.position, position.snapshot));
        subscribe(position, store, params, connection, shared);
      }
    }
    setStatus(statusAt(position, phase, connection.view.getStatus().attempt));
  };
  const onLoaded = (snapshot: AnySnapshot, requestedAtMs: number): void => {
    const loaded = snapshot as Content & Subject;
    store.replace(loaded);
    position.cursor ??= loaded.cursor;
    position.snapshot = loaded;
    position.snapshotAtMs = requestedAtMs;
    // The key can be given to another environment, so use the id from now on.
    if (loaded.environment_id)
      params = { project_id: loaded.project_id, env_id: loaded.environment_id } as typeof params;
    // Takes over the state of another channel of this environment, if there is one, before `onSnapshot`.
    update();
    onSnapshot(loaded);
  };
  const loader = createSnapshotLoader(connection, onLoaded, close, update);
  const onRefused = ({ code, message }: ErrorMessage): void => {
    // The second of two requests to unsubscribe is refused with `not_subscribed`. A channel that is in use may have
    // subscribed again in between.
    if (code !== 'not_subscribed' || !references) reset();
    if (code.endsWith('unavailable')) loader.backOff();
    else if (code !== 'not_subscribed') close(new FlagcastError(code, message));
  };

  return {
    position,
    view: createView(definition, store, position),
    release() {
      references -= 1;
      if (references || isClosed) return;
      // Events in transit must not reach a channel that is opened meanwhile, so the channel closes when the server
      // has confirmed.
      if (position.isSubscribed) connection.send({ type: 'unsubscribe', ...params });
      else close(null);
    },
    retain() {
      references += 1;
      connection.dispatch('start');
      update();
    },
    matches: (other: Subject & { env?: string }) =>
      isEqual(other, definition.params) && other.env === (position.snapshot?.environment ?? other.env),
    update,
    receive: (message) => receive(position, store, message, loader, reset, onRefused),
  };
}

function createView<State, Content extends AnySnapshot>(
  { key }: SubscriptionDefinition<State, Content>,
  store: Store<State, Content>,
  position: StreamPosition<Content>,
): SubscriptionView<State, Content> {
  return {
    ...key,
    ...store.view,
    ready: async ({ signal } = {}) => await whenLive(store.view, signal),
    toSnapshot: () => toSnapshot(position, store),
  };
}

/** Resolves with the state when it is live; rejects when it is closed, or with the reason of `signal`. */
async function whenLive<State>(
  { getState, subscribe: onChange }: StoreView<State>,
  signal: AbortSignal | undefined,
): Promise<State> {
  return await new Promise((resolve, reject) => {
    const settle = (): void => {
      const state = getState();
      const { status } = state as { status: ChannelStatus };
      if (signal?.aborted) reject(signal.reason as Error);
      else if (status.state === 'closed') {
        reject(status.error ?? new FlagcastError('closed', 'The app has closed it'));
      } else if (status.state === 'live') resolve(state);
      else return;
      stop();
      signal?.removeEventListener('abort', settle);
    };
    const stop = onChange(settle);
    signal?.addEventListener('abort', settle);
    settle();
  });
}

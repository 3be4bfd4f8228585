/// <reference lib="esnext.disposable" preserve="true" />
import type { ServerMessage } from '#protocol';
import type { Connection } from './connection.js';
import { isEqual, once } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import type { SubscriptionParams } from './request.js';
import { createSnapshotLoader, type NewerEvents } from './snapshot-loader.js';
import type { ChannelStatus } from './status.js';
import { createStore, type Model, type StoreView } from './store.js';
import {
  type AnySnapshot,
  isSubscribedTo,
  notSubscribed,
  receive,
  statusAt,
  type StreamPosition,
  type Subject,
  toSnapshot,
} from './stream-position.js';

/** What all calls that have opened a subscription share. */
interface SubscriptionView<State, Content> extends StoreView<State> {
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
  readonly position: StreamPosition<AnySnapshot>;
  readonly toSnapshot: () => AnySnapshot | null;
  /** Adds a reference to the subscription and starts the connection. Without references, the subscription closes. */
  open(): Subscription<unknown, AnySnapshot>;
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

/**
 * Creates a subscription without references. `controllers` are those of all subscriptions of the client. `onSnapshot` is
 * called with each snapshot after the store has been filled with it.
 */
export function createSubscription<State, Content extends AnySnapshot>(
  definition: SubscriptionDefinition<State, Content>,
  connection: Connection,
  controllers: Iterable<SubscriptionController>,
  onError: (error: unknown) => void,
  onSnapshot: (snapshot: AnySnapshot) => void,
  onClosed: () => void,
): SubscriptionController {
  const model = definition.createModel();
  const store = createStore(model, onError);
  const position: StreamPosition<Content> = {};
  let { params } = definition;
  let isClosed = false;
  let references = 0;

  const getSnapshot = () => toSnapshot(position, model);
  const close = (error: FlagcastError | null): void => {
    if (isClosed) return;
    isClosed = true;
    loader.close();
    // Not later: a listener of the status may open the channel anew.
    onClosed();
    store.setStatus({ state: 'closed', error }, position.snapshot?.environment);
  };
  /** Handles the end of the subscription: the channel subscribes again, or closes if it has no reference. */
  const reset = (code?: string): void => {
    // The second of two requests to unsubscribe is refused. A channel that is in use may have subscribed again in between.
    if (references && code === notSubscribed) return;
    position.isCaughtUp = position.isSubscribed = false;
    if (!references) close(null);
  };
  const fill = (content: Content & Subject, newerEvents: NewerEvents): void => {
    position.snapshot = content;
    store.replace(content, statusAt(position, connection), content.environment, newerEvents);
  };
  const update: SubscriptionController['update'] = (error) => {
    const isReady = connection.canSubscribe();
    const phase = connection.phase();
    if (error && position.isCaughtUp) close(error);
    if (!isReady) reset();
    if (phase.state === 'closed') close(phase.error);
    if (isClosed) return;
    const { cursor, snapshot } = position;
    if (loader.load(params, isReady) && cursor && isReady && !position.isSubscribed) {
      const shared = [...controllers].find((each) => isSubscribedTo(each.position, snapshot));
      if (!shared) {
        // A feed sends the scope of its snapshot back to resume: the server refuses another one.
        connection.send({ type: 'subscribe', ...params, scope: snapshot?.scope as string, cursor });
        position.isSubscribed = true;
      } else {
        // Two channels can have the same environment, e.g. after a key change, and the server allows one subscription.
        // Both receive the events from now on, so both must have the same state.
        Object.assign(position, shared.position);
        // At the same cursor, the server may send events again that have been applied.
        fill(shared.toSnapshot() as Content, cursor === position.cursor ? [] : undefined);
      }
    }
    store.setStatus(statusAt(position, connection), position.snapshot?.environment);
  };
  const onLoaded = (loaded: Content & Subject, sinceMs: number, newerEvents: NewerEvents): void => {
    position.cursor ??= loaded.cursor;
    position.sinceMs = sinceMs;
    fill(loaded, newerEvents);
    // The key can be given to another environment, so use the id from now on.
    if (loaded.environment_id)
      params = { project_id: loaded.project_id, env_id: loaded.environment_id } as typeof params;
    // Takes over the state of another channel of this environment, if there is one, before `onSnapshot`.
    update();
    onSnapshot(loaded);
  };
  const loader = createSnapshotLoader(connection, position, onLoaded, close, update);

  return {
    position,
    toSnapshot: getSnapshot,
    open() {
      references += 1;
      connection.dispatch('start');
      update();
      return createReference(definition, store.view, getSnapshot, () => {
        if (--references || isClosed) return;
        // Events in transit must not reach a channel that is opened meanwhile, so the channel closes when the server has
        // confirmed.
        if (position.isSubscribed) connection.send({ type: 'unsubscribe', ...params });
        else close(null);
      });
    },
    matches: (other: Subject & { env?: string }) =>
      isEqual(other, definition.params) && other.env === (position.snapshot?.environment ?? other.env),
    update,
    receive: (message) => receive({ position, store, loader, reset, close }, message),
  };
}

/** Creates what a call that opens the subscription gets. `release` is called when it is closed. */
function createReference<State, Content>(
  { key }: SubscriptionDefinition<State, Content>,
  view: StoreView<State>,
  getSnapshot: () => Content | null,
  release: () => void,
): Subscription<State, Content> {
  const close = once(release);
  return {
    ...key,
    ...view,
    ready: async ({ signal } = {}) =>
      await new Promise((resolve, reject) => {
        const settle = (): void => {
          const state = view.getState();
          const { status } = state as { status: ChannelStatus };
          if (signal?.aborted) reject(signal.reason as Error);
          else if (status.state === 'closed') {
            reject(status.error ?? new FlagcastError('closed', 'Closed by the app'));
          } else if (status.state === 'live') resolve(state);
          else return;
          stop();
          signal?.removeEventListener('abort', settle);
        };
        const stop = view.subscribe(settle);
        signal?.addEventListener('abort', settle);
        settle();
      }),
    toSnapshot: getSnapshot,
    close,
    [Symbol.dispose]: close,
  };
}

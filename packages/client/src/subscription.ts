/// <reference lib="esnext.disposable" preserve="true" />
import type { ApprovalsSnapshot, CloseCode, EventMessage, ServerMessage, Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { isEqual } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import type { SubscriptionParams } from './request.js';
import type { ChannelStatus, ConnectionPhase } from './status.js';
import { createStore, type Model, type StoreView } from './store.js';
import { isReconnectCode } from './wire.js';

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
  readonly view: SubscriptionView<unknown, unknown>;
  /** Adds a reference to the subscription and starts the connection. */
  retain(): void;
  /** Removes a reference. Without any, the subscription is closed. */
  release(): void;
  /** Whether the subscription was opened with these parameters, and its environment still has this key. */
  matches(params: SubscriptionParams): boolean;
  /**
   * Returns the state and whether it is caught up, if this is subscribed to the environment of `snapshot`; otherwise an
   * empty array.
   */
  subscribed(snapshot: AnySnapshot | undefined): (readonly [AnySnapshot, boolean])[];
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

/** The keys that say what a message or a snapshot is about. */
interface Subject {
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

/** Whether the message is about one channel or feed: not about the connection. */
export function hasSubject(message: object): boolean {
  return 'environment_id' in message || 'feed' in message;
}

const tokenRefused: typeof CloseCode.badToken = 4501;
const requestTimeoutMs = 30_000;
const refetchSpreadMs = 500;

export function createSubscription<State, Content extends AnySnapshot>(
  definition: SubscriptionDefinition<State, Content>,
  { connection, controllers, onError, onSnapshot, onClosed }: SubscriptionDependencies,
): SubscriptionController {
  const store = createStore(definition.createModel(), onError);
  let { params } = definition;
  let isClosed = false;
  let references = 0;
  let cursor: string | undefined;
  /** The snapshot that the store was last filled with. Its `environment` is the current key. */
  let snapshot: (Content & Subject) | undefined;
  /** When the snapshot was requested, in milliseconds since the epoch. */
  let snapshotAtMs = 0;
  /** The store may not match the position from which the stream resumes. */
  let needsSnapshot = true;
  let isLoading = false;
  let isSubscribed = false;
  let isCaughtUp = false;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the timer waits because the server could not be reached. */
  let canCutShort = false;
  /** Whether the connection could subscribe at the last update. */
  let wasReady = false;

  const scheduleUpdate = (spreadMs: number, delayMs = 0): void => {
    timer ??= setTimeout(
      () => {
        timer = undefined;
        canCutShort = false;
        update();
      },
      delayMs + Math.random() * spreadMs,
    );
  };
  const setStatus = (status: ChannelStatus): void => store.setStatus(status, snapshot?.environment ?? null);
  const close = (error: FlagcastError | null): void => {
    if (isClosed) return;
    isClosed = true;
    clearTimeout(timer);
    setStatus({ state: 'closed', error });
    onClosed();
  };

  /** Handles the end of the subscription: the channel subscribes again, or closes if it has no reference. */
  const resetSubscription = (): void => {
    isSubscribed = isCaughtUp = false;
    if (!references) close(null);
  };

  const scheduleReload = (): void => {
    needsSnapshot = true;
    // All clients of a channel get the same message at the same time. Spread their requests.
    scheduleUpdate(refetchSpreadMs);
  };

  const loadSnapshot = async (): Promise<void> => {
    needsSnapshot = false;
    isLoading = true;
    const requestedAtMs = Date.now();
    try {
      const signal = AbortSignal.timeout(requestTimeoutMs);
      const query = new URLSearchParams(params).toString();
      const response = await connection.request(`snapshot?${query}`, { signal });
      const loaded = (await response.json()) as Content & Subject;
      if (isClosed) return;
      store.replace(loaded);
      cursor ??= loaded.cursor;
      snapshot = loaded;
      snapshotAtMs = requestedAtMs;
      // The key can be given to another environment, so use the id from now on.
      if (loaded.environment_id)
        params = { project_id: loaded.project_id, env_id: loaded.environment_id } as typeof params;
      failures = 0;
      // Takes over the state of another channel of this environment, if there is one, before `onSnapshot`.
      update();
      onSnapshot(loaded);
    } catch (error) {
      if (isClosed) return;
      const { code, closeCode = 0, retryAfterMs = 0 } = error as Partial<FlagcastError>;
      canCutShort = code !== 'too_many_requests';
      if (closeCode === tokenRefused) connection.end(error as FlagcastError);
      if (!isReconnectCode(closeCode)) {
        close(error as FlagcastError);
        return;
      }
      connection.report(
        // The code of a DOMException, such as a time-out, is a number.
        typeof code === 'string'
          ? (error as FlagcastError)
          : new FlagcastError('snapshot_failed', 'Cannot load the snapshot', { cause: error }),
      );
      needsSnapshot = true;
      scheduleUpdate(connection.backoffMs(failures++), retryAfterMs);
    }
    isLoading = false;
    if (needsSnapshot) scheduleReload();
    update();
  };

  const update: SubscriptionController['update'] = (error) => {
    const capability = connection.capability();
    const isReady = capability === 'subscribe';
    const phase = connection.phase();
    if (error && isCaughtUp) close(error);
    if (!isReady) resetSubscription();
    else if (!wasReady && canCutShort) {
      // The server can be reached again.
      clearTimeout(timer);
      timer = undefined;
    }
    wasReady = isReady;
    if (phase.state === 'closed') close(phase.error);
    if (isClosed) return;
    if (!timer) {
      if (needsSnapshot && !isLoading && capability !== 'none') void loadSnapshot();
      if (cursor && isReady && !isSubscribed) {
        // Two channels can have the same environment, e.g. after a key change. The server allows one subscription.
        const [shared] = [...controllers].flatMap((controller) =>
          controller.subscribed(snapshot),
        ) as (readonly [Content, boolean])[];
        if (shared) {
          // Both channels receive the events from now on, so both must have the same state.
          if (!isEqual(shared[0], view.toSnapshot())) store.replace(shared[0]);
          [snapshot, isCaughtUp] = shared;
          ({ cursor } = snapshot);
        } else {
          // What a feed sends back to resume: the server refuses another scope.
          const scope = snapshot?.scope as string;
          connection.send({ type: 'subscribe', ...params, scope, cursor });
        }
        isSubscribed = true;
      }
    }
    setStatus(channelStatus(phase));
  };
  const channelStatus = (phase: ConnectionPhase): ChannelStatus => {
    if (!snapshot) return { state: 'connecting' };
    if (phase.state === 'connecting' && connection.view.getStatus().attempt) {
      return { state: 'stale', sinceMs: snapshotAtMs, reason: 'disconnected' };
    }
    return isCaughtUp || phase.state === 'stale' ? (phase as ChannelStatus) : { state: 'catching-up' };
  };

  const view: SubscriptionView<State, Content> = {
    ...definition.key,
    ...store.view,
    ready: async ({ signal } = {}) =>
      await new Promise((resolve, reject) => {
        const settle = (): void => {
          const state = store.view.getState();
          const { status } = state as { status: ChannelStatus };
          if (signal?.aborted) reject(signal.reason as Error);
          else if (status.state === 'closed') {
            reject(status.error ?? new FlagcastError('closed', 'The app has closed it'));
          } else if (status.state === 'live') resolve(state);
          else return;
          stop();
          signal?.removeEventListener('abort', settle);
        };
        const stop = store.view.subscribe(settle);
        signal?.addEventListener('abort', settle);
        settle();
      }),
    toSnapshot: () => (snapshot && cursor ? { ...snapshot, ...store.contents(), cursor } : null),
  };

  return {
    view,
    release() {
      references -= 1;
      if (references || isClosed) return;
      // Events in transit must not reach a channel that is opened meanwhile, so the channel closes when the server
      // has confirmed.
      if (isSubscribed) connection.send({ type: 'unsubscribe', ...params });
      else close(null);
    },
    retain() {
      references += 1;
      connection.dispatch('start');
      update();
    },
    matches: (other: Subject & { env?: string }) =>
      isEqual(other, definition.params) && other.env === (snapshot?.environment ?? other.env),
    subscribed: (other) =>
      isSubscribed && isEqual(subjectOf(other), subjectOf(snapshot))
        ? [[view.toSnapshot() as Content, isCaughtUp]]
        : [],
    update,
    receive(message) {
      // Another channel of this environment may be subscribed while this one is not.
      if (hasSubject(message) && !(isSubscribed && isEqual(subjectOf(message), subjectOf(snapshot)))) return;
      if ('source' in message) {
        store.apply(message);
        cursor = message.cursor ?? cursor;
        // The server no longer has the tables, or the request is too large for events.
        if (!isComplete(message) && snapshot?.embedded_state) scheduleReload();
        return;
      }
      if (message.type === 'heartbeat') {
        if (isCaughtUp) cursor = message.cursor;
        return;
      }
      if ('environment' in message && snapshot) {
        snapshot = { ...snapshot, environment: message.environment ?? snapshot.environment };
      }
      if (message.type === 'caught_up') {
        isCaughtUp = isSubscribed;
        failures = 0;
        cursor = message.cursor;
      } else if (message.type === 'resync') {
        resetSubscription();
        cursor = undefined;
        scheduleReload();
      } else if (message.type === 'unsubscribed') resetSubscription();
      else if (message.type === 'error') {
        const { code } = message;
        // The second of two requests to unsubscribe is refused with `not_subscribed`. A channel that is in use may have
        // subscribed again in between.
        if (code !== 'not_subscribed' || !references) resetSubscription();
        if (code.endsWith('unavailable')) scheduleUpdate(connection.backoffMs(failures++));
        else if (code !== 'not_subscribed') close(new FlagcastError(code, message.message));
      }
    },
  };
}

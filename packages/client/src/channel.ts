import { isReconnectCode, type ServerMessage, type Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { backoffMs } from './connection-machine.js';
import { isEqual } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import type { ChannelKey, ChannelParams } from './request.js';
import type { ChannelStatus, ConnectionStatus } from './status.js';
import type { Store, StoreView } from './store.js';

/**
 * One environment of one project, kept up to date. `env` is the key that the channel was opened with. The channel
 * follows its environment when the environment's key changes: `getState().environment` is the current key.
 */
export interface Channel extends ChannelKey, StoreView {
  /** Returns the current state in the form of the server's snapshot; null before the first snapshot. */
  readonly toSnapshot: () => Snapshot | null;
  /** Releases one `client.channel(...)` call. The channel is closed when every call has been released. */
  readonly close: () => void;
}

/** The client's interface to a channel. */
export interface ChannelController {
  readonly channel: Channel;
  /** Adds a reference to the channel and starts the connection. */
  retain(): void;
  /** Whether the channel was opened with this key, and its environment still has it. */
  matches(key: ChannelKey): boolean;
  /**
   * Returns the channel's state and whether it is caught up, if the channel is subscribed to the environment of
   * `snapshot`; otherwise an empty array.
   */
  subscriptions(snapshot: Snapshot | undefined): (readonly [Snapshot, boolean])[];
  /**
   * Does what the connection allows now: updates the status, loads a snapshot, subscribes. `error` means that the
   * environment that the connection was subscribed to no longer exists: a channel that is caught up closes.
   */
  update(error?: FlagcastError | null): void;
  /** Handles a message. After a message that is not an event, `update` must be called on all controllers. */
  receive(message: ServerMessage): void;
}

export interface ChannelDependencies {
  readonly store: Store;
  readonly connection: Connection;
  /** The controllers of all channels of the client. */
  readonly controllers: Iterable<ChannelController>;
  readonly onError: (error: unknown) => void;
  /** Called with each snapshot after the store has been filled with it. */
  readonly onSnapshot: (snapshot: Snapshot) => void;
  readonly onClosed: () => void;
}

const requestTimeoutMs = 30_000;
const refetchSpreadMs = 500;

export function createChannel(
  key: ChannelKey,
  { store, connection, controllers, onError, onSnapshot, onClosed }: ChannelDependencies,
): ChannelController {
  let params: ChannelParams = { project_id: key.projectId, env: key.env };
  let isClosed = false;
  let references = 0;
  let cursor: string | undefined;
  /** The snapshot that the store was last filled with. Its `environment` is the current key. */
  let snapshot: Snapshot | undefined;
  /** The store may not match the position from which the stream resumes. */
  let needsSnapshot = true;
  let isLoading = false;
  let isSubscribed = false;
  let isCaughtUp = false;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const scheduleUpdate = (spreadMs: number, delayMs = 0): void => {
    timer ??= setTimeout(
      () => {
        timer = undefined;
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

  const isAbout = (message?: { project_id?: string; environment_id?: string }): boolean =>
    message?.project_id === snapshot?.project_id && message?.environment_id === snapshot?.environment_id;

  const scheduleReload = (): void => {
    needsSnapshot = true;
    // All clients of a channel get the same message at the same time. Spread their requests.
    scheduleUpdate(refetchSpreadMs);
  };

  const loadSnapshot = async (): Promise<void> => {
    needsSnapshot = false;
    isLoading = true;
    try {
      const signal = AbortSignal.timeout(requestTimeoutMs);
      const response = await connection.request('snapshot', params, { signal });
      const loaded = (await response.json()) as Snapshot;
      if (isClosed) return;
      store.replace(loaded);
      cursor ??= loaded.cursor;
      snapshot = loaded;
      // The key can be given to another environment, so use the id from now on.
      params = { project_id: loaded.project_id, env_id: loaded.environment_id };
      failures = 0;
      // Takes over the state of another channel of this environment, if there is one, before `onSnapshot`.
      update();
      onSnapshot(loaded);
    } catch (error) {
      if (isClosed) return;
      const { closeCode = 0, retryAfterMs = 0 } = error as Partial<FlagcastError>;
      if (!isReconnectCode(closeCode)) {
        close(error as FlagcastError);
        return;
      }
      onError(error);
      needsSnapshot = true;
      scheduleUpdate(backoffMs(failures++), retryAfterMs);
    }
    isLoading = false;
    if (needsSnapshot) scheduleReload();
    update();
  };

  const update: ChannelController['update'] = (error) => {
    const capability = connection.capability();
    const connectionStatus = connection.view.getStatus();
    if (error && isCaughtUp) close(error);
    if (capability !== 'subscribe') resetSubscription();
    if (connectionStatus.state === 'closed') close(connectionStatus.error);
    if (isClosed) return;
    if (!timer) {
      if (needsSnapshot && !isLoading && capability !== 'none') void loadSnapshot();
      if (cursor && capability === 'subscribe' && !isSubscribed) {
        // Two channels can have the same environment, e.g. after a key change. The server allows one subscription.
        const [shared] = [...controllers].flatMap((controller) => controller.subscriptions(snapshot));
        if (shared) {
          // Both channels receive the events from now on, so both must have the same state.
          if (!isEqual(shared[0], channel.toSnapshot())) store.replace(shared[0]);
          [snapshot, isCaughtUp] = shared;
          ({ cursor } = snapshot);
        } else connection.send({ type: 'subscribe', ...params, cursor });
        isSubscribed = true;
      }
    }
    setStatus(channelStatus(connectionStatus));
  };
  const channelStatus = (connectionStatus: ConnectionStatus): ChannelStatus => {
    if (!snapshot) return { state: 'connecting' };
    if (connectionStatus.state === 'live' && !isCaughtUp) return { state: 'catching-up' };
    // Never idle: the connection runs while a channel is open.
    return connectionStatus as ChannelStatus;
  };

  const channel: Channel = {
    ...key,
    ...store.view,
    toSnapshot: () => (snapshot && cursor ? { ...snapshot, ...store.contents(), cursor } : null),
    close() {
      references -= 1;
      if (references) return;
      // Events in transit must not reach a channel that is opened meanwhile, so the channel closes when the server
      // has confirmed.
      if (isSubscribed) connection.send({ type: 'unsubscribe', ...params });
      else close(null);
    },
  };

  return {
    channel,
    retain() {
      references += 1;
      connection.dispatch('start');
      update();
    },
    matches: ({ projectId, env }) =>
      projectId === key.projectId && env === key.env && env === (snapshot?.environment ?? env),
    subscriptions: (other) =>
      isSubscribed && isAbout(other) ? [[channel.toSnapshot() as Snapshot, isCaughtUp]] : [],
    update,
    receive(message) {
      // Another channel of this environment may be subscribed while this one is not.
      if ('environment_id' in message && !(isSubscribed && isAbout(message))) return;
      if ('source' in message) {
        store.apply(message);
        cursor = message.cursor ?? cursor;
        // The server no longer has the feature tables. If only this feature is unreadable, a snapshot would not
        // contain it either.
        if (!('feature' in message || message.feature_unreadable) && snapshot?.embedded_state)
          scheduleReload();
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
        if (code.endsWith('unavailable')) scheduleUpdate(backoffMs(failures++));
        else if (code !== 'not_subscribed') close(new FlagcastError(code, message.message));
      }
    },
  };
}

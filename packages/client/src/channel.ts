import { isReconnectCode, type ServerMessage, type Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { backoffMs } from './connection-machine.js';
import { FlagcastError } from './flagcast-error.js';
import type { ChannelAddress, ChannelName } from './request.js';
import type { ChannelStatus, Store, StoreView } from './store.js';

/**
 * One environment of one project, kept up to date. `env` is the key that the channel was opened with. The channel
 * follows the environment also when its key changes: `getState().environment` is the key that it has now.
 */
export interface Channel extends ChannelName, StoreView {
  /** The channel as it is, in the form of the server's snapshot; null until there is one. */
  readonly toSnapshot: () => Snapshot | null;
  /** Gives back one `client.channel(...)`; the last one ends the channel. */
  readonly close: () => void;
}

/** A channel as the client drives it. */
export interface ChannelDriver {
  readonly channel: Channel;
  /** Counts one more owner, and makes sure of a connection. */
  hold(): void;
  /** Whether the channel was opened with this name, and its environment still has that key. */
  hasName(name: ChannelName): boolean;
  /** While the channel is subscribed to the environment of this snapshot: its state, and whether it is caught up. */
  subscriptions(snapshot: Snapshot | undefined): (readonly [Snapshot, boolean])[];
  /**
   * Brings the channel as far as the connection allows: status, snapshot, subscription. With an error, the
   * environment that the connection was subscribed to is gone: the channel that is caught up ends.
   */
  update(gone?: FlagcastError | null): void;
  receive(message: ServerMessage): void;
}

const requestTimeoutMs = 30_000;
const refetchSpreadMs = 500;

/** `tell` is called with each snapshot that the store was filled with, `ended` once the channel has ended. */
export function createChannel(
  name: ChannelName,
  store: Store,
  connection: Connection,
  drivers: Iterable<ChannelDriver>,
  report: (error: unknown) => void,
  tell: (snapshot: Snapshot) => void,
  ended: () => void,
): ChannelDriver {
  let address: ChannelAddress = { project_id: name.projectId, env: name.env };
  let over = false;
  let owners = 0;
  let cursor: string | undefined;
  /** The last one that the store was filled with, with the key that the environment has now. */
  let snapshot: Snapshot | undefined;
  /** A snapshot is wanted: the store is not, or may not be, what the stream goes on from. */
  let outdated = true;
  let loading = false;
  let subscribed = false;
  let caughtUp = false;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const later = (spreadMs: number, delayMs = 0): void => {
    timer ??= setTimeout(
      () => {
        timer = undefined;
        update();
      },
      delayMs + Math.random() * spreadMs,
    );
  };
  const show = (status: ChannelStatus): void => store.setStatus(status, snapshot?.environment ?? null);
  const end = (error: FlagcastError | null): void => {
    if (over) return;
    over = true;
    clearTimeout(timer);
    show({ state: 'closed', error });
    ended();
  };

  /** The subscription is no more: the channel begins anew, unless nobody wants it. */
  const drop = (): void => {
    subscribed = caughtUp = false;
    if (!owners) end(null);
  };

  const isAbout = (about?: { project_id?: string; environment_id?: string }): boolean =>
    about?.project_id === snapshot?.project_id && about?.environment_id === snapshot?.environment_id;

  const refetch = (): void => {
    outdated = true;
    // All clients of a channel are told at the same time: they must not ask at the same time.
    later(refetchSpreadMs);
  };

  const load = async (): Promise<void> => {
    outdated = false;
    loading = true;
    try {
      const response = await connection.request('snapshot', address, AbortSignal.timeout(requestTimeoutMs));
      const fresh = (await response.json()) as Snapshot;
      if (over) return;
      store.replace(fresh);
      cursor ??= fresh.cursor;
      snapshot = fresh;
      // A key can be given to another environment: from here on the id counts.
      address = { project_id: fresh.project_id, env_id: fresh.environment_id };
      failures = 0;
      // Takes over the state of another channel of this environment, if there is one, before `tell`.
      update();
      tell(fresh);
    } catch (error) {
      if (over) return;
      const { closeCode = 0, retryAfterMs = 0 } = error as Partial<FlagcastError>;
      if (!isReconnectCode(closeCode)) {
        end(error as FlagcastError);
        return;
      }
      report(error);
      outdated = true;
      later(backoffMs(failures++), retryAfterMs);
    }
    loading = false;
    if (outdated) refetch();
    update();
  };

  const update: ChannelDriver['update'] = (gone) => {
    const reach = connection.reach();
    const line = connection.view.getStatus();
    if (gone && caughtUp) end(gone);
    if (reach < 2) drop();
    if (line.state === 'closed') end(line.error);
    if (over) return;
    if (!timer) {
      if (outdated && !loading && reach) void load();
      if (cursor && reach > 1 && !subscribed) {
        // Two channels can have one environment, e.g. after its key has changed. The server allows one subscription.
        const [other] = [...drivers].flatMap((driver) => driver.subscriptions(snapshot));
        if (other) {
          // The events go to both channels from here on: both must have the same state.
          if (other[0].cursor !== cursor) store.replace(other[0]);
          [snapshot, caughtUp] = other;
          ({ cursor } = snapshot);
        } else connection.send({ type: 'subscribe', ...address, cursor });
        subscribed = true;
      }
    }
    show(
      !snapshot
        ? { state: 'connecting' }
        : line.state === 'live' && !caughtUp
          ? { state: 'catching-up' }
          : // Not idle: this channel is wanted.
            (line as ChannelStatus),
    );
  };

  const channel: Channel = {
    ...name,
    ...store.view,
    toSnapshot: () => (snapshot && cursor ? { ...snapshot, ...store.contents(), cursor } : null),
    close() {
      owners -= 1;
      if (owners) return;
      // What is still on its way must not reach a channel that is opened meanwhile: it ends when the
      // server has confirmed.
      if (subscribed) connection.send({ type: 'unsubscribe', ...address });
      else end(null);
    },
  };

  return {
    channel,
    hold() {
      owners += 1;
      connection.dispatch('start');
      update();
    },
    hasName: ({ projectId, env }) =>
      projectId === name.projectId && env === name.env && env === (snapshot?.environment ?? env),
    subscriptions: (other) =>
      subscribed && isAbout(other) ? [[channel.toSnapshot() as Snapshot, caughtUp]] : [],
    update,
    receive(message) {
      if ('environment_id' in message && !isAbout(message)) return;
      if ('source' in message) {
        if (!subscribed) return;
        store.apply(message);
        cursor = message.cursor ?? cursor;
        // The server no longer has the feature tables. A state that alone is unreadable is not fetched: a
        // snapshot would not have it either.
        if (!('feature' in message || message.feature_unreadable) && snapshot?.embedded_state) refetch();
        return;
      }
      if (message.type === 'heartbeat') {
        if (caughtUp) cursor = message.cursor;
        return;
      }
      if ('environment' in message && snapshot) {
        snapshot = { ...snapshot, environment: message.environment ?? snapshot.environment };
      }
      if (message.type === 'caught_up') {
        caughtUp = subscribed;
        failures = 0;
        cursor = message.cursor;
      } else if (message.type === 'resync') {
        drop();
        cursor = undefined;
        refetch();
      } else if (message.type === 'unsubscribed') drop();
      else if (message.type === 'error') {
        const { code } = message;
        drop();
        if (code.endsWith('unavailable')) later(backoffMs(failures++));
        else if (code !== 'not_subscribed') end(new FlagcastError(code, message.message));
      }
      update();
    },
  };
}

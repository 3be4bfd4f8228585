import { isReconnectCode, type ServerMessage, type Snapshot } from '#protocol';
import type { Connection } from './connection.js';
import { backoffMs } from './connection-machine.js';
import { FlagcastError } from './flagcast-error.js';
import type { ChannelName } from './request.js';
import type { ChannelStatus, Store, StoreView } from './store.js';

/** One environment of one project, kept true. */
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
  /** Brings the channel as far as the connection allows: status, snapshot, subscription. */
  update(): void;
  receive(message: ServerMessage): void;
}

const requestTimeoutMs = 30_000;
const refetchSpreadMs = 500;

/** `tell` is called with each snapshot that the store was filled with, `ended` once the channel has ended. */
export function createChannel(
  name: ChannelName,
  store: Store,
  connection: Connection,
  report: (error: unknown) => void,
  tell: (snapshot: Snapshot) => void,
  ended: () => void,
): ChannelDriver {
  const address = { project_id: name.projectId, env: name.env };
  let over = false;
  let owners = 0;
  let cursor: string | undefined;
  /** The last one that the store was filled with. */
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
  const end = (error: FlagcastError | null): void => {
    if (over) return;
    over = true;
    clearTimeout(timer);
    store.setStatus({ state: 'closed', error });
    ended();
  };

  /** The subscription is no more: the channel begins anew, unless nobody wants it. */
  const drop = (): void => {
    subscribed = caughtUp = false;
    if (!owners) end(null);
  };

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
      failures = 0;
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

  const update = (): void => {
    const reach = connection.reach();
    const line = connection.view.getStatus();
    if (reach < 2) drop();
    if (line.state === 'closed') end(line.error);
    if (over) return;
    store.setStatus(
      !snapshot
        ? { state: 'connecting' }
        : line.state === 'live' && !caughtUp
          ? { state: 'catching-up' }
          : // Not idle: this channel is wanted.
            (line as ChannelStatus),
    );
    if (timer) return;
    if (outdated && !loading && reach) void load();
    if (cursor && reach > 1 && !subscribed) {
      subscribed = true;
      connection.send({ type: 'subscribe', ...address, cursor });
    }
  };

  return {
    channel: {
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
    },
    hold() {
      owners += 1;
      connection.dispatch('start');
      update();
    },
    update,
    receive(message) {
      if ('source' in message) {
        if (!subscribed) return;
        store.apply(message);
        cursor = message.cursor ?? cursor;
        // The server has lost sight of the feature tables. Without them there is nothing to fetch.
        if (!('feature' in message) && snapshot?.embedded_state) refetch();
        return;
      }
      if (message.type === 'heartbeat') {
        if (caughtUp) cursor = message.cursor;
        return;
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

import type { ServerMessage, Snapshot } from '#protocol';
import { type Channel, type ChannelDriver, createChannel } from './channel.js';
import { type ConnectionView, createConnection } from './connection.js';
import { FlagcastError } from './flagcast-error.js';
import type { WebSocketClass } from './line.js';
import type { ChannelName } from './request.js';
import { createStore } from './store.js';
import { createTopic } from './topic.js';

/** What the client reaches the network through. */
export interface Transport {
  readonly WebSocket?: WebSocketClass | undefined;
  readonly fetch?: typeof fetch | undefined;
}

export interface ClientOptions extends Transport {
  /** The server's base, e.g. `https://flags.example.com`; in a page `/` is the page's own origin. */
  readonly url: string;
  /**
   * Called for each attempt to connect, and ahead of the token's expiry. When it rejects it is asked again,
   * with backoff; when it rejects with a FlagcastError the client ends with that. It is waited for without
   * limit: it may ask the user.
   */
  readonly getToken: () => string | Promise<string>;
  /** Default: the global one; where there is none, server-sent events. In Node 20: `WebSocket` of `ws`. */
  readonly WebSocket?: WebSocketClass | undefined;
  /** Default: the global one. */
  readonly fetch?: typeof fetch | undefined;
  /** How many events a channel's `activity` keeps. Default 200. */
  readonly activityLimit?: number;
  /**
   * Gets what went wrong and is being tried again, and what a listener threw. What ends a channel or the
   * client is told by its status. Default: `console.error`.
   */
  readonly onError?: (error: unknown) => void;
  /**
   * One connection for all tabs: `sharedTabs(...)` of `@flagcast/client/tabs`. It makes the client, with
   * `connect`, in place of createClient. Default: each tab has a connection of its own.
   */
  readonly shareTabs?: ((options: ClientOptions, connect: typeof createClient) => Client) | undefined;
}

/** `getStatus` and `subscribe` are about the connection. */
export interface Client extends ConnectionView {
  /**
   * Opens a channel. The first one opens the connection, and all channels share it. The same arguments return
   * the same channel while it is open and its environment has this key: call `close` once for each call. A
   * channel follows its environment when the environment's key changes; the key is resolved anew by the next
   * call.
   */
  readonly channel: (name: ChannelName) => Channel;
  /**
   * Calls `listener` with each message of the server, and each snapshot, once it has been taken in: for
   * logs. Returns how to take it off.
   */
  readonly onMessage: (listener: (message: ServerMessage | Snapshot) => void) => () => void;
  /** Ends all channels, and the connection, for good. */
  readonly close: () => void;
}

/**
 * A client of one server. It connects when the first channel is opened, and comes back by itself whatever
 * happens to the network or the server. Throws a FlagcastError `bad_url` for a `url` that is none.
 */
export function createClient(options: ClientOptions): Client {
  // oxlint-disable-next-line no-console -- the place where a page's developer looks
  const { url, getToken, activityLimit = 200, onError: report = console.error, shareTabs } = options;
  if (shareTabs) return shareTabs(options, createClient);
  const [onMessage, tell] = createTopic<ServerMessage | Snapshot>(report);
  const drivers = new Set<ChannelDriver>();

  const openChannel: Client['channel'] = ({ projectId, env }) => {
    const name = { projectId, env };
    const open = [...drivers].find((driver) => driver.hasName(name));
    const driver =
      open ??
      createChannel(name, createStore(activityLimit, report), connection, drivers, report, tell, () => {
        drivers.delete(driver);
        if (!drivers.size) connection.dispatch('stop');
      });
    drivers.add(driver);
    driver.hold();
    return driver.channel;
  };

  const connection = createConnection(
    url,
    getToken,
    options.WebSocket ?? globalThis.WebSocket,
    options.fetch ?? globalThis.fetch,
    report,
    (gone) => {
      for (const driver of drivers) driver.update(gone);
    },
    (message) => {
      if (message.type === 'error' && !('environment_id' in message)) {
        report(new FlagcastError(message.code, message.message));
      } else for (const driver of drivers) driver.receive(message);
      if (!('source' in message)) for (const driver of drivers) driver.update();
      tell(message);
    },
  );

  return {
    channel: openChannel,
    onMessage,
    ...connection.view,
    close: () => connection.dispatch('end'),
  };
}

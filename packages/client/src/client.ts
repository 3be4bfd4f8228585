import type { ClientMessage, ErrorMessage, HelloMessage, ServerMessage, Snapshot } from '#protocol';
import { type ChannelState, createChannelModel } from './channel-model.js';
import type { Backoff } from './connection-machine.js';
import { type ConnectionView, createConnection } from './connection.js';
import { createEmitter } from './emitter.js';
import { FlagcastError } from './flagcast-error.js';
import { resolveBaseUrl } from './page.js';
import type { ChannelKey } from './request.js';
import { type AnySnapshot, hasSubject } from './stream-position.js';
import {
  createSubscription,
  type Subscription,
  type SubscriptionController,
  type SubscriptionDefinition,
} from './subscription.js';
import type { WebSocketClass } from './transport.js';

/** The functions that a client uses for network access. */
export interface NetworkOptions {
  /**
   * Default: the global class. `null`: none, as in Node 20 without `WebSocket` of `ws`. The client then uses server-sent
   * events.
   */
  readonly WebSocket?: WebSocketClass | null | undefined;
  /** Default, and with `null`: the global function. */
  readonly fetch?: typeof fetch | null | undefined;
}

/** Options of `createClient`. */
export interface ClientOptions extends NetworkOptions {
  /** The server's base URL, e.g. `https://flags.example.com`. In a page, `/` is the page's origin. */
  readonly url: string;
  /**
   * Returns a token. Called for each attempt to connect, and before the current token expires. If it rejects, it is
   * called again with backoff; if it rejects with a FlagcastError, the client closes with that error. There is no
   * time-out, because the function may ask the user to sign in.
   */
  readonly getToken: () => string | Promise<string>;
  /**
   * How long the connection stays open after the last channel was closed, so that a change of the route does not
   * reconnect. Default 5,000 ms. `client.close()` closes it at once.
   */
  readonly lingerMs?: number;
  /** The wait before the next attempt to connect, and before a failed snapshot is requested again. */
  readonly backoff?: Backoff | undefined;
  /** How many events `activity` of a channel contains. Default 200. */
  readonly activityLimit?: number;
  /**
   * Called with each failure that is retried (a FlagcastError), and with exceptions from listeners. An error that
   * closes a channel or the client is in its status instead. Default: `console.error`.
   */
  readonly onError?: (error: unknown) => void;
  /** Logs each message and decision of the client: `true` to `console.debug`, or a function. Default: false. */
  readonly debug?: boolean | ((...parts: unknown[]) => void);
  /**
   * Shares one connection between all tabs: `sharedTabs(...)` of `@flagcast/client/tabs`. createClient then returns
   * the client that this function creates with `connect`. Default: each tab has its own connection.
   */
  readonly shareTabs?: ((options: ClientOptions, connect: typeof createClient) => Client) | undefined;
}

/**
 * One environment of one project, kept up to date. `env` is the key that the channel was opened with. The channel
 * follows its environment when the environment's key changes: `getState().environment` is the current key.
 */
export interface Channel extends ChannelKey, Subscription<ChannelState, Snapshot> {}

/** A client of one server. `getStatus` and `subscribe` are about the connection. */
export interface Client extends ConnectionView {
  /**
   * Opens a channel. The first channel opens the connection, which all channels share. While a channel is open and
   * its environment has this key, the same arguments share its state: it is closed when each of them is. When the
   * environment's key changes, the channel follows its environment; the next call resolves the key again.
   */
  readonly channel: (key: ChannelKey) => Channel;
  /** Opens a subscription for another entry of this package, such as `approvals` of `@flagcast/client/approvals`. */
  readonly open: <State, Content extends AnySnapshot>(
    definition: SubscriptionDefinition<State, Content>,
  ) => Subscription<State, Content>;
  /**
   * Calls `listener` with each message and snapshot from the server after it has been applied, e.g. for logging.
   * Returns the function that removes the listener.
   */
  readonly onMessage: (listener: (message: ServerMessage | AnySnapshot) => void) => () => void;
  /** Returns the first message of the newest connection; null before it. */
  readonly getHello: () => HelloMessage | null;
  /** Sends a message for another entry of this package, such as `presence`. Without a connection it is dropped. */
  readonly send: (message: ClientMessage) => void;
  /** Closes all channels and the connection. The client cannot be used again. */
  readonly close: () => void;
}

/**
 * Creates a client of one server. It connects when the first channel is opened, and reconnects after any failure of
 * the network or the server. Throws a FlagcastError `bad_url` if `url` is not a URL; a path is resolved, and refused
 * without a page, when the first channel is opened.
 */
export function createClient(options: ClientOptions): Client {
  const {
    url,
    WebSocket = globalThis.WebSocket,
    fetch,
    activityLimit = 200,
    lingerMs = 5_000,
    debug,
    shareTabs,
  } = options;
  if (shareTabs) return shareTabs(options, createClient);
  // A path is resolved when it is used, because a server that renders the page creates a client, too.
  const getBaseUrl = (): string => resolveBaseUrl(url);
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
  if (!url?.startsWith('/')) getBaseUrl();
  // oxlint-disable no-console -- the developer of a page sees it there
  const [onFailure, onError] = createEmitter<unknown>(console.error);
  onFailure(options.onError ?? console.error);
  // oxlint-enable no-console
  const [onMessage, emitMessage] = createEmitter<ServerMessage | AnySnapshot>(onError);
  const controllers = new Set<SubscriptionController>();
  let hello: HelloMessage | null = null;

  const open = <State, Content extends AnySnapshot>(
    definition: SubscriptionDefinition<State, Content>,
  ): Subscription<State, Content> => {
    getBaseUrl();
    const controller =
      [...controllers].find((each) => each.matches(definition.params)) ??
      createSubscription(definition, connection, controllers, onError, emitMessage, () => {
        controllers.delete(controller);
        if (connection.phase().state === 'closed') return;
        setTimeout(() => {
          if (!controllers.size) connection.dispatch('stop');
        }, lingerMs);
      });
    controllers.add(controller);
    return controller.open() as Subscription<State, Content>;
  };

  const update = (error?: FlagcastError): void => {
    for (const controller of controllers) controller.update(error);
  };
  const connection = createConnection({
    ...options,
    getBaseUrl,
    // Opening one fails if there is none: the client then uses event streams.
    WebSocket: WebSocket as WebSocketClass,
    fetch: fetch ?? globalThis.fetch,
    onError,
    // oxlint-disable-next-line no-console -- the developer of a page asks for it
    log: debug === true ? console.debug : debug || undefined,
    onChange: update,
    onMessage(message) {
      if (message.type === 'hello') hello = message as HelloMessage;
      if (message.type === 'error' && !hasSubject(message)) {
        onError(new FlagcastError((message as ErrorMessage).code, (message as ErrorMessage).message));
      } else for (const controller of controllers) controller.receive(message);
      if (!('source' in message)) update();
      emitMessage(message);
    },
  });

  return {
    open,
    channel: ({ projectId, env }) =>
      open({
        params: { project_id: projectId, env },
        key: { projectId, env },
        createModel: () => createChannelModel(activityLimit),
      }) as Channel,
    onMessage,
    ...connection.view,
    reconnect: () => connection.dispatch('reconnect'),
    getHello: () => hello,
    send: connection.send,
    close: () => connection.dispatch('end'),
  };
}

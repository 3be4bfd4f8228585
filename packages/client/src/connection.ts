import type { ClientMessage, CloseCode, ServerMessage } from '#protocol';
import {
  type Backoff,
  backoffMs,
  type ConnectionEvent,
  initialMachine,
  transition,
} from './connection-machine.js';
import { createEmitter, isEqual, observe, type Readable } from './emitter.js';
import { createEventStreamTransport } from './event-stream-transport.js';
import { FlagcastError } from './flagcast-error.js';
import { type Freshness, updateFreshness } from './freshness.js';
import { type Page, resolveBaseUrl, watchPage } from './page.js';
import { createRequest, type Request } from './request.js';
import type { ConnectionPhase, ConnectionStatus } from './status.js';
import { createTokenSource, maxTimerMs } from './token-source.js';
import {
  createWebSocketTransport,
  type Transport,
  type TransportHandlers,
  type WebSocketClass,
} from './transport.js';
import { isReconnectCode, subprotocol } from './wire.js';

/** The part of the connection that the app can see. */
export interface ConnectionView {
  /** Returns the same object until the status changes. */
  readonly getStatus: () => ConnectionStatus;
  /** Calls `listener` with the status when it has changed. Returns the function that removes the listener. */
  readonly subscribe: (listener: (status: ConnectionStatus) => void) => () => void;
  /** The status in the form of a store of Svelte, or for `from` of Solid. */
  readonly store: Readable<ConnectionStatus>;
  /** Connects again at once, e.g. when the user asks for it, instead of at `retryAtMs`. */
  readonly reconnect: () => void;
}

/**
 * What the connection can do now.
 *
 * - `none`: nothing; there has been no token yet
 * - `request`: send requests for snapshots
 * - `subscribe`: send requests, and subscribe to channels
 */
type ConnectionCapability = 'none' | 'request' | 'subscribe';

export interface Connection {
  readonly view: ConnectionView;
  /** Throws a FlagcastError `bad_url` if `url` cannot be resolved here. */
  readonly checkUrl: () => void;
  readonly phase: () => ConnectionPhase;
  readonly capability: () => ConnectionCapability;
  readonly dispatch: (event: ConnectionEvent, delayMs?: number, error?: FlagcastError) => void;
  /** Returns the width of the jitter after failed attempts, in milliseconds. */
  readonly backoffMs: (attempts: number) => number;
  /** Closes the client, with the error that ended it or null. */
  readonly end: (error: FlagcastError | null) => void;
  readonly send: (message: ClientMessage) => void;
  readonly request: Request;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly getToken: () => string | Promise<string>;
  readonly WebSocket: WebSocketClass;
  readonly fetch: typeof fetch;
  readonly backoff?: Backoff | undefined;
  readonly onError: (error: unknown) => void;
  /** Logs messages and decisions. */
  readonly log?: ((...parts: unknown[]) => void) | undefined;
  /**
   * Called when the machine's state or the status has changed. `error` is set if the environment of the only
   * subscribed channel no longer exists.
   */
  readonly onChange: (error?: FlagcastError) => void;
  readonly onMessage: (message: ServerMessage) => void;
}

const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/** Runs the connection's state machine: opens transports, fetches tokens, sets timers. */
export function createConnection(options: ConnectionOptions): Connection {
  const { WebSocket, fetch, backoff, onError, log, onChange } = options;
  // A path is resolved when it is used, because a server that renders the page creates a client, too.
  const getBaseUrl = (): string => resolveBaseUrl(options.url);
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
  if (!options.url?.startsWith('/')) getBaseUrl();
  const [subscribe, emit] = createEmitter(onError);
  let machine = initialMachine;
  let phase: ConnectionPhase = { state: 'idle' };
  let retryAtMs: number | null = null;
  let lastError: FlagcastError | null = null;
  let closeError: FlagcastError | null = null;
  const createStatus = (): ConnectionStatus => ({
    ...phase,
    transport: machine.usesStreams ? 'sse' : 'websocket',
    attempt: machine.helloAtMs ? 0 : machine.reconnectAttempts,
    retryAtMs,
    lastError,
  });
  let status = createStatus();
  let transport: Transport | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let freshness: Freshness = { asOfMs: 0, stale: null };
  let heartbeatMs = 0;

  const end: Connection['end'] = (error) => {
    closeError ??= error;
    dispatch('end');
  };
  const tokens = createTokenSource(options.getToken, onError, end);
  const request = createRequest(getBaseUrl, fetch, tokens.current);

  const dispatch: Connection['dispatch'] = (event, delayMs, error) => {
    const before = machine;
    const closeCode = error?.closeCode;
    machine = transition(before, event, { nowMs: Date.now(), heartbeatMs, backoff, delayMs, closeCode });
    if (machine === before) return;
    const { state, timer: due } = machine;
    clearTimeout(timer);
    const waitMs = due ? due[0] + Math.random() * due[1] : 0;
    if (due) timer = setTimeout(dispatch, waitMs, 'timer');
    const isWaiting = state === 'waiting';
    retryAtMs = isWaiting ? Date.now() + waitMs : null;
    if (isWaiting) {
      lastError = error ?? connectionError(0, 'timed_out');
      Object.assign(lastError, { attempt: machine.reconnectAttempts, delayMs: waitMs });
    }
    if (state !== before.state) log?.(`${before.state} + ${event} = ${state}`, error);
    if (state === 'probing' || state === 'silent') send({ type: 'ping' });
    else if (state === 'connecting') openTransport();
    else if (state !== 'live') closeTransport();
    if (state === 'authorizing')
      void tokens.fetch(
        () => dispatch('token'),
        (failure) => dispatch('lost', 0, failure),
      );
    if (state === 'closed') pageWatcher.abort();
    phase = createPhase();
    const next = createStatus();
    if (!isEqual(status, next)) {
      status = next;
      emit();
    } else if (state === before.state) return;
    onChange();
    // A page that is left is no failure.
    if (isWaiting && lastError?.code !== 'pagehide') onError(lastError);
  };
  const closeTransport = (): void => {
    tokens.cancel();
    transport?.close();
    transport = undefined;
  };
  const createPhase = (): ConnectionPhase => {
    const { state, helloAtMs } = machine;
    if (state === 'closed') return { state, error: closeError };
    if (state === 'idle') return { state };
    const { asOfMs, stale } = freshness;
    if (helloAtMs && state !== 'silent') return stale ?? { state: 'live' };
    return asOfMs ? { state: 'stale', sinceMs: asOfMs, reason: 'disconnected' } : { state: 'connecting' };
  };
  const send: Connection['send'] = (message) => {
    log?.('sent', message.type === 'auth' ? message.type : message);
    transport?.send(message);
  };

  const connectionError = (closeCode: number, reason: string, cause?: unknown): FlagcastError => {
    const url = getBaseUrl();
    const { location } = globalThis as unknown as Page;
    const what = machine.helloAtMs ? 'Lost the connection to' : 'Cannot connect to';
    // A browser hides from its page that the server refuses the page's origin.
    const isForeign = location && !machine.helloAtMs && !url.startsWith(`${location.origin}/`);
    return new FlagcastError(
      reason || 'connection_lost',
      isReconnectCode(closeCode)
        ? `${what} ${url} by ${status.transport} (${reason || closeCode})${isForeign ? `. Is ${location.origin} in its FLAGCAST_ALLOWED_ORIGINS?` : ''}`
        : `Refused: ${reason}`,
      { closeCode, url, cause },
    );
  };
  const onLost: TransportHandlers['onLost'] = (code, reason = '', { retryAfterMs, cause } = {}) => {
    const error = connectionError(code, reason, cause);
    // The environment of the only subscribed channel no longer exists. Channels that are not caught up reconnect.
    const isUnknown = code === unknownChannel;
    if (isUnknown) onChange(error);
    else if (!isReconnectCode(code)) closeError = error;
    dispatch('lost', retryAfterMs, isUnknown ? connectionError(0, reason) : error);
  };

  const onText: TransportHandlers['onText'] = (text) => {
    try {
      log?.('received', text);
      const message = JSON.parse(text) as ServerMessage;
      const { type } = message;
      if ('token_expires_at' in message) {
        tokens.scheduleRefresh(message.token_expires_at, () =>
          send({ type: 'auth', token: tokens.current() }),
        );
      }
      if ('heartbeat_interval_ms' in message) {
        heartbeatMs = Math.min(message.heartbeat_interval_ms, maxTimerMs / 2);
      }
      freshness = updateFreshness(freshness, message);
      options.onMessage(message);
      dispatch(type === 'hello' ? type : 'message');
      return message;
    } catch (error) {
      onLost(0, 'bad_message', { cause: error });
      return;
    }
  };

  const openTransport = (): void => {
    const handlers = { onText, onLost };
    try {
      transport = machine.usesStreams
        ? createEventStreamTransport(request, handlers)
        : createWebSocketTransport(
            new WebSocket(`${getBaseUrl()}api/ws`.replace('http', 'ws'), [
              subprotocol,
              `bearer.${tokens.current()}`,
            ]),
            handlers,
          );
    } catch {
      // There is no WebSocket class, or the page's policy forbids the connection.
      dispatch('blocked');
    }
  };

  const pageWatcher = watchPage(
    (reason) => onLost(0, reason),
    () => dispatch('wake'),
  );

  return {
    view: {
      getStatus: () => status,
      ...observe(() => status, subscribe),
      reconnect: () => dispatch('reconnect'),
    },
    backoffMs: (attempts) => backoffMs(attempts, backoff),
    checkUrl: getBaseUrl,
    phase: () => phase,
    capability: () =>
      transport && (machine.usesStreams || machine.helloAtMs)
        ? 'subscribe'
        : tokens.current()
          ? 'request'
          : 'none',
    dispatch,
    end,
    request,
    send,
  };
}

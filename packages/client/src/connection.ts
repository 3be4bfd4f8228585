import type { ClientMessage, CloseCode, FreshnessReason, ServerMessage } from '#protocol';
import {
  type Backoff,
  backoffMs,
  type ConnectionEvent,
  type ConnectionState,
  initialMachine,
  transition,
} from './connection-machine.js';
import { createEmitter, isEqual, observe, type Readable } from './emitter.js';
import { createEventStreamTransport } from './event-stream-transport.js';
import { FlagcastError } from './flagcast-error.js';
import { type Page, resolveBaseUrl, watchPage } from './page.js';
import { createRequest, type Request } from './request.js';
import type { ConnectionPhase, ConnectionStatus, StaleStatus } from './status.js';
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
  /** Reports a failure that is retried. */
  readonly report: (error: FlagcastError) => void;
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

/** The keys of messages that are about freshness or the end of the connection. */
interface StatusKeys {
  readonly type: string;
  readonly state?: string;
  readonly since?: string | null;
  readonly as_of?: string | null;
  readonly code?: number;
  readonly reason?: string;
}

const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/** Runs the connection's state machine: opens transports, fetches tokens, sets timers. */
export function createConnection(options: ConnectionOptions): Connection {
  const { backoff, onError, log, onChange } = options;
  // A path is resolved when it is used, because a server that renders the page creates a client, too.
  const getBaseUrl = (): string => resolveBaseUrl(options.url);
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
  if (!options.url?.startsWith('/')) getBaseUrl();
  const [subscribe, emit] = createEmitter(onError);
  let machine = initialMachine;
  let retryAtMs: number | null = null;
  let lastError: FlagcastError | null = null;
  let closeError: FlagcastError | null = null;
  let transport: Transport | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before `hello`. */
  let asOfMs = 0;
  /** Set while the server is stale. */
  let stale: StaleStatus | null = null;
  let heartbeatMs = 0;

  const createPhase = (): ConnectionPhase => {
    const { state, helloAtMs } = machine;
    if (state === 'closed') return { state, error: closeError };
    if (state === 'idle') return { state };
    if (helloAtMs && state !== 'silent') return stale ?? { state: 'live' };
    return asOfMs ? { state: 'stale', sinceMs: asOfMs, reason: 'disconnected' } : { state: 'connecting' };
  };
  const createStatus = (): ConnectionStatus => ({
    ...createPhase(),
    transport: machine.usesStreams ? 'sse' : 'websocket',
    attempt: machine.helloAtMs ? 0 : machine.reconnectAttempts,
    retryAtMs,
    lastError,
  });
  let status = createStatus();

  const end: Connection['end'] = (error) => {
    closeError ??= error;
    dispatch('end');
  };
  /** Returns whether the status has changed. */
  const publish = (): boolean => {
    const next = createStatus();
    if (isEqual(status, next)) return false;
    status = next;
    emit();
    return true;
  };
  const report: Connection['report'] = (error) => {
    lastError = error;
    publish();
    onError(error);
  };
  const tokens = createTokenSource(options.getToken, report, end);
  const request = createRequest(getBaseUrl, options.fetch, tokens.current);

  const dispatch: Connection['dispatch'] = (event, delayMs, error) => {
    const before = machine;
    const details = { nowMs: Date.now(), heartbeatMs, backoff, delayMs, closeCode: error?.closeCode };
    machine = transition(before, event, details);
    if (machine === before) return;
    const { state, timer: due } = machine;
    const isWaiting = state === 'waiting';
    clearTimeout(timer);
    const waitMs = due ? due[0] + Math.random() * due[1] : 0;
    if (due) timer = setTimeout(dispatch, waitMs, 'timer');
    retryAtMs = isWaiting ? Date.now() + waitMs : null;
    if (isWaiting) {
      lastError = error ?? connectionError(0, 'timed_out');
      Object.assign(lastError, { attempt: machine.reconnectAttempts, delayMs: waitMs });
    }
    if (state !== before.state) log?.(`${before.state} + ${event} = ${state}`, error);
    enter(state);
    if (publish() || state !== before.state) onChange();
    // A page that is left is no failure.
    if (isWaiting && lastError?.code !== 'pagehide') onError(lastError);
  };

  const enter = (state: ConnectionState): void => {
    if (state === 'probing' || state === 'silent') send({ type: 'ping' });
    else if (state === 'connecting') openTransport();
    else if (state !== 'live') {
      tokens.cancel();
      transport?.close();
      transport = undefined;
      if (state === 'authorizing') {
        void tokens.fetch(
          () => dispatch('token'),
          (failure) => dispatch('lost', 0, failure),
        );
      } else if (state === 'closed') pageWatcher.abort();
    }
  };

  const send: Connection['send'] = (message) => {
    log?.('sent', message.type === 'auth' ? message.type : message);
    transport?.send(message);
  };

  const connectionError = (closeCode: number, code = '', cause?: unknown): FlagcastError => {
    const url = getBaseUrl();
    const { origin } = (globalThis as unknown as Page).location ?? {};
    const wasConnected = machine.helloAtMs;
    // A browser hides from its page that the server refuses the page's origin.
    const isForeign = origin && !wasConnected && !url.startsWith(`${origin}/`);
    return new FlagcastError(
      code || 'connection_lost',
      isReconnectCode(closeCode)
        ? `${wasConnected ? 'Lost the connection' : 'Cannot connect'} to ${url} by ${status.transport} (${code || closeCode})${isForeign ? `. Is ${origin} in its FLAGCAST_ALLOWED_ORIGINS?` : ''}`
        : `Refused: ${code}`,
      { closeCode, url, cause },
    );
  };
  const onLost: TransportHandlers['onLost'] = (code, reason, retryAfterMs, cause) => {
    let error = connectionError(code, reason, cause);
    // The environment of the only subscribed channel no longer exists. Channels that are not caught up reconnect.
    if (code === unknownChannel) {
      onChange(error);
      error = connectionError(0, reason);
    } else if (!isReconnectCode(code)) closeError = error;
    dispatch('lost', retryAfterMs, error);
  };

  const onText: TransportHandlers['onText'] = (text) => {
    try {
      log?.('received', text);
      const message = JSON.parse(text) as ServerMessage;
      const { type, state, code = 0, reason, as_of: asOf, since = asOf } = message as object as StatusKeys;
      if ('token_expires_at' in message) {
        tokens.scheduleRefresh(message.token_expires_at, () =>
          send({ type: 'auth', token: tokens.current() }),
        );
      }
      if ('heartbeat_interval_ms' in message) {
        heartbeatMs = Math.min(message.heartbeat_interval_ms, maxTimerMs / 2);
      }
      // The server's clock may be ahead.
      if (since) asOfMs = Math.min(Date.now(), Date.parse(since));
      const sinceMs = asOfMs || Date.now();
      if (state === 'stale') stale = { state, sinceMs, reason: reason as FreshnessReason };
      else if (type === 'hello' || type === 'freshness') stale = null;
      options.onMessage(message);
      // Not earlier: until the machine knows of the first `hello`, the client is connecting, not disconnected.
      asOfMs ||= sinceMs;
      // The close frame of an event stream.
      if (type === 'close') onLost(code, reason);
      else dispatch(type === 'hello' ? type : 'message');
    } catch (error) {
      onLost(0, 'bad_message', 0, error);
    }
  };

  const openTransport = (): void => {
    const handlers = { onText, onLost };
    try {
      transport = machine.usesStreams
        ? createEventStreamTransport(request, handlers, () => {
            // The channels notice that they are not subscribed any more, and subscribe again.
            const opened = transport;
            transport = undefined;
            onChange();
            transport = opened;
            onChange();
          })
        : createWebSocketTransport(
            new options.WebSocket(`${getBaseUrl()}api/ws`.replace('http', 'ws'), [
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
    phase: createPhase,
    capability: () =>
      transport && (machine.usesStreams || machine.helloAtMs)
        ? 'subscribe'
        : tokens.current()
          ? 'request'
          : 'none',
    dispatch,
    end,
    report,
    request,
    send,
  };
}

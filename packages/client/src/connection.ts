import {
  type ClientMessage,
  type CloseCode,
  isReconnectCode,
  type ServerMessage,
  subprotocol,
} from '#protocol';
import { attemptTimeoutMs, type ConnectionEvent, initialMachine, transition } from './connection-machine.js';
import { createEmitter, isEqual } from './emitter.js';
import { createEventStreamTransport } from './event-stream-transport.js';
import { FlagcastError } from './flagcast-error.js';
import { type StaleStatuses, updateFreshness } from './freshness.js';
import { resolveBaseUrl, watchPage } from './page.js';
import { createRequest, type Request } from './request.js';
import type { ConnectionStatus } from './status.js';
import { createTokenSource, maxTimerMs } from './token-source.js';
import {
  createWebSocketTransport,
  type Transport,
  type TransportHandlers,
  type WebSocketClass,
} from './transport.js';

/** The part of the connection that the app can see. */
export interface ConnectionView {
  /** Returns the same object until the status changes. */
  readonly getStatus: () => ConnectionStatus;
  /** Calls `listener` when the status has changed. Returns the function that removes the listener. */
  readonly subscribe: (listener: () => void) => () => void;
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
  readonly capability: () => ConnectionCapability;
  readonly dispatch: (event: ConnectionEvent, durationMs?: number, closeCode?: number) => void;
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
  readonly onError: (error: unknown) => void;
  /**
   * Called when the machine's state or the status has changed. `error` is set if the environment of the only
   * subscribed channel no longer exists.
   */
  readonly onChange: (error?: FlagcastError) => void;
  readonly onMessage: (message: ServerMessage) => void;
}

/** A connection without any message for this many heartbeat intervals is considered lost. */
const silenceTimeoutIntervals = 2.5;
const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/** Runs the connection's state machine: opens transports, fetches tokens, sets timers. */
export function createConnection(options: ConnectionOptions): Connection {
  const { WebSocket, fetch, onError, onChange } = options;
  const baseUrl = resolveBaseUrl(options.url);
  const [subscribe, emit] = createEmitter(onError);
  const staleStatuses: StaleStatuses = new Map();
  let machine = initialMachine;
  let status: ConnectionStatus = { state: 'idle' };
  let closeError: FlagcastError | null = null;
  let transport: Transport | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before `hello`. */
  let asOfMs = 0;
  /** How long the transport may be silent. Before `hello`: as long as `hello` may take. */
  let silenceTimeoutMs = attemptTimeoutMs;

  const end: Connection['end'] = (error) => {
    closeError ??= error;
    dispatch('end');
  };
  const tokens = createTokenSource(options.getToken, onError, end);
  const request = createRequest(baseUrl, fetch, tokens.current);

  const dispatch: Connection['dispatch'] = (event, durationMs, closeCode) => {
    const before = machine;
    machine = transition(before, event, { nowMs: Date.now(), durationMs, closeCode });
    if (machine === before) return;
    const { state, timer: due } = machine;
    clearTimeout(timer);
    if (due) timer = setTimeout(dispatch, due[0] + Math.random() * due[1], 'timer');
    if (state === 'probing') transport?.send({ type: 'ping' });
    else if (state === 'connecting') openTransport();
    else if (state !== 'live') {
      tokens.cancel();
      transport?.close();
      transport = undefined;
      staleStatuses.clear();
    }
    if (state === 'authorizing')
      void tokens.fetch(
        () => dispatch('token'),
        () => dispatch('lost'),
      );
    if (state === 'closed') pageWatcher.abort();
    const next: ConnectionStatus =
      state === 'closed'
        ? { state, error: closeError }
        : state === 'idle'
          ? { state }
          : machine.helloAtMs
            ? (staleStatuses.values().next().value ?? { state: 'live' })
            : asOfMs
              ? { state: 'stale', sinceMs: asOfMs, reason: 'disconnected' }
              : { state: 'connecting' };
    if (!isEqual(status, next)) {
      status = next;
      emit();
    } else if (state === before.state) return;
    onChange();
  };

  const onLost: TransportHandlers['onLost'] = (code, reason = '', retryAfterMs) => {
    const error = new FlagcastError(reason, `Refused: ${reason}`, code);
    // The environment of the only subscribed channel no longer exists. Channels that are not caught up reconnect.
    const isUnknown = code === unknownChannel;
    if (isUnknown) onChange(error);
    else if (!isReconnectCode(code)) closeError = error;
    dispatch('lost', retryAfterMs, isUnknown ? 0 : code);
  };

  const onText: TransportHandlers['onText'] = (text, subject) => {
    try {
      const message = { ...JSON.parse(text), ...subject } as ServerMessage;
      const { type } = message;
      if ('token_expires_at' in message) {
        tokens.scheduleRefresh(message.token_expires_at, () =>
          transport?.send({ type: 'auth', token: tokens.current() }),
        );
      }
      if ('heartbeat_interval_ms' in message) {
        silenceTimeoutMs = Math.min(message.heartbeat_interval_ms * silenceTimeoutIntervals, maxTimerMs);
      }
      asOfMs = updateFreshness(message, asOfMs, [staleStatuses, JSON.stringify(subject)]);
      options.onMessage(message);
      dispatch(type === 'hello' ? type : 'message', silenceTimeoutMs);
      return message;
    } catch (error) {
      onError(error);
      onLost(0);
      return;
    }
  };

  const openTransport = (): void => {
    const handlers = { onText, onLost };
    try {
      transport = machine.usesStreams
        ? createEventStreamTransport(request, () => silenceTimeoutMs, handlers)
        : createWebSocketTransport(
            new WebSocket(`${baseUrl}api/ws`.replace('http', 'ws'), [
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
    () => onLost(0),
    () => dispatch('wake'),
  );

  return {
    view: { getStatus: () => status, subscribe },
    capability: () =>
      transport && (machine.usesStreams || machine.helloAtMs)
        ? 'subscribe'
        : tokens.current()
          ? 'request'
          : 'none',
    dispatch,
    end,
    request,
    send: (message) => transport?.send(message),
  };
}

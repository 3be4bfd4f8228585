import type { ServerMessage } from '#protocol';
import { connectionError } from './connection-error.js';
import { type Backoff, type ConnectionEvent, initialMachine, transition } from './connection-machine.js';
import { createStatusSource, type StatusSource } from './connection-status.js';
import type { FlagcastError } from './flagcast-error.js';
import { createLink, type Link } from './link.js';
import { watchPage } from './page.js';
import type { ConnectionPhase } from './status.js';
import type { TransportHandlers, WebSocketClass } from './transport.js';
import { unknownChannel } from './wire.js';

/** The part of the connection that the app can see. */
export interface ConnectionView extends StatusSource {
  /** Connects again at once, e.g. when the user asks for it, instead of at `retryAtMs`. */
  readonly reconnect: () => void;
}

export interface Connection extends Pick<Link, 'canRequest' | 'send' | 'request'> {
  readonly view: StatusSource;
  readonly phase: () => ConnectionPhase;
  /** Whether channels can be subscribed. */
  readonly canSubscribe: () => boolean;
  /** Tells the machine. `error` is the failure, or with `end` what ended the client. */
  readonly dispatch: (event: ConnectionEvent, error?: FlagcastError, delayMs?: number) => void;
  readonly backoff: Backoff | undefined;
  /** Reports a failure that is retried. */
  readonly report: (error: FlagcastError) => void;
}

export interface ConnectionOptions {
  /** Returns the server's base URL. Throws a FlagcastError `bad_url` if there is none. */
  readonly getBaseUrl: () => string;
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

/** Runs the connection's state machine: opens transports, fetches tokens, sets timers. */
export function createConnection(options: ConnectionOptions): Connection {
  const { getBaseUrl, backoff, onError, log, onChange } = options;
  let machine = initialMachine;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let retryAtMs: number | null = null;
  let lastError: FlagcastError | null = null;
  let closeError: FlagcastError | null = null;

  const report: Connection['report'] = (error) => {
    lastError = error;
    publish();
    onError(error);
  };
  const errorOf = (closeCode: number, code?: string, cause?: unknown): FlagcastError =>
    connectionError(getBaseUrl(), view.getStatus().transport, !!machine.helloAtMs, closeCode, code, cause);
  const onLost: TransportHandlers['onLost'] = (code, reason, retryAfterMs, cause) => {
    let error = errorOf(code, reason, cause);
    // The environment of the only subscribed channel no longer exists. Channels that are not caught up reconnect.
    if (code === unknownChannel) {
      onChange(error);
      error = errorOf(0, reason);
    }
    dispatch('lost', error, retryAfterMs);
  };
  const dispatch: Connection['dispatch'] = (event, error, delayMs) => {
    const before = machine;
    machine = transition(before, event, {
      nowMs: Date.now(),
      heartbeatMs: link.heartbeatMs(),
      backoff,
      delayMs,
      closeCode: error?.closeCode,
    });
    if (machine === before) return;
    const { state, timer: due } = machine;
    const isWaiting = state === 'waiting';
    clearTimeout(timer);
    const waitMs = due ? due[0] + Math.random() * due[1] : 0;
    if (due) timer = setTimeout(dispatch, waitMs, 'timer');
    retryAtMs = isWaiting ? Date.now() + waitMs : null;
    if (isWaiting) {
      lastError = error ?? errorOf(0, 'timed_out');
      Object.assign(lastError, { attempt: machine.reconnectAttempts, delayMs: waitMs });
    }
    if (state !== before.state) log?.(`${before.state} + ${event} = ${state}`, error);
    closeError = error ?? null;
    if (state === 'closed') pageWatcher.abort();
    link.enter(state, machine.usesStreams);
    if (publish() || state !== before.state) onChange();
    // A page that is left is no failure.
    if (isWaiting && lastError?.code !== 'pagehide') onError(lastError);
  };
  const phase = (): ConnectionPhase => {
    const { state, helloAtMs } = machine;
    if (state === 'closed') return { state, error: closeError };
    return state === 'idle' ? { state } : link.phase(!!helloAtMs && state !== 'silent');
  };

  const link = createLink(options, dispatch, onLost, report);
  const [view, publish] = createStatusSource(
    () => ({
      ...phase(),
      transport: machine.usesStreams ? 'sse' : 'websocket',
      attempt: machine.helloAtMs ? 0 : machine.reconnectAttempts,
      retryAtMs,
      lastError,
    }),
    onError,
  );
  const pageWatcher = watchPage(
    (reason) => onLost(0, reason),
    () => dispatch('wake'),
  );

  return {
    ...link,
    view,
    backoff,
    phase,
    canSubscribe: () => link.isOpen() && (machine.usesStreams || !!machine.helloAtMs),
    dispatch,
    report,
  };
}

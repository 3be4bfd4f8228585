import type { ServerMessage } from '#protocol';
import { connectionError, type Loss } from './connection-error.js';
import { type Backoff, type ConnectionEvent, initialMachine, transition } from './connection-machine.js';
import { createStatusSource, type StatusSource } from './connection-status.js';
import type { FlagcastError } from './flagcast-error.js';
import { createLink, type Link } from './link.js';
import { watchPage } from './page.js';
import type { ConnectionPhase } from './status.js';
import { createTimer } from './timer.js';
import type { TransportHandlers, WebSocketClass } from './transport.js';
import { unknownChannel } from './wire.js';

/** The part of the connection that the app can see. */
export interface ConnectionView extends StatusSource {
  /** Connects again at once, e.g. when the user asks for it, instead of at `retryAtMs`. */
  readonly reconnect: () => void;
}

export interface Connection extends Pick<Link, 'currentToken' | 'send' | 'request'> {
  readonly view: StatusSource;
  /**
   * Returns the phase of the connection. `sinceMs` is the time of a snapshot: after a failed attempt, a state is stale also
   * without a first connection.
   */
  readonly phase: (sinceMs?: number) => ConnectionPhase;
  /** Whether channels can be subscribed. */
  readonly canSubscribe: () => boolean;
  /** Tells the machine. `error` is the failure, or with `end` what ended the client. */
  readonly dispatch: (event: ConnectionEvent, error?: FlagcastError) => void;
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
  const [startTimer, stopTimer] = createTimer();
  let retryAtMs: number | null = null;
  let lastError: FlagcastError | null = null;
  let closeError: FlagcastError | null = null;

  const report: Connection['report'] = (error) => {
    lastError = error;
    publish();
    onError(error);
  };
  const errorOf = (loss: Loss): FlagcastError => connectionError(loss, getBaseUrl(), machine);
  const onLost: TransportHandlers['onLost'] = (loss) => {
    const error = errorOf(loss);
    const isEnded = error.closeCode === unknownChannel;
    // The environment of the only subscribed channel no longer exists. Channels that are not caught up reconnect.
    if (isEnded) onChange(error);
    dispatch('lost', isEnded ? errorOf({ code: error.code }) : error);
  };
  const dispatch: Connection['dispatch'] = (event, error) => {
    const before = machine;
    machine = transition(before, event, {
      nowMs: Date.now(),
      random: Math.random(),
      heartbeatMs: link.heartbeatMs(),
      backoff,
      error,
    });
    if (machine === before) return;
    const { state, timerMs } = machine;
    const isWaiting = state === 'waiting';
    stopTimer();
    if (timerMs !== undefined) startTimer(timerMs, () => dispatch('timer', errorOf({ code: 'timed_out' })));
    retryAtMs = isWaiting ? Date.now() + (timerMs as number) : null;
    if (isWaiting) {
      Object.assign((lastError = error as FlagcastError), {
        attempt: machine.reconnectAttempts,
        delayMs: timerMs,
      });
    }
    if (state !== before.state) log?.(`${before.state} + ${event} = ${state}`, error);
    closeError = error ?? null;
    if (state === 'closed') pageWatcher.abort();
    link.enter(state, machine.usesStreams);
    if (publish() || state !== before.state) onChange();
    // A page that is left is no failure.
    if (isWaiting && lastError?.code !== 'pagehide') onError(lastError);
  };
  const phase: Connection['phase'] = (sinceMs) => {
    const { state, helloAtMs, reconnectAttempts } = machine;
    if (state === 'closed') return { state, error: closeError };
    if (state === 'idle') return { state };
    return link.phase(!!helloAtMs && state !== 'silent', reconnectAttempts ? sinceMs : 0);
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
    (code) => onLost({ code }),
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

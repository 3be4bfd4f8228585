import type { ClientMessage, CloseCode, ServerMessage } from '#protocol';
import { connectionError } from './connection-error.js';
import {
  type Backoff,
  backoffMs,
  type ConnectionEvent,
  type ConnectionState,
  initialMachine,
  transition,
} from './connection-machine.js';
import { createStatusSource, phaseOf, statusOf, type StatusSource } from './connection-status.js';
import type { FlagcastError } from './flagcast-error.js';
import { createLink } from './link.js';
import { resolveBaseUrl, watchPage } from './page.js';
import type { Request } from './request.js';
import type { ConnectionPhase } from './status.js';
import type { TransportHandlers, WebSocketClass } from './transport.js';
import { isReconnectCode } from './wire.js';

/** The part of the connection that the app can see. */
export interface ConnectionView extends StatusSource {
  /** Connects again at once, e.g. when the user asks for it, instead of at `retryAtMs`. */
  readonly reconnect: () => void;
}

export interface Connection {
  readonly view: ConnectionView;
  /** Throws a FlagcastError `bad_url` if `url` cannot be resolved here. */
  readonly checkUrl: () => void;
  readonly phase: () => ConnectionPhase;
  /** Whether requests for snapshots can be sent: there has been a token. */
  readonly canRequest: () => boolean;
  /** Whether channels can be subscribed. */
  readonly canSubscribe: () => boolean;
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

const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/** Runs the connection's state machine: opens transports, fetches tokens, sets timers. */
export function createConnection(options: ConnectionOptions): Connection {
  const { url, backoff, onError, log, onChange } = options;
  // A path is resolved when it is used, because a server that renders the page creates a client, too.
  const getBaseUrl = (): string => resolveBaseUrl(url);
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- programs in JavaScript
  if (!url?.startsWith('/')) getBaseUrl();
  let machine = initialMachine;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let retryAtMs: number | null = null;
  let lastError: FlagcastError | null = null;
  let closeError: FlagcastError | null = null;

  const end: Connection['end'] = (error) => {
    closeError ??= error;
    dispatch('end');
  };
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
    } else if (!isReconnectCode(code)) closeError = error;
    dispatch('lost', retryAfterMs, error);
  };
  const dispatch: Connection['dispatch'] = (event, delayMs, error) => {
    const before = machine;
    const { closeCode } = error ?? {};
    const details = { nowMs: Date.now(), heartbeatMs: link.heartbeatMs(), backoff, delayMs, closeCode };
    machine = transition(before, event, details);
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
    enter(state);
    if (publish() || state !== before.state) onChange();
    // A page that is left is no failure.
    if (isWaiting && lastError?.code !== 'pagehide') onError(lastError);
  };
  const enter = (state: ConnectionState): void => {
    if (state === 'probing' || state === 'silent') link.send({ type: 'ping' });
    else if (state === 'connecting') link.open(machine.usesStreams);
    else if (state !== 'live') {
      link.close();
      if (state === 'authorizing') link.authorize();
      else if (state === 'closed') pageWatcher.abort();
    }
  };

  const link = createLink(options, getBaseUrl, { dispatch, onLost, end, report });
  const phase = (): ConnectionPhase => phaseOf(machine, closeError, link.phase);
  const [view, publish] = createStatusSource(() => statusOf(phase(), machine, retryAtMs, lastError), onError);
  const pageWatcher = watchPage(
    (reason) => onLost(0, reason),
    () => dispatch('wake'),
  );

  return {
    view: { ...view, reconnect: () => dispatch('reconnect') },
    backoffMs: (attempts) => backoffMs(attempts, backoff),
    checkUrl: getBaseUrl,
    phase,
    canRequest: link.hasToken,
    canSubscribe: () => link.isOpen() && (machine.usesStreams || !!machine.helloAtMs),
    dispatch,
    end,
    report,
    request: link.request,
    send: link.send,
  };
}

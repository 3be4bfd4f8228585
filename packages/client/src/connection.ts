import { type ClientMessage, isReconnectCode, type ServerMessage } from '#protocol';
import { attemptTimeoutMs, type ConnectionEvent, initialMachine, transition } from './connection-machine.js';
import { FlagcastError } from './flagcast-error.js';
import { type Line, type Lost, openSocket, type Receive, type WebSocketClass } from './line.js';
import { refusal, type Request } from './request.js';
import { same } from './same.js';
import { openStreams } from './streams.js';
import { createTopic } from './topic.js';

/**
 * - `idle`: no channel is open, hence no connection
 * - `connecting`: the first attempts
 * - `live`: connected
 * - `stale`: not connected since the server was last heard, `sinceMs` (milliseconds since the epoch)
 * - `closed`: for good; `error` is null where the owner closed it
 */
export type ConnectionStatus =
  | { readonly state: 'idle' | 'connecting' | 'live' }
  | { readonly state: 'stale'; readonly sinceMs: number }
  | { readonly state: 'closed'; readonly error: FlagcastError | null };

/** What the client's owner may see of it. */
export interface ConnectionView {
  /** The same object until it changes. */
  readonly getStatus: () => ConnectionStatus;
  /** Calls `listener` when the status has changed. Returns how to take it off. */
  readonly subscribe: (listener: () => void) => () => void;
}

export interface Connection {
  readonly view: ConnectionView;
  /** 0: nothing can be asked. 1: there is, or was, a token to ask for snapshots with. 2: there is a line to subscribe on. */
  readonly reach: () => 0 | 1 | 2;
  readonly dispatch: (event: ConnectionEvent, durationMs?: number, code?: number) => void;
  readonly send: (message: ClientMessage) => void;
  readonly request: Request;
}

/** What there is of a page: nothing of it in Node. */
type Page = Partial<Pick<Window, 'addEventListener' | 'document' | 'location'>>;

/** A line that is silent for so many heartbeat intervals is dead. */
const heartbeatsMissed = 2.5;
/** Not far below setTimeout's longest delay, 2 ** 31 - 1: what is longer fires at once. */
const longestTimerMs = 2e9;

/**
 * Runs the machine: opens lines, asks for tokens, sets the timers. `changed` is called when it has come to
 * another state, `receive` with every message.
 */
export function createConnection(
  url: string,
  getToken: () => string | Promise<string>,
  WebSocketClass: WebSocketClass,
  fetch: typeof globalThis.fetch,
  report: (error: unknown) => void,
  changed: () => void,
  receive: (message: ServerMessage) => void,
): Connection {
  const { addEventListener, document, location } = globalThis as unknown as Page;
  let base: string;
  try {
    base = new URL(url.replace(/\/*$/, '/'), location?.href).href;
  } catch {
    throw new FlagcastError('bad_url', 'url must be absolute');
  }
  const [subscribe, tell] = createTopic(report);
  const pageListeners = new AbortController();
  let machine = initialMachine;
  let status: ConnectionStatus = { state: 'idle' };
  let error: FlagcastError | null = null;
  let line: Line | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;
  let token = '';
  /** Counts the dropped lines: a token that was asked for before the last one is forgotten. */
  let drops = 0;
  /** When the server was last heard, in milliseconds since the epoch; 0 if never. */
  let heardAtMs = 0;
  /** How long the line may be silent; until `hello` has told, as long as `hello` may take. */
  let silenceMs = attemptTimeoutMs;

  const dispatch = (event: ConnectionEvent, durationMs?: number, code?: number): void => {
    const before = machine;
    machine = transition(before, event, Date.now(), durationMs, code);
    if (machine === before) return;
    const { state, timer: next } = machine;
    clearTimeout(timer);
    if (next) timer = setTimeout(dispatch, next[0] + Math.random() * next[1], 'timer');
    if (state === 'probing') line?.send({ type: 'ping' });
    else if (state === 'connecting') open();
    else if (state !== 'live') {
      drops += 1;
      line?.close();
      line = undefined;
      clearTimeout(refreshTimer);
    }
    if (state === 'authorizing')
      void ask(
        () => dispatch('token'),
        () => dispatch('lost'),
      );
    if (state === 'closed') pageListeners.abort();
    if (state === before.state) return;
    const fresh: ConnectionStatus =
      state === 'closed'
        ? { state, error }
        : state === 'idle'
          ? { state }
          : machine.helloAtMs
            ? { state: 'live' }
            : heardAtMs
              ? { state: 'stale', sinceMs: heardAtMs }
              : { state: 'connecting' };
    if (!same(status, fresh)) {
      status = fresh;
      tell();
    }
    changed();
  };

  const lost: Lost = (code, reason = '', retryAfterMs) => {
    if (!isReconnectCode(code)) error = new FlagcastError(reason, `Refused: ${reason}`, code);
    dispatch('lost', retryAfterMs, code);
  };

  /** Asks for a token, and goes on with `use` or `fail` if the line is still the same. */
  const ask = async (use: () => void, fail: () => void): Promise<void> => {
    const asked = drops;
    try {
      // What throws at once must not run into the transition that asks.
      const fresh = await Promise.resolve().then(getToken);
      if (asked !== drops) return;
      token = fresh;
      use();
    } catch (caught) {
      if (asked !== drops) return;
      if (caught instanceof FlagcastError) {
        error = caught;
        dispatch('end');
      } else {
        report(caught);
        fail();
      }
    }
  };

  const refreshAhead = (expiresAt: string): void => {
    const leftMs = Date.parse(expiresAt) - Date.now();
    const refresh = (): void =>
      void ask(
        () => line?.send({ type: 'auth', token }),
        () => refreshAhead(expiresAt),
      );
    clearTimeout(refreshTimer);
    // A token that has just been accepted has not expired: if it seems so, the clocks differ.
    refreshTimer = setTimeout(refresh, leftMs > 1_000 ? Math.min(leftMs * 0.8, longestTimerMs) : 60_000);
  };

  const take: Receive = (text, channel) => {
    try {
      const message = { ...JSON.parse(text), ...channel } as ServerMessage;
      if ('token_expires_at' in message) refreshAhead(message.token_expires_at);
      heardAtMs = Date.now();
      receive(message);
      if ('heartbeat_interval_ms' in message) {
        silenceMs = message.heartbeat_interval_ms * heartbeatsMissed;
        dispatch('hello', silenceMs);
      } else dispatch('message', silenceMs);
      return message;
    } catch (caught) {
      report(caught);
      lost(0);
      return;
    }
  };

  const request: Request = async (what, address, signal, headers) => {
    const response = await fetch(`${base}api/${what}?${new URLSearchParams(address).toString()}`, {
      headers: { ...headers, Authorization: `Bearer ${token}` },
      signal,
    });
    if (!response.ok) throw await refusal(response);
    return response;
  };

  const open = (): void => {
    try {
      line = machine.streaming
        ? openStreams(request, () => silenceMs, take, lost)
        : // Where there is no such class this throws as well.
          openSocket(WebSocketClass, `${base}api/ws`.replace('http', 'ws'), token, take, lost);
    } catch {
      dispatch('blocked');
    }
  };

  for (const type of ['online', 'offline', 'pageshow', 'visibilitychange']) {
    const listener = (): void => {
      if (type === 'offline') lost(0);
      else if (type === 'online' || !document?.hidden) dispatch('wake');
    };
    addEventListener?.(type, listener, pageListeners);
  }

  return {
    view: { getStatus: () => status, subscribe },
    reach: () => (line && (machine.streaming || machine.helloAtMs) ? 2 : token ? 1 : 0),
    dispatch,
    request,
    send: (message) => line?.send(message),
  };
}

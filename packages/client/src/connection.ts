import {
  type ClientMessage,
  type CloseCode,
  type FreshnessReason,
  isReconnectCode,
  type ServerMessage,
} from '#protocol';
import { attemptTimeoutMs, type ConnectionEvent, initialMachine, transition } from './connection-machine.js';
import { FlagcastError } from './flagcast-error.js';
import { type Line, type Lost, openSocket, type Receive, type WebSocketClass } from './line.js';
import { refusal, type Request } from './request.js';
import { same } from './same.js';
import { openStreams } from './streams.js';
import type { StaleStatus } from './status.js';
import { createTopic } from './topic.js';

/**
 * - `idle`: no channel is open, hence no connection
 * - `connecting`: the first attempts
 * - `live`: connected, and the server reads its database
 * - `stale`: not connected, or connected to a server that does not read its database right now
 * - `closed`: for good; `error` is null where the owner closed it
 */
export type ConnectionStatus =
  | { readonly state: 'idle' | 'connecting' | 'live' }
  | StaleStatus
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

/** The keys of messages that the connection reads, apart from those of `hello`. */
interface ConnectionKeys {
  readonly type: string;
  readonly as_of?: string | null;
  readonly state?: string;
  readonly since?: string | null;
  readonly reason?: string;
}

/** A line that is silent for so many heartbeat intervals is dead. */
const heartbeatsMissed = 2.5;
/** Not far below setTimeout's longest delay, 2 ** 31 - 1: what is longer fires at once. */
const longestTimerMs = 2e9;
const unknownChannel: typeof CloseCode.unknownChannel = 4504;

/**
 * Runs the machine: opens lines, asks for tokens, sets the timers. `changed` is called when the state or the
 * status has changed, with an error where the environment that is subscribed is gone; `receive` with every
 * message.
 */
export function createConnection(
  url: string,
  getToken: () => string | Promise<string>,
  WebSocketClass: WebSocketClass,
  fetch: typeof globalThis.fetch,
  report: (error: unknown) => void,
  changed: (gone?: FlagcastError) => void,
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
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before the first `hello`. */
  let asOfMs = 0;
  /** While the server is stale, by stream: the streams of server-sent events can end at different servers. */
  const staleStatuses = new Map<string | undefined, StaleStatus>();
  /** How long the line may be silent; until `hello` has told, as long as `hello` may take. */
  let silenceMs = attemptTimeoutMs;

  const dispatch = (event: ConnectionEvent, durationMs?: number, code?: number): void => {
    const before = machine;
    machine = transition(before, event, Date.now(), durationMs, code);
    if (machine === before) return;
    const { state, timer: due } = machine;
    clearTimeout(timer);
    if (due) timer = setTimeout(dispatch, due[0] + Math.random() * due[1], 'timer');
    if (state === 'probing') line?.send({ type: 'ping' });
    else if (state === 'connecting') open();
    else if (state !== 'live') {
      drops += 1;
      line?.close();
      line = undefined;
      staleStatuses.clear();
      clearTimeout(refreshTimer);
    }
    if (state === 'authorizing')
      void ask(
        () => dispatch('token'),
        () => dispatch('lost'),
      );
    if (state === 'closed') pageListeners.abort();
    const next: ConnectionStatus =
      state === 'closed'
        ? { state, error }
        : state === 'idle'
          ? { state }
          : machine.helloAtMs
            ? (staleStatuses.values().next().value ?? { state: 'live' })
            : asOfMs
              ? { state: 'stale', sinceMs: asOfMs, reason: 'disconnected' }
              : { state: 'connecting' };
    if (!same(status, next)) {
      status = next;
      tell();
    } else if (state === before.state) return;
    changed();
  };

  const lost: Lost = (code, reason = '', retryAfterMs) => {
    const refused = new FlagcastError(reason, `Refused: ${reason}`, code);
    // The only environment that the server had subscribed is gone. Channels that are not caught up reconnect.
    const isUnknown = code === unknownChannel;
    if (isUnknown) changed(refused);
    else if (!isReconnectCode(code)) error = refused;
    dispatch('lost', retryAfterMs, isUnknown ? 0 : code);
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
      const { type, state, reason, as_of: asOf, since = asOf }: ConnectionKeys = message;
      const stream = JSON.stringify(channel);
      const nowMs = Date.now();
      if ('token_expires_at' in message) refreshAhead(message.token_expires_at);
      if ('heartbeat_interval_ms' in message) silenceMs = message.heartbeat_interval_ms * heartbeatsMissed;
      // The server's clock may be ahead.
      if (since) asOfMs = Math.min(nowMs, Date.parse(since));
      asOfMs ||= nowMs;
      if (type === 'hello' || type === 'freshness') staleStatuses.delete(stream);
      if (state === 'stale')
        staleStatuses.set(stream, { state, sinceMs: asOfMs, reason: reason as FreshnessReason });
      receive(message);
      dispatch(type === 'hello' ? type : 'message', silenceMs);
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

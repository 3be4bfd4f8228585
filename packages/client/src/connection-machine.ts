import type { FlagcastErrorDetails } from './flagcast-error.js';
import {
  attemptTimeoutMs,
  drainSpreadMs,
  firstRetryMs,
  heartbeatDelayMs,
  maxWebSocketFailures,
  probeTimeoutMs,
  stableAfterMs,
} from './limits.js';
import { draining, isReconnectCode } from './wire.js';

/**
 * The state machine of the connection, without I/O: state x event -> state. It has no timer, clock or random numbers:
 * the time and a random number are arguments, and the delay of the timer is returned.
 */

/**
 * The caller carries out the effect when a state is entered, including when the current state is entered again:
 *
 * | state         | meaning                                      | effect of entering it                     |
 * | ------------- | -------------------------------------------- | ----------------------------------------- |
 * | `idle`        | no channel is open                           | close the transport                         |
 * | `authorizing` | waiting for a token                          | close the transport, request a token        |
 * | `connecting`  | waiting for `hello`                          | open a transport, depending on `usesStreams` |
 * | `live`        | `hello` has arrived                          | none                                        |
 * | `probing`     | live, but the page or the network was absent | send a ping                                 |
 * | `silent`      | live, but no heartbeat has arrived           | send a ping; the state may be out of date   |
 * | `waiting`     | backoff before the next attempt              | close the transport                         |
 * | `closed`      | final                                        | close the transport                         |
 *
 * Closing the transport includes ignoring a token that is still being fetched.
 */
export type ConnectionState =
  | 'idle'
  | 'authorizing'
  | 'connecting'
  | 'live'
  | 'probing'
  | 'silent'
  | 'waiting'
  | 'closed';

/**
 * - `start`, `stop`: the first channel was opened, the last channel was closed
 * - `end`: the app closed the client, or there will be no further token
 * - `token`: a token has arrived
 * - `blocked`: no WebSocket can be opened here
 * - `hello`, `message`: received from the server; `message` is every message other than `hello`
 * - `timer`: the machine's timer has expired
 * - `lost`: the transport or the network was lost, or no token could be fetched
 * - `wake`: the network or the page is available again
 * - `reconnect`: the app asks for a new connection at once
 */
export type ConnectionEvent =
  | 'start'
  | 'stop'
  | 'end'
  | 'token'
  | 'blocked'
  | 'hello'
  | 'message'
  | 'timer'
  | 'lost'
  | 'wake'
  | 'reconnect';

export interface Machine {
  readonly state: ConnectionState;
  /** The event `timer` is due so many milliseconds after the state was entered. undefined: never. */
  readonly timerMs?: number | undefined;
  /** Attempts since the last stable connection: the exponent of the backoff. */
  readonly reconnectAttempts: number;
  /** Consecutive WebSockets that closed within ten seconds; Infinity if no WebSocket can be opened. */
  readonly webSocketFailures: number;
  /** Whether the current or next transport uses server-sent events; otherwise it uses a WebSocket. */
  readonly usesStreams: boolean;
  /** When `hello` arrived on the current transport, in milliseconds since the epoch; 0 before. */
  readonly helloAtMs: number;
}

export const initialMachine: Machine = {
  state: 'idle',
  reconnectAttempts: 0,
  webSocketFailures: 0,
  usesStreams: false,
  helloAtMs: 0,
};

/** How long the client waits before it connects again, chosen at random below a width that doubles with each attempt. */
export interface Backoff {
  /** The width before the first attempt, in milliseconds. Default 250. */
  readonly minMs?: number | undefined;
  /** The greatest width, in milliseconds. Default 30,000. */
  readonly maxMs?: number | undefined;
}

/** Returns the width of the full jitter before the attempt after `attempts` failed ones, in milliseconds. */
export function backoffMs(attempts: number, { minMs = 250, maxMs = 30_000 }: Backoff = {}): number {
  return Math.min(minMs * 2 ** attempts, maxMs);
}

export interface EventDetails {
  readonly nowMs: number;
  /** A random number, at least 0 and less than 1: the jitter's part of its width. */
  readonly random: number;
  /** The interval of the server's heartbeats, in milliseconds. */
  readonly heartbeatMs: number;
  readonly backoff?: Backoff | undefined;
  /** With `lost`: the close code, and how long the server requested to wait, in milliseconds. Default 0: there is none. */
  readonly error?: Pick<FlagcastErrorDetails, 'closeCode' | 'retryAfterMs'> | undefined;
}

/** Returns the machine after the event: the same object if nothing happens, otherwise one whose state is entered. */
export function transition(
  machine: Machine,
  event: ConnectionEvent,
  { nowMs, random, heartbeatMs, backoff, error: { closeCode = 0, retryAfterMs = 0 } = {} }: EventDetails,
): Machine {
  const { state, usesStreams, webSocketFailures, helloAtMs } = machine;
  const connectedMs = nowMs - helloAtMs;
  // Prefer WebSockets over streams: retry one, after a time that doubles with each failed WebSocket. The first ones may
  // have failed because the server was down: streams of several tabs would take all connections of the browser.
  const streamMs = webSocketFailures > maxWebSocketFailures ? 10_000 * 2 ** webSocketFailures : firstRetryMs;
  const quietMs = heartbeatMs + Math.max(heartbeatMs / 10, heartbeatDelayMs);
  const liveDelayMs = (sinceMs: number): number =>
    usesStreams ? Math.min(quietMs, streamMs - sinceMs) : quietMs;
  const enter = (
    next: ConnectionState,
    timerMs?: number,
    changes: Partial<Machine> = { helloAtMs: 0 },
  ): Machine => ({ ...machine, ...changes, state: next, timerMs });

  if (state === 'closed') return machine;
  if (event === 'end' || !isReconnectCode(closeCode)) return enter('closed');
  if (state === 'idle') return event === 'start' ? enter('authorizing') : machine;
  if (event === 'stop') return enter('idle');
  if (event === 'reconnect') return enter('authorizing');
  if (event === 'token' && state === 'authorizing') return enter('connecting', attemptTimeoutMs);
  if (state === 'connecting') {
    if (event === 'blocked') {
      return enter(state, attemptTimeoutMs, { usesStreams: true, webSocketFailures: Infinity });
    }
    if (event === 'hello') return enter('live', liveDelayMs(0), { helloAtMs: nowMs });
  }
  if (event === 'wake' || (event === 'timer' && state === 'waiting')) {
    // A stream cannot be pinged, so it is reopened.
    if (state === 'waiting' || (helloAtMs && usesStreams)) return enter('authorizing');
    // Not again while probing: a user who often returns to the page would postpone the time-out.
    return state === 'live' ? enter('probing', probeTimeoutMs, {}) : machine;
  }
  const isMessage = event === 'message';
  if (helloAtMs && (isMessage || (event === 'timer' && state === 'live'))) {
    if (usesStreams && connectedMs >= streamMs) {
      // The server can be reached, so the stream returns soon if the WebSocket fails.
      return enter('authorizing', undefined, { helloAtMs: 0, usesStreams: false, reconnectAttempts: 0 });
    }
    if (isMessage) return enter('live', liveDelayMs(connectedMs), {});
    // A stream cannot be pinged: it gets the time of another heartbeat and a half.
    const timeoutMs = 1.5 * heartbeatMs;
    return enter('silent', usesStreams ? timeoutMs : Math.min(timeoutMs, probeTimeoutMs), {});
  }
  if (state === 'waiting' || (event !== 'lost' && event !== 'timer')) return machine;

  const isStable = helloAtMs && connectedMs >= stableAfterMs;
  const attempts = isStable ? 0 : machine.reconnectAttempts;
  const jitterMs = Math.max(backoffMs(attempts, backoff), closeCode === draining ? drainSpreadMs : 0);
  // An application close code proves that WebSockets reach the server. If streams fail too, WebSockets are not the
  // cause. A proxy may cut connections after a few seconds.
  const failures =
    state === 'authorizing' || closeCode >= 4000 || (isStable && usesStreams)
      ? webSocketFailures
      : isStable || usesStreams
        ? 0
        : webSocketFailures + 1;
  return enter('waiting', retryAfterMs + random * jitterMs, {
    helloAtMs: 0,
    reconnectAttempts: attempts + 1,
    webSocketFailures: failures,
    usesStreams: failures >= maxWebSocketFailures,
  });
}

import type { ClientMessage, FreshnessReason, ServerMessage } from '#protocol';
import type { ConnectionEvent, ConnectionState } from './connection-machine.js';
import type { ConnectionOptions } from './connection.js';
import { createEventStreamTransport } from './event-stream-transport.js';
import type { FlagcastError } from './flagcast-error.js';
import { createRequest, type Request } from './request.js';
import type { ConnectionPhase, StaleStatus } from './status.js';
import { createTokenSource } from './token-source.js';
import { createWebSocketTransport, type Transport, type TransportHandlers } from './transport.js';
import { subprotocol } from './wire.js';

/** The way to the server: the token, the current transport, and what the server's messages say about the connection. */
export interface Link {
  /** Carries out the effect of a state of the connection's machine. */
  readonly enter: (state: ConnectionState, usesStreams: boolean) => void;
  /** Returns the newest token; '' before the first one, when requests for snapshots cannot be sent. */
  readonly currentToken: () => string;
  /** Whether there is a transport. */
  readonly isOpen: () => boolean;
  readonly send: (message: ClientMessage) => void;
  readonly request: Request;
  /** Returns the interval of the server's heartbeats, in milliseconds. */
  readonly heartbeatMs: () => number;
  /** Returns the phase of a connection that is open, or being opened. `sinceMs` applies before the first `hello`. */
  readonly phase: (isConnected: boolean, sinceMs: number | undefined) => ConnectionPhase;
}

/** The keys of messages that are about the connection. */
interface StatusKeys {
  readonly type: string;
  readonly state?: string;
  readonly since?: string | null;
  readonly as_of?: string | null;
  readonly code?: number;
  readonly token_expires_at?: string;
  readonly heartbeat_interval_ms?: number;
  readonly reason?: string;
}

/**
 * Creates a link without a transport. `dispatch` is called when a token or a message has arrived, or no transport could be
 * opened, and with `lost` or `end` and the error of a token; `report` with a failure that is retried.
 */
export function createLink(
  { getBaseUrl, getToken, log, onChange, onMessage, ...network }: ConnectionOptions,
  dispatch: (event: ConnectionEvent, error?: FlagcastError) => void,
  onLost: TransportHandlers['onLost'],
  report: (error: FlagcastError) => void,
): Link {
  const [currentToken, authorize, scheduleRefresh, cancel] = createTokenSource(getToken, report, dispatch);
  const request = createRequest(getBaseUrl, network.fetch, currentToken);
  /** Everything that was committed before this time has arrived, in milliseconds since the epoch; 0 before `hello`. */
  let asOfMs = 0;
  /** Set while the server is stale. */
  let stale: StaleStatus | null = null;
  let transport: Transport | undefined;
  let heartbeatMs = 0;

  const send: Link['send'] = (message) => {
    log?.('sent', message.type === 'auth' ? message.type : message);
    transport?.send(message);
  };
  const onText: TransportHandlers['onText'] = (text) => {
    try {
      log?.('received', text);
      const message = JSON.parse(text) as ServerMessage;
      const { type, state, code: closeCode, reason, as_of: asOf, since = asOf } = message as StatusKeys;
      const { token_expires_at: expiresAt, heartbeat_interval_ms: intervalMs } = message as StatusKeys;
      if (expiresAt) scheduleRefresh(expiresAt, () => send({ type: 'auth', token: currentToken() }));
      if (intervalMs) heartbeatMs = intervalMs;
      // The server's clock may be ahead.
      if (since) asOfMs = Math.min(Date.now(), Date.parse(since));
      const sinceMs = asOfMs || Date.now();
      if (state === 'stale') stale = { state, sinceMs, reason: reason as FreshnessReason };
      else if (type === 'hello' || type === 'freshness') stale = null;
      onMessage(message);
      // Not earlier: until the machine knows of the first `hello`, the client is connecting, not disconnected.
      asOfMs ||= sinceMs;
      // The close frame of an event stream.
      if (type === 'close') onLost({ closeCode, code: reason });
      else dispatch(type === 'hello' ? type : 'message');
    } catch (error) {
      onLost({ code: 'bad_message', cause: error });
    }
  };
  const openSocket = () =>
    new network.WebSocket(`${getBaseUrl()}api/ws`.replace('http', 'ws'), [
      subprotocol,
      `bearer.${currentToken()}`,
    ]);
  /** The channels notice that they are not subscribed any more, and subscribe again. */
  const onReset = (): void => {
    const opened = transport;
    transport = undefined;
    onChange();
    transport = opened;
    onChange();
  };

  return {
    enter(state, usesStreams) {
      if (state === 'probing' || state === 'silent') send({ type: 'ping' });
      else if (state === 'connecting') {
        try {
          transport = usesStreams
            ? createEventStreamTransport(request, onText, onLost, onReset)
            : createWebSocketTransport(openSocket(), onText, onLost);
        } catch {
          // There is no WebSocket class, or the page's policy forbids the connection.
          dispatch('blocked');
        }
      } else if (state !== 'live') {
        cancel();
        transport?.close();
        transport = undefined;
        if (state === 'authorizing') authorize();
      }
    },
    currentToken,
    isOpen: () => !!transport,
    send,
    request,
    heartbeatMs: () => heartbeatMs,
    phase(isConnected, snapshotMs = 0) {
      if (isConnected) return stale ?? { state: 'live' };
      const sinceMs = asOfMs || snapshotMs;
      return sinceMs ? { state: 'stale', sinceMs, reason: 'disconnected' } : { state: 'connecting' };
    },
  };
}

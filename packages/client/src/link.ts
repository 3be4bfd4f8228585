import type { ClientMessage, ServerMessage } from '#protocol';
import type { ConnectionEvent } from './connection-machine.js';
import type { ConnectionOptions } from './connection.js';
import { createEventStreamTransport } from './event-stream-transport.js';
import type { FlagcastError } from './flagcast-error.js';
import { createFreshness, type Freshness, type StatusKeys } from './freshness.js';
import { createRequest, type Request } from './request.js';
import { createTokenSource, maxTimerMs } from './token-source.js';
import { createWebSocketTransport, type Transport, type TransportHandlers } from './transport.js';
import { subprotocol } from './wire.js';

/** The way to the server: the token, the current transport, and what the server's messages say about the connection. */
export interface Link {
  /** Fetches a token, which a transport needs. */
  readonly authorize: () => void;
  /** Opens a transport. */
  readonly open: (usesStreams: boolean) => void;
  /** Closes the transport, and ignores a token that is being fetched. */
  readonly close: () => void;
  readonly hasToken: () => boolean;
  readonly isOpen: () => boolean;
  readonly send: (message: ClientMessage) => void;
  readonly request: Request;
  /** Returns the interval of the server's heartbeats, in milliseconds. */
  readonly heartbeatMs: () => number;
  readonly phase: Freshness['phase'];
}

/** What a link reports to the connection. */
export interface LinkEvents {
  /** A token or a message has arrived, or no transport could be opened; `lost` with the error of a token. */
  readonly dispatch: (event: ConnectionEvent, delayMs?: number, error?: FlagcastError) => void;
  readonly onLost: TransportHandlers['onLost'];
  /** There will be no further token. */
  readonly end: (error: FlagcastError) => void;
  /** A failure that is retried. */
  readonly report: (error: FlagcastError) => void;
}

/** Creates a link without a transport. */
export function createLink(
  { getToken, log, onChange, onMessage, ...network }: ConnectionOptions,
  getBaseUrl: () => string,
  { dispatch, onLost, end, report }: LinkEvents,
): Link {
  const tokens = createTokenSource(getToken, report, end);
  const request = createRequest(getBaseUrl, network.fetch, tokens.current);
  const freshness = createFreshness();
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
      const { type, code = 0, reason } = message as object as StatusKeys;
      if ('token_expires_at' in message) {
        tokens.scheduleRefresh(message.token_expires_at, () =>
          send({ type: 'auth', token: tokens.current() }),
        );
      }
      if ('heartbeat_interval_ms' in message) {
        heartbeatMs = Math.min(message.heartbeat_interval_ms, maxTimerMs / 2);
      }
      freshness.read(message, () => onMessage(message));
      // The close frame of an event stream.
      if (type === 'close') onLost(code, reason);
      else dispatch(type === 'hello' ? type : 'message');
    } catch (error) {
      onLost(0, 'bad_message', 0, error);
    }
  };
  /** The channels notice that they are not subscribed any more, and subscribe again. */
  const onReset = (): void => {
    const opened = transport;
    transport = undefined;
    onChange();
    transport = opened;
    onChange();
  };

  return {
    authorize() {
      void tokens.fetch(
        () => dispatch('token'),
        (error) => dispatch('lost', 0, error),
      );
    },
    open(usesStreams) {
      const handlers = { onText, onLost };
      const url = `${getBaseUrl()}api/ws`.replace('http', 'ws');
      const protocols = [subprotocol, `bearer.${tokens.current()}`];
      try {
        transport = usesStreams
          ? createEventStreamTransport(request, handlers, onReset)
          : createWebSocketTransport(new network.WebSocket(url, protocols), handlers);
      } catch {
        // There is no WebSocket class, or the page's policy forbids the connection.
        dispatch('blocked');
      }
    },
    close() {
      tokens.cancel();
      transport?.close();
      transport = undefined;
    },
    hasToken: () => !!tokens.current(),
    isOpen: () => !!transport,
    send,
    request,
    heartbeatMs: () => heartbeatMs,
    phase: freshness.phase,
  };
}

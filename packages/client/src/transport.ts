import type { ClientMessage } from '#protocol';
import type { Loss } from './connection-error.js';

/** A connection to the server, open or being opened: a WebSocket or an event stream. */
export interface Transport {
  readonly send: (message: ClientMessage) => void;
  /** Closes the connection. No handler is called afterwards. */
  readonly close: () => void;
}

/** What a transport reports to its owner. */
export interface TransportHandlers {
  /** Handles the text of a message. Never throws. */
  readonly onText: (text: string) => void;
  /**
   * Handles the loss of the connection.
   */
  readonly onLost: (loss: Loss) => void;
}

/** The part of a WebSocket that the client uses. */
export interface WebSocketLike {
  /** Set by the client. Its argument has `data`: the text of a message. */
  onmessage: ((event: never) => unknown) | null;
  /** Set by the client. Its argument has `code` and `reason`, like a CloseEvent. */
  onclose: ((event: never) => unknown) | null;
  /** Set by the client. `close` is expected to follow, unless `readyState` is 3 (closed). */
  onerror: ((event: never) => unknown) | null;
  /** Default 1: open. */
  readonly readyState?: number;
  /** Sends a text message. Only called while `readyState` is 1. */
  send(text: string): void;
  /** Closes the socket, also while it is connecting. */
  close(): void;
}

/** The WebSocket class of browsers, of Node >= 22, or of the package `ws`. */
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

/** Creates the transport of a WebSocket to the server. */
export function createWebSocketTransport(
  socket: WebSocketLike,
  onText: TransportHandlers['onText'],
  onLost: TransportHandlers['onLost'],
): Transport {
  socket.onmessage = (event: { data: string }) => onText(event.data);
  socket.onclose = (event: { code: number; reason: string }) =>
    onLost({ closeCode: event.code, code: event.reason });
  socket.onerror = () => {
    // A WebSocket that the page's policy forbids is closed without the event `close`.
    if (socket.readyState === 3) onLost({});
  };
  return {
    send(message) {
      // The server may be closing the connection. What was not sent is sent again after the reconnect.
      if ((socket.readyState ?? 1) === 1) socket.send(JSON.stringify(message));
    },
    close() {
      socket.onmessage = socket.onclose = null;
      socket.onerror = () => undefined;
      socket.close();
    },
  };
}

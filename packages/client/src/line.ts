import { type ClientMessage, type ServerMessage, subprotocol } from '#protocol';

/** A way to the server, open or being opened. After `close` it tells its owner nothing more. */
export interface Line {
  readonly send: (message: ClientMessage) => void;
  readonly close: () => void;
}

/** The channel of a stream of server-sent events. */
export type StreamChannel = Record<'project_id' | 'environment_id', string>;

/**
 * Takes the text of a message, and gives the message; undefined where it is none. `channel` is what the line
 * knows that the message is about. Never throws.
 */
export type Receive = (text: string, channel?: StreamChannel) => ServerMessage | undefined;

/** The line has gone. `code` is its close code, 0 where there is none; `reason` a word of the server's for it. */
export type Lost = (code: number, reason?: string, retryAfterMs?: number) => void;

/** What is used of a WebSocket. */
export interface WebSocketLike {
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(text: string): void;
  close(): void;
}

/** The class of a browser, of Node >= 22, or of the package `ws`. */
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

/** Throws where there is no such class, or where it or the page's policy does not allow the connection. */
export function openSocket(
  WebSocketClass: WebSocketClass,
  url: string,
  token: string,
  receive: Receive,
  lost: Lost,
): Line {
  const socket = new WebSocketClass(url, [subprotocol, `bearer.${token}`]);
  socket.onmessage = (event: { data: string }) => receive(event.data);
  socket.onclose = (event: { code: number; reason: string }) => lost(event.code, event.reason);
  // What went wrong is told by the close that follows; `ws` throws where nobody listens.
  socket.onerror = () => undefined;
  return {
    send: (message) => socket.send(JSON.stringify(message)),
    close() {
      socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';

/** The headers of an offer of HTTP/2 over plain text. RFC 9113 withdrew it, but Java's client sends it with each request. */
const offerHeaders = new Set(['upgrade', 'http2-settings']);

/** Whether the upgrade is to a WebSocket, well-formed or not. */
export function offersWebSocket({ headers }: IncomingMessage): boolean {
  return /websocket/i.test(headers.upgrade ?? '');
}

/**
 * Answers a request as if it had offered no upgrade, which a server may do (RFC 9110, 7.8). Node does so only without an
 * `upgrade` listener; with one, it passes the bare socket after the head. So the connection starts again with the head
 * without the offer.
 */
export function declineUpgrade(
  server: HttpServer,
  { method, url, httpVersion, rawHeaders }: IncomingMessage,
  socket: Duplex,
  rest: Buffer,
): void {
  const lines = [`${method ?? ''} ${url ?? ''} HTTP/${httpVersion}`];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2);
    if (!offerHeaders.has(name.toLowerCase())) lines.push(`${name}: ${value}`);
  }
  // Node decodes a head as latin1, and accepts no line break in a value.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), rest]));
  const restart = (): void => {
    if (!socket.destroyed)
      server.emit(server instanceof TlsServer ? 'secureConnection' : 'connection', socket);
  };
  // Responses to earlier requests of the connection have to be sent first: Node would never send one that waits for them.
  const { _httpMessage: earlier = null } = socket as { _httpMessage?: ServerResponse | null };
  if (earlier === null) restart();
  else earlier.once('finish', restart);
}

import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';

/** What an offer of HTTP/2 over plain text consists of; RFC 9113 has withdrawn it, Java's client makes it with each request. */
const offerHeaders = new Set(['upgrade', 'http2-settings']);

/** Whether the request is meant to become a WebSocket, well-formed or not, and not something else that HTTP can be upgraded to. */
export function offersWebSocket({ headers }: IncomingMessage): boolean {
  return /websocket/i.test(headers.upgrade ?? '');
}

/**
 * Answers a request as if it had offered no upgrade, which a server is free to do (RFC 9110, 7.8). Node does so
 * itself only where nobody listens for upgrades; with a listener it hands over the bare socket, of which the head
 * is read already. So the connection begins anew, with the same head but for the offer.
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
  // Node has read the bytes of a head as latin1, and taken care that no value holds the end of a line.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), rest]));
  const beginAnew = (): void => {
    if (!socket.destroyed)
      server.emit(server instanceof TlsServer ? 'secureConnection' : 'connection', socket);
  };
  // The answer to a request before it may still be under way. That of a connection begun anew would wait for it in vain.
  const { _httpMessage: earlier = null } = socket as { _httpMessage?: ServerResponse | null };
  if (earlier === null) beginAnew();
  else earlier.once('finish', beginAnew);
}

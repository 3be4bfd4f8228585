import { createServer, type RequestListener, type Server } from 'node:http';
import type { TrustedProxies } from '../auth/trusted-proxies.js';
import type { HttpConnections } from '../connections/connection-limits.js';
import type { Lifecycle } from '../lifecycle.js';

/** Headers of every response: pages of other origins cannot use it, and its address is not sent to other servers. */
export const defaultHeaders: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

export interface HttpServerOptions {
  httpConnections: HttpConnections;
  proxies: TrustedProxies;
  lifecycle: Lifecycle;
  /** How long the head of a request may take, from its first byte or, for the first request, from the connection. In milliseconds. */
  requestHeadersTimeoutMs: number;
  /** A connection without traffic for this long is closed, also one that does not read its response. In milliseconds. */
  idleTimeoutMs: number;
}

/** How long a request with its body may take, in milliseconds. */
const requestTimeoutMs = 30_000;

/**
 * An HTTP server that closes connections of clients that send nothing, send slowly or do not read, and new connections
 * while too many have not authenticated.
 */
export function createHttpServer(
  listener: RequestListener,
  { httpConnections, proxies, lifecycle, requestHeadersTimeoutMs, idleTimeoutMs }: HttpServerOptions,
): Server {
  const server = createServer(
    {
      headersTimeout: requestHeadersTimeoutMs,
      requestTimeout: Math.max(requestTimeoutMs, requestHeadersTimeoutMs),
      connectionsCheckingInterval: Math.min(1_000, requestHeadersTimeoutMs),
    },
    listener,
  );
  server.timeout = idleTimeoutMs;
  server.on('connection', (socket) => {
    // The proxy limits its own connections; their requests are counted by the address of the client.
    if (proxies.isProxy(socket)) return;
    const address = proxies.clientAddress({ headers: {}, socket });
    const refusal = httpConnections.add(socket, address);
    if (refusal === null) return;
    socket.destroy();
    const { status, code, message } = refusal;
    lifecycle.emit('connection:refused', { status, code, message, address });
  });
  return server;
}

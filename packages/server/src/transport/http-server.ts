import { createServer, type RequestListener, type Server } from 'node:http';
import type { TrustedProxies } from '../auth/trusted-proxies.js';
import type { Lifecycle } from '../lifecycle.js';
import type { UnauthenticatedConnections } from './unauthenticated-connections.js';

export interface HttpServerOptions {
  unauthenticated: UnauthenticatedConnections;
  proxies: TrustedProxies;
  lifecycle: Lifecycle;
  /** How long the head of a request may take, from the first byte or, on a new connection, from its start. In milliseconds. */
  requestHeadersTimeoutMs: number;
  /** A connection with no traffic for this long ends, also one whose answer is not read. In milliseconds. */
  idleTimeoutMs: number;
}

/** How long a request with its body may take, in milliseconds. */
const requestTimeoutMs = 30_000;

/**
 * An HTTP server whose connections cannot be held open by peers that send nothing, send slowly or do not read, and
 * which closes new connections while too many have not authenticated.
 */
export function createHttpServer(
  listener: RequestListener,
  { unauthenticated, proxies, lifecycle, requestHeadersTimeoutMs, idleTimeoutMs }: HttpServerOptions,
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
    // The connections of a proxy are the proxy's to bound; what it passes on is counted by the client's address.
    if (proxies.isProxy(socket)) return;
    const address = proxies.clientAddress({ headers: {}, socket });
    const full = unauthenticated.add(socket, address);
    if (full === null) return;
    socket.destroy();
    lifecycle.emit('connection:refused', { status: full.status, code: full.code, address });
  });
  return server;
}

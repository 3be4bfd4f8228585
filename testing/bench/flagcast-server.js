import { once } from 'node:events';
import { ioUring } from '@flagcast/io-uring';
import { createFlagcast } from 'flagcast';
import { serveParent } from '../testkit/child.ts';

/** @import { AddressInfo } from 'node:net' */

/**
 * @typedef {{ databaseUrl: string, secret: string, port?: number, maxConnections?: number }} FlagcastStart
 * `secret`: verifies the tokens. `port`: default a free one. `maxConnections`: limit per user and per address.
 */

// Flagcast with its defaults, except the connection limits: thousands of connections come from one address.
serveParent(async (/** @type {FlagcastStart} */ { databaseUrl, secret, port = 0, maxConnections }) => {
  const flagcast = createFlagcast({
    database: { url: databaseUrl },
    auth: { secret },
    socketWriter: ioUring,
    limits: { connectionsPerUser: maxConnections, connectionsPerAddress: maxConnections },
  });
  const started = once(flagcast.lifecycle, 'reader:started');
  const listening = once(flagcast.lifecycle, 'listener:listening');
  const http = flagcast.createServer();
  http.listen(port, '127.0.0.1');
  void flagcast.ready();
  await Promise.all([started, listening, once(http, 'listening')]);
  return /** @type {AddressInfo} */ (http.address()).port;
});

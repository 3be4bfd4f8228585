import { once } from 'node:events';
import { createServer } from 'node:http';
import { createFlagcast } from '../../packages/server/dist/index.js';
import { serveParent } from './server-process.js';

/** @import { AddressInfo } from 'node:net' */

// The product as it comes, with all its defaults.
serveParent(async ({ databaseUrl, secret = '' }) => {
  const flagcast = createFlagcast({ databaseUrl, auth: { secret } });
  const started = once(flagcast.lifecycle, 'reader:started');
  const listening = once(flagcast.lifecycle, 'listener:listening');
  const http = createServer(flagcast.requestListener);
  flagcast.attach(http);
  http.listen(0, '127.0.0.1');
  flagcast.start();
  await Promise.all([started, listening, once(http, 'listening')]);
  return /** @type {AddressInfo} */ (http.address()).port;
});

import { createServer } from 'node:http';
import { createFlagcast } from 'flagcast';
import next from 'next';

const { DATABASE_URL, FLAGCAST_JWT_SECRET, PORT = '3000' } = process.env;
const flagcast = createFlagcast({ database: { url: DATABASE_URL }, auth: { secret: FLAGCAST_JWT_SECRET } });
const app = next({ dev: process.env.NODE_ENV === 'development', dir: import.meta.dirname });
await app.prepare();
const handle = app.getRequestHandler();

const server = createServer((request, response) => {
  if (flagcast.handles(request)) flagcast.requestListener(request, response);
  else void handle(request, response);
});
// Next has WebSockets of its own on the same server, for its reloads in development.
flagcast.attach(server);
await flagcast.ready();
server.listen(Number(PORT), () => console.log('Ready'));

process.once('SIGTERM', async () => {
  server.close();
  await flagcast.close();
  await app.close();
});

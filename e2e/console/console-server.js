/** A server with the console for tests that kill it. The short heartbeat lets clients detect the loss early. */
import { createServer } from 'node:http';
import { flagcastConsole } from '@flagcast/console';
import { createFlagcast } from 'flagcast';

const { DATABASE_URL = '', SECRET = '', PORT = '' } = process.env;
const flagcast = createFlagcast({
  database: { url: DATABASE_URL },
  auth: { secret: SECRET },
  console: flagcastConsole(),
  writes: true,
  timeouts: { heartbeatIntervalMs: 1_000 },
});
const server = createServer(flagcast.requestListener);
flagcast.attach(server);
flagcast.lifecycle.once('reader:started', () => process.send?.('started'));
server.listen(Number(PORT), '127.0.0.1');
void flagcast.ready();

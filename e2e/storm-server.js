/** A server process for the storm: the library with a quick heartbeat, so that dead lines are noticed soon. */
import { createServer } from 'node:http';
import { createFlagcast } from 'flagcast';

const { DATABASE_URL = '', SECRET = '', PORT = '' } = process.env;
const flagcast = createFlagcast({
  databaseUrl: DATABASE_URL,
  auth: { secret: SECRET },
  maxConnectionsPerUser: 10_000,
  maxConnectionsPerAddress: 10_000,
  timing: { heartbeatIntervalMs: 1_000 },
});
const server = createServer(flagcast.requestListener);
flagcast.attach(server);
flagcast.lifecycle.once('reader:started', () => process.send?.('started'));
server.listen(Number(PORT), '127.0.0.1');
flagcast.start();

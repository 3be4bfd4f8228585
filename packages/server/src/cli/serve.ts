import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import type { Logger } from 'pino';
import { type Auth, loadConfig, type ServeConfig } from '../config/config.js';
import { demoUsers } from '../demo/people.js';
import { startTraffic } from '../demo/traffic.js';
import { logWarnings } from '../doctor/at-start.js';
import { createFlagcast, type Flagcast } from '../flagcast.js';
import { describeError, scrub } from '../describe.js';
import { createLogger, logLifecycle } from '../log.js';
import { demoBanner } from './banner.js';
import { CommandError, defineCommand } from './command.js';
import { awaitPrepared } from './attached-database.js';
import { keepSecret } from './data-folder.js';
import { startDemoDatabase } from './demo-database.js';
import { Running } from './running.js';
import { listenForShutdown } from './shutdown.js';

export const serveCommand = defineCommand({
  name: 'serve',
  help: `flagcast serve [options]

Serves the live events of a PostgreSQL database on /api/ws. Without a database it starts an
embedded PostgreSQL and fills it with a demo.

  --database-url URL    the database (env DATABASE_URL; default: the embedded one)
  --port PORT           where to listen, 0 for a free one (env PORT; default 8080)
  --host ADDRESS        the address to listen on (env HOST; default 127.0.0.1)
  --poll-interval TIME  how often the database is read when nothing wakes the reader, with a unit,
                        from 10ms to 1h (env FLAGCAST_POLL_INTERVAL; default 1s)
  --traffic             let the demo's people work, so that there is something to see (default: off)

Environment:
  FLAGCAST_JWT_SECRET   the HS256 secret of the tokens, at least 32 bytes   } one of them with a database,
  FLAGCAST_JWKS_URL     the address of the keys of the tokens (JWK Set)     } never both
  FLAGCAST_LISTEN_URL   the same database straight at its primary, only for LISTEN, where the database's URL
                        leads through a pooler by transaction or to a replica (default: the database's URL)
  FLAGCAST_VIEW                          the view of events to read (default: flagcast.v_realtime_events, else the
                                         same read straight from the tables, else the host's v_realtime_events)
  FLAGCAST_OVERLAP                       in a view without xid: how long after its created_at an event may be
                                         committed, from 1s to 1h (default 1m)
  FLAGCAST_ALLOWED_ORIGINS               origins whose pages may connect, by commas (default: only the server's own)
  FLAGCAST_QUERY_TOKEN                   allow: take a token from the query string, too (default deny)
  FLAGCAST_AUTHORIZE_SQL                 who may see what where the tables are not Togglr's: a SELECT over the users $1
                                         (text[]), described in docs/other-schemas.md
  FLAGCAST_EVENT_TYPES                   togglr: plain clients are told of events by Togglr's names (default spec)
  FLAGCAST_TRUSTED_PROXIES               addresses and networks of the proxies in front, by commas: whoever comes
                                         through them is known by X-Forwarded-For (default: none)
  FLAGCAST_WRITES                        on or off: take changes from the console and the REST API (default on for
                                         the embedded PostgreSQL, off for a database of yours)
  FLAGCAST_DATA_DIR                      where the embedded PostgreSQL keeps its data (default /var/lib/flagcast
                                         as root, else $XDG_DATA_HOME/flagcast or ~/.local/share/flagcast)
  FLAGCAST_MAX_CONNECTIONS_PER_USER      connections that a user may have open (default 100)
  FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS   connections that an address may have open (default 1000)

SIGTERM and SIGINT end it within 10 s: clients are asked to reconnect elsewhere. A second one ends it at once.`,
  options: {
    'database-url': { type: 'string' },
    port: { type: 'string' },
    host: { type: 'string' },
    'poll-interval': { type: 'string' },
    traffic: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const config = loadConfig(environment, {
      databaseUrl: values['database-url'],
      port: values.port,
      host: values.host,
      pollInterval: values['poll-interval'],
    });
    await serve(config, { traffic: values.traffic ?? false });
  },
});

/** Serves until a signal comes; resolves when everything that it started has ended. */
async function serve(config: ServeConfig, { traffic }: { traffic: boolean }): Promise<void> {
  const interactive = process.stdout.isTTY;
  const logger = createLogger({ human: interactive });
  const shutdown = listenForShutdown();
  const running = new Running(logger);
  void shutdown.requested.then((signal) => {
    logger.info({ event: 'server_stopping', signal });
    running.startCountdown();
  });
  try {
    const { databaseUrl, auth } = await openSource(config, logger, running);
    if (shutdown.isRequested()) return;
    const flagcast = createFlagcast({
      ...config,
      databaseUrl,
      auth,
      view: config.view ?? undefined,
      demoPeople: config.databaseUrl === null ? demoUsers : [],
    });
    logLifecycle(logger, flagcast.lifecycle);
    const url = await listen(config, flagcast, logger, running);
    logger.info({ event: 'server_listening', url });
    if (config.databaseUrl !== null) {
      const { view, authorizeSql, overlapMs } = config;
      await awaitPrepared(databaseUrl, { view, authorizeSql, traffic, signal: shutdown.signal, logger });
      void logWarnings(databaseUrl, { view, authorizeSql, overlapMs, logger });
    }
    if (shutdown.isRequested()) return;
    flagcast.start();
    if (traffic) {
      const people = startTraffic({
        databaseUrl,
        onAction: (line) => logger.info({ event: 'traffic', action: scrub(line) }),
      });
      running.add('traffic', async () => await people.stop());
    }
    if (interactive && config.databaseUrl === null) {
      const dataDir = config.dataDirChosen ? config.dataDir : null;
      process.stdout.write(demoBanner({ url, dataDir, traffic }));
    }
    await shutdown.requested;
  } finally {
    await running.stop();
    if (shutdown.isRequested()) logger.info({ event: 'server_stopped' });
    shutdown.dispose();
  }
}

interface Source {
  readonly databaseUrl: string;
  readonly auth: Auth;
}

async function openSource(config: ServeConfig, logger: Logger, running: Running): Promise<Source> {
  const { databaseUrl, auth } = config;
  if (databaseUrl !== null && auth !== null) return { databaseUrl, auth };
  const database = await startDemoDatabase({ dataDir: config.dataDir, logger });
  running.add('embedded database', async (remainingMs) => await database.stop(remainingMs));
  return {
    databaseUrl: database.databaseUrl,
    auth: auth ?? { secret: await keepSecret(database.dataDir) },
  };
}

/** Listens, and answers with the URL to reach it at. */
async function listen(
  config: ServeConfig,
  flagcast: Flagcast,
  logger: Logger,
  running: Running,
): Promise<string> {
  const server = createServer(flagcast.requestListener);
  flagcast.attach(server);
  server.listen(config.port, config.host);
  try {
    await once(server, 'listening');
  } catch (error) {
    await flagcast.close();
    throw cannotListen(config, error);
  }
  server.on('error', (error) => logger.error({ event: 'server_failed', error: describeError(error) }));
  running.add('server', async () => {
    const closed = once(server, 'close');
    server.close();
    await flagcast.close();
    server.closeAllConnections();
    await closed;
  });
  const { address, port } = server.address() as AddressInfo;
  return `http://${isIPv6(address) ? `[${address}]` : address}:${port}`;
}

function cannotListen({ port, host }: ServeConfig, error: unknown): CommandError {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  switch (code) {
    case 'EADDRINUSE':
      return new CommandError(
        `Port ${port} of ${host} is in use; stop what listens there, or choose another port with --port (or PORT)`,
      );
    case 'EACCES':
      return new CommandError(
        `Port ${port} is closed to this user; choose one above 1023 with --port (or PORT)`,
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new CommandError(
        `${host} is not an address of this machine; choose another with --host (or HOST), such as 127.0.0.1 or 0.0.0.0`,
      );
    default:
      return new CommandError(
        `Cannot listen on port ${port} of ${host} (${describeError(error)}); choose others with --port and --host`,
      );
  }
}

import type { Logger } from 'pino';
import { loadConfig, type ServeConfig } from './config/config.js';
import { logWarnings } from '../install/doctor/at-start.js';
import { describeError, scrub } from '../describe.js';
import { createLogger } from '../operations/log.js';
import { demoBanner } from './banner.js';
import { defineCommand } from './command.js';
import { awaitPrepared } from './attached-database.js';
import { keepSecret, requireDataDir } from './data-folder.js';
import { startDemoDatabase } from './demo-database.js';
import { loadDemo } from './demo-package.js';
import { loadRelay } from './relay-package.js';
import { CleanupStack } from './running.js';
import { createLoggedFlagcast, listen, type Server, type ServerSettings } from './server.js';
import { listenForShutdown } from './shutdown.js';
import { startTraces } from './traces.js';
import { refuseNestedWorkers, startWorkers } from './workers.js';

export const serveCommand = defineCommand({
  name: 'serve',
  help: `flagcast serve [options]

Serves the live events of a PostgreSQL database on /api/ws. Without a database it starts an
embedded PostgreSQL with a demo in it, which needs the package @flagcast/demo.

  --database-url URL    the database (env DATABASE_URL; default: the embedded one)
  --port PORT           where to listen, 0 for a free one (env PORT; default 8080)
  --host ADDRESS        the address to listen on (env HOST; default 127.0.0.1)
  --poll-interval TIME  how often the database is read when nothing wakes the reader, with a unit,
                        from 10ms to 1h (env FLAGCAST_POLL_INTERVAL; default 1s)
  --workers N|auto      processes that share the port and the work, auto for one a processor, at most 8
                        (env FLAGCAST_WORKERS; default 1: all in this process)
  --traffic             let the demo's people work, so that there is something to see (default: off)

Environment:
  FLAGCAST_JWT_SECRET   the HS256 secret of the tokens, at least 32 bytes   } one of them with a database,
  FLAGCAST_JWKS_URL     the address of the keys of the tokens (JWK Set)     } never both
  FLAGCAST_JWT_ISSUER   the iss that tokens must have    } needed with FLAGCAST_JWKS_URL
  FLAGCAST_JWT_AUDIENCE the aud that tokens must have    } (default with a secret: any)
  FLAGCAST_JWT_USER_CLAIM  the claim that identifies the user, and what it is compared with: claim:id, claim:username or
                        claim:email (columns of users), such as email:email; needed with FLAGCAST_JWKS_URL (default
                        with a secret: Togglr's userId, else sub); docs/OPERATIONS.md
  FLAGCAST_JWT_MAX_AGE  the longest life of a token that is accepted, from 1m to 3650d (default 1d)
  FLAGCAST_DB_CONNECTIONS  how many sessions of the database there may be, with all workers (default 10, or with workers
                        what they need); docs/OPERATIONS.md
  FLAGCAST_LISTEN_URL   the same database straight at its primary, only for LISTEN, where the database's URL
                        leads through a pooler by transaction or to a replica (default: the database's URL)
  FLAGCAST_VIEW                          a view of events to read by created_at (default: the event log, else the
                                         tables, else a view v_realtime_events)
  FLAGCAST_OVERLAP                       where there is no event log: how long after its created_at an event may be
                                         committed, from 1s to 1h (default 1m)
  FLAGCAST_LOG_RETENTION                 how long rows of the event log are kept, which is how far back a client can
                                         resume, from 1m to 3650d (default 7d)
  FLAGCAST_READY_GRACE                   by how long a read of the database may be overdue before the server is stale
                                         and /readyz answers 503, from 1s to 1h (default: 3 poll intervals without a
                                         read, at least 5s)
  OTEL_EXPORTER_OTLP_ENDPOINT            where traces go (OTLP, JSON over HTTP), with OpenTelemetry's other variables
                                         (default: none are made); docs/OPERATIONS.md
  FLAGCAST_RELAY_URL                     nats://user:password@host:4222, several by commas, tls:// for TLS: NATS with
                                         JetStream, by which several servers share one reader of the database; needs
                                         @flagcast/relay-nats (default: each reads for itself; docs/RELAY.md)
  FLAGCAST_METRICS_PORT                  a port of their own for /metrics, /healthz and /readyz (default: that of all else)
  FLAGCAST_ALLOWED_HOSTS                 names and addresses in the Host of requests, without ports, by commas (default:
                                         any; for the embedded PostgreSQL loopback names and the address of --host)
  FLAGCAST_ALLOWED_ORIGINS               origins whose pages may connect, by commas (default: only the server's own)
  FLAGCAST_QUERY_TOKEN                   allow: take a token from the query string, too (default deny)
  FLAGCAST_AUTHORIZE_SQL                 who may see what where the tables are not Togglr's: a SELECT over the users $1
                                         (text[]), described in docs/other-schemas.md
  FLAGCAST_EVENT_TYPES                   togglr: plain clients are told of events by Togglr's names (default spec)
  FLAGCAST_TRUSTED_PROXIES               addresses and networks of the proxies in front, by commas: whoever comes
                                         through them is known by X-Forwarded-For (default: none)
  FLAGCAST_WRITES                        on or off: take changes from the console and the REST API (default on for
                                         the embedded PostgreSQL, off for a database of yours)
  FLAGCAST_IO_URING                      on or off: write to many connections in one system call, if the package
                                         @flagcast/io-uring is installed and the machine allows it (default on;
                                         described in docs/OPERATIONS.md)
  FLAGCAST_DATA_DIR                      where the embedded PostgreSQL keeps its data (default /var/lib/flagcast
                                         as root, else $XDG_DATA_HOME/flagcast or ~/.local/share/flagcast)
  FLAGCAST_MAX_CONNECTIONS_PER_USER      connections that a user may have open (default 100) } each worker
  FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS   connections that an address may have open (default 1000) } counts
  FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS  connections that have not authenticated (default 10000) } its own
  FLAGCAST_ANSWER_MEMORY_MB              MiB of answers that clients have not read yet (default 64, each worker)

SIGTERM and SIGINT end it within 10 s: clients are asked to reconnect elsewhere. A second one ends it at once.
With workers SIGHUP renews them one after another, except on a terminal, where it ends the server.`,
  options: {
    'database-url': { type: 'string' },
    port: { type: 'string' },
    host: { type: 'string' },
    'poll-interval': { type: 'string' },
    workers: { type: 'string' },
    traffic: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const config = loadConfig(environment, {
      databaseUrl: values['database-url'],
      port: values.port,
      host: values.host,
      pollInterval: values['poll-interval'],
      workers: values.workers,
    });
    await serve(config, { traffic: values.traffic ?? false });
  },
});

/** Serves until a signal comes; resolves when everything that it started has ended. */
async function serve(config: ServeConfig, { traffic }: { traffic: boolean }): Promise<void> {
  const interactive = process.stdout.isTTY;
  const logger = createLogger({ human: interactive });
  const shutdown = listenForShutdown();
  const running = new CleanupStack(logger);
  void shutdown.requested.then((signal) => {
    logger.info({ event: 'server_stopping', signal });
    running.startCountdown();
  });
  try {
    if (config.workers > 1) refuseNestedWorkers();
    // Reported before anything starts.
    if (config.relayUrl !== null) await loadRelay();
    const settings = await openSource(config, logger, running);
    if (shutdown.isRequested()) return;
    const { databaseUrl, databaseConnections, view, authorizeSql, overlapMs, workers } = settings;
    const start = workers === 1 ? startAlone : startWorkers;
    const { url, monitoringUrl, begin } = await start(settings, logger, running, shutdown.signal);
    logger.info({
      event: 'server_listening',
      url,
      ...(monitoringUrl === null ? {} : { monitoringUrl }),
      ...(workers === 1 ? {} : { workers }),
    });
    if (config.databaseUrl !== null) {
      await awaitPrepared(databaseUrl, { view, authorizeSql, traffic, signal: shutdown.signal, logger });
      void logWarnings(databaseUrl, {
        databaseConnections,
        view,
        authorizeSql,
        overlapMs,
        writes: settings.writes,
        userClaim: settings.auth.userClaim ?? null,
        logger,
      });
    }
    if (shutdown.isRequested()) return;
    begin();
    if (traffic) {
      const people = (await loadDemo()).startTraffic({
        databaseUrl,
        onAction: (line) => logger.info({ event: 'traffic', action: scrub(line) }),
      });
      running.add('traffic', async () => await people.stop());
    }
    if (interactive && config.databaseUrl === null) {
      const dataDir = config.dataDirChosen ? config.dataDir : null;
      process.stdout.write(demoBanner({ url, dataDir, traffic, people: settings.demoPeople }));
    }
    await shutdown.requested;
  } catch (error) {
    if (!shutdown.isRequested()) throw error;
    // What ends the server may end a part of it that is being started, too.
    logger.warn({ event: 'server_start_abandoned', error: describeError(error) });
  } finally {
    await running.stop();
    if (shutdown.isRequested()) logger.info({ event: 'server_stopped' });
    shutdown.dispose();
  }
}

async function openSource(
  config: ServeConfig,
  logger: Logger,
  running: CleanupStack,
): Promise<ServerSettings> {
  const { databaseUrl, auth } = config;
  if (databaseUrl !== null && auth !== null) return { ...config, databaseUrl, auth, demoPeople: [] };
  const demo = await loadDemo();
  const database = await startDemoDatabase(demo, {
    dataDir: requireDataDir(config.dataDir),
    logger,
  });
  running.add('embedded database', async (remainingMs) => await database.stop(remainingMs));
  return {
    ...config,
    databaseUrl: database.databaseUrl,
    auth: auth ?? { ...config.tokenChecks, secret: await keepSecret(database.dataDir) },
    demoPeople: databaseUrl === null ? demo.demoUsers : [],
  };
}

/** A server in this process. */
async function startAlone(settings: ServerSettings, logger: Logger, running: CleanupStack): Promise<Server> {
  const flagcast = await createLoggedFlagcast(settings, { logger });
  if (settings.traces) running.add('traces', await startTraces(flagcast.lifecycle, logger));
  const { url, monitoringUrl, stop } = await listen(flagcast, { ...settings, logger });
  running.add('server', async () => await stop(0));
  return { url, monitoringUrl, begin: () => void flagcast.ready() };
}

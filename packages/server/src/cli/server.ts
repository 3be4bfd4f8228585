import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import type { TokenOptions } from '../auth/auth-options.js';
import type { ServeConfig } from './config.js';
import { connectionsOfServer } from '../postgres/session-budget.js';
import { describeError } from '../describe.js';
import { createServerFlagcast } from '../flagcast.js';
import type { Flagcast, FlagcastOptions } from '../flagcast-options.js';
import type { DemoUser } from '../api/auth-routes.js';
import { logLifecycle, type Logger } from '../operations/log.js';
import { CommandError } from './command.js';
import { loadSocketWriter } from './packages.js';
import { loadRelay } from './packages.js';

/** What a server is made with, once it is known where its database is. Plain data: JSON changes nothing in it. */
export interface ServerSettings extends ServeConfig {
  readonly databaseUrl: string;
  readonly auth: TokenOptions;
  /** Whom the sign-in page offers: the people of the demo. */
  readonly demoPeople: readonly DemoUser[];
}

export interface ListeningUrls {
  readonly url: string;
  /** Of /metrics, /healthz and /readyz where they have a port of their own; else null. */
  readonly monitoringUrl: string | null;
}

export interface Server extends ListeningUrls {
  /** Begins to read the database. */
  readonly begin: () => void;
}

/** A server that logs what happens. It does not listen yet. */
export async function createLoggedFlagcast(
  settings: ServerSettings,
  options: { readonly logger: Logger; readonly metricsRegistry?: Registry },
): Promise<Flagcast> {
  const { logger, metricsRegistry } = options;
  const { relayUrl } = settings;
  const flagcast = createServerFlagcast(
    {
      ...optionsOf(settings, metricsRegistry),
      relay: relayUrl === null ? undefined : (await loadRelay()).natsRelay({ url: relayUrl }),
      socketWriter: await loadSocketWriter(settings.ioUring),
    },
    settings.demoPeople,
  );
  logLifecycle(logger, flagcast.lifecycle);
  return flagcast;
}

function optionsOf(settings: ServerSettings, metricsRegistry: Registry | undefined): FlagcastOptions {
  return {
    database: {
      url: settings.databaseUrl,
      listenUrl: settings.listenUrl ?? undefined,
      connections: connectionsOfServer(settings.databaseConnections, settings.workers),
      pollIntervalMs: settings.pollIntervalMs,
      view: settings.view ?? undefined,
      overlapMs: settings.overlapMs,
      logRetentionMs: settings.logRetentionMs,
    },
    auth: {
      ...settings.auth,
      authorizeSql: settings.authorizeSql ?? undefined,
      allowQueryToken: settings.allowQueryToken,
    },
    network: {
      allowedOrigins: settings.allowedOrigins,
      allowedHosts: settings.allowedHosts ?? undefined,
      trustedProxies: settings.trustedProxies,
    },
    limits: {
      connectionsPerUser: settings.maxConnectionsPerUser,
      connectionsPerAddress: settings.maxConnectionsPerAddress,
      unauthenticatedConnections: settings.maxUnauthenticatedConnections,
      responseBytes: settings.answerMemoryBytes,
    },
    timeouts: { readinessGraceMs: settings.readyGraceMs ?? undefined },
    writes: settings.writes,
    eventTypes: settings.eventTypes,
    separateMonitoring: settings.metricsPort !== null,
    metricsRegistry,
  };
}

export interface Listening extends ListeningUrls {
  /**
   * Takes no more connections, and closes all that is connected after `graceMs`: so long who came just before
   * is still let in.
   */
  readonly stop: (graceMs: number) => Promise<void>;
}

/**
 * So many may be waiting to be accepted. Of thousands who come back at once those beyond the default of
 * 511 would be dropped by the system, and try again after a second or more.
 */
const backlog = 4_096;

interface Place {
  readonly host: string;
  readonly port: number;
  /** The port of /metrics, /healthz and /readyz; null: the same. */
  readonly metricsPort: number | null;
}

/** @throws CommandError when it cannot listen there; then `flagcast` is closed. */
export async function listen(
  flagcast: Flagcast,
  { host, port, metricsPort, logger }: Place & { readonly logger: Logger },
): Promise<Listening> {
  const server = flagcast.createServer();
  const monitoring = metricsPort === null ? null : flagcast.createMonitoringServer();
  try {
    const url = await startListening(server, { host, port, flags: '--port (or PORT)' }, logger);
    const monitoringUrl =
      monitoring === null || metricsPort === null
        ? null
        : await startListening(
            monitoring,
            { host, port: metricsPort, flags: 'FLAGCAST_METRICS_PORT' },
            logger,
          );
    return {
      url,
      monitoringUrl,
      stop: async (graceMs) => {
        const closed = once(server, 'close');
        server.close();
        if (graceMs > 0) await delay(graceMs);
        await flagcast.close();
        server.closeAllConnections();
        await closed;
        // Until here it says that the server is draining.
        monitoring?.close();
        monitoring?.closeAllConnections();
      },
    };
  } catch (error) {
    server.close();
    await flagcast.close();
    throw error;
  }
}

/** Resolves with the URL. */
async function startListening(server: HttpServer, place: ListeningPlace, logger: Logger): Promise<string> {
  const { host, port } = place;
  server.listen({ port, host, backlog });
  try {
    await once(server, 'listening');
  } catch (error) {
    throw cannotListen(place, error);
  }
  server.on('error', (error) => logger('server_failed', { error }));
  const { address, port: listeningPort } = server.address() as AddressInfo;
  return `http://${isIPv6(address) ? `[${address}]` : address}:${listeningPort}`;
}

interface ListeningPlace {
  readonly host: string;
  readonly port: number;
  /** What sets the port. */
  readonly flags: string;
}

function cannotListen({ port, host, flags }: ListeningPlace, error: unknown): CommandError {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  switch (code) {
    case 'EADDRINUSE':
      return new CommandError(
        `Port ${port} of ${host} is in use; stop what listens there, or choose another port with ${flags}`,
      );
    case 'EACCES':
      return new CommandError(`Port ${port} is closed to this user; choose one above 1023 with ${flags}`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new CommandError(
        `${host} is not an address of this machine; choose another with --host (or HOST), such as 127.0.0.1 or 0.0.0.0`,
      );
    default:
      return new CommandError(
        `Cannot listen on port ${port} of ${host} (${describeError(error)}); choose others with ${flags} and --host (or HOST)`,
      );
  }
}

import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import type { TokenOptions } from '../auth/token-verifier.js';
import type { ServeConfig } from './config.js';
import { connectionsOfServer } from '../postgres/database-sessions.js';
import { describeError } from '../describe.js';
import { errorCode } from '../postgres/errors.js';
import { createFlagcast } from '../flagcast.js';
import type { DemoUser, Flagcast, FlagcastOptions } from '../flagcast-options.js';
import { logLifecycle, type Logger } from '../operations/log.js';
import { CommandError } from './command.js';
import { loadConsole, loadRelay, loadSocketWriter } from './packages.js';

/** The settings of a server, when its database is known. Plain data, so that it can be sent to workers. */
export interface ServerSettings extends ServeConfig {
  readonly databaseUrl: string;
  readonly auth: TokenOptions;
  /** The users of the demo, which the sign-in page offers. */
  readonly demoUsers: readonly DemoUser[];
}

export interface ListeningUrls {
  readonly url: string;
  /** Of /metrics, /healthz and /readyz if they have a separate port; else null. */
  readonly monitoringUrl: string | null;
}

export interface Server extends ListeningUrls {
  /** Starts to read the database. */
  readonly begin: () => void;
}

/** A server that logs what happens. It does not listen yet. */
export async function createLoggedFlagcast(
  settings: ServerSettings,
  options: { readonly logger: Logger; readonly metricsRegistry?: Registry },
): Promise<Flagcast> {
  const { logger, metricsRegistry } = options;
  const { demoUsers, relayUrl } = settings;
  const flagcast = createFlagcast({
    ...optionsOf(settings),
    metricsRegistry,
    console: (await loadConsole(settings))?.flagcastConsole({ demoUsers }),
    relay: relayUrl === null ? undefined : (await loadRelay()).natsRelay({ url: relayUrl }),
    socketWriter: await loadSocketWriter(settings.ioUring),
  });
  logLifecycle(logger, flagcast.lifecycle);
  return flagcast;
}

/** Settings have the names of the options that they set. */
function optionsOf(settings: ServerSettings): FlagcastOptions {
  const { databaseUrl, databaseConnections, workers, auth, metricsPort } = settings;
  return {
    database: {
      url: databaseUrl,
      connections: connectionsOfServer(databaseConnections, workers),
      ...valuesOf(settings, ['listenUrl', 'pollIntervalMs', 'view', 'overlapMs', 'logRetentionMs']),
    },
    auth: { ...auth, ...valuesOf(settings, ['authorizeSql', 'allowQueryToken']) },
    network: valuesOf(settings, ['allowedOrigins', 'allowedHosts', 'trustedProxies', 'basePath']),
    limits: {
      ...valuesOf(settings, ['connectionsPerUser', 'connectionsPerAddress', 'unauthenticatedConnections']),
      ...valuesOf(settings, ['responseBytes']),
    },
    timeouts: valuesOf(settings, ['readinessGraceMs']),
    separateMonitoring: metricsPort !== null,
    ...valuesOf(settings, ['writes', 'presence', 'eventTypes']),
  };
}

/** Null stands for a setting that is not set, and `undefined` for the default of an option. */
function valuesOf<Key extends keyof ServerSettings>(
  settings: ServerSettings,
  keys: readonly Key[],
): { readonly [Each in Key]: NonNullable<ServerSettings[Each]> | undefined } {
  return Object.fromEntries(keys.map((key) => [key, settings[key] ?? undefined])) as never;
}

interface Listening extends ListeningUrls {
  /** Stops accepting connections, and closes the others after `graceMs`, so that new requests are still answered. */
  readonly stop: (graceMs: number) => Promise<void>;
}

/** Of thousands of clients that reconnect at once, the kernel would drop those beyond the default backlog of 511. */
const backlog = 4_096;

/** @throws CommandError if it cannot listen; then `flagcast` is closed. */
export async function listen(
  flagcast: Flagcast,
  {
    host,
    port,
    metricsPort,
    logger,
  }: Pick<ServeConfig, 'host' | 'port' | 'metricsPort'> & { logger: Logger },
): Promise<Listening> {
  const server = flagcast.createServer();
  const monitoring = metricsPort === null ? null : flagcast.createMonitoringServer();
  const startListening = async (http: HttpServer, at: number, setting: string): Promise<string> => {
    http.listen({ port: at, host, backlog });
    await once(http, 'listening').catch((error: unknown) => {
      throw cannotListen(error, { host, port: at, setting });
    });
    http.on('error', (error) => logger('server_failed', { error }));
    const { address, port: actualPort } = http.address() as AddressInfo;
    return `http://${isIPv6(address) ? `[${address}]` : address}:${actualPort}`;
  };
  try {
    const url = await startListening(server, port, '--port (or PORT)');
    const monitoringUrl =
      monitoring === null
        ? null
        : await startListening(monitoring, metricsPort ?? 0, 'FLAGCAST_METRICS_PORT');
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
        // Until here /readyz reports that the server is draining.
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

function cannotListen(
  error: unknown,
  { host, port, setting }: { host: string; port: number; setting: string },
): CommandError {
  return new CommandError(
    errorCode(error) === 'EADDRINUSE'
      ? `Port ${port} of ${host} is in use; stop the program that uses it, or choose another port with ${setting}`
      : `Cannot listen on port ${port} of ${host} (${describeError(error)}); choose others with ${setting} and --host (or HOST)`,
  );
}

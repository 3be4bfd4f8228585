import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import type { Logger } from 'pino';
import type { AuthOptions } from '../access/auth-options.js';
import type { ServeConfig } from '../config/config.js';
import { describeError } from '../describe.js';
import { createFlagcast } from '../flagcast.js';
import type { Flagcast } from '../flagcast-options.js';
import type { DemoPerson } from '../http/demo-person.js';
import { logLifecycle } from '../log.js';
import { CommandError } from './command.js';

/** What a server is made with, once it is known where its database is. Plain data: JSON changes nothing in it. */
export interface ServerSettings extends ServeConfig {
  readonly databaseUrl: string;
  readonly auth: AuthOptions;
  /** Whom the sign-in page offers: the people of the demo. */
  readonly demoPeople: readonly DemoPerson[];
}

export interface Server {
  readonly url: string;
  /** Begins to read the database. */
  readonly begin: () => void;
}

/** The parts of one server, telling the log; it does not listen yet. */
export function createLoggedFlagcast(
  settings: ServerSettings,
  options: { readonly logger: Logger; readonly metricsRegistry?: Registry },
): Flagcast {
  const { logger, metricsRegistry } = options;
  const flagcast = createFlagcast({
    ...settings,
    view: settings.view ?? undefined,
    timing: settings.readyGraceMs === null ? {} : { readinessGraceMs: settings.readyGraceMs },
    ...(metricsRegistry === undefined ? {} : { metricsRegistry }),
  });
  logLifecycle(logger, flagcast.lifecycle);
  return flagcast;
}

export interface Listening {
  readonly url: string;
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

/** @throws CommandError when it cannot listen there; then `flagcast` is closed. */
export async function listen(
  flagcast: Flagcast,
  { host, port, logger }: { readonly host: string; readonly port: number; readonly logger: Logger },
): Promise<Listening> {
  const server = createServer(flagcast.requestListener);
  flagcast.attach(server);
  server.listen({ port, host, backlog });
  try {
    await once(server, 'listening');
  } catch (error) {
    await flagcast.close();
    throw cannotListen({ host, port }, error);
  }
  server.on('error', (error) => logger.error({ event: 'server_failed', error: describeError(error) }));
  const { address, port: listeningPort } = server.address() as AddressInfo;
  return {
    url: `http://${isIPv6(address) ? `[${address}]` : address}:${listeningPort}`,
    stop: async (graceMs) => {
      const closed = once(server, 'close');
      server.close();
      if (graceMs > 0) await delay(graceMs);
      await flagcast.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function cannotListen({ port, host }: { port: number; host: string }, error: unknown): CommandError {
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

import { once } from 'node:events';
import type pg from 'pg';
import { checkOptions } from './check-options.js';
import { describeError } from './describe.js';
import { type Database, isPostgresUrl } from './postgres/connection-settings.js';
import { DatabaseSessions, defaultDatabaseConnections } from './postgres/database-sessions.js';
import { checkBasePath } from './auth/request-target.js';
import { createHttpServer } from './transport/http-server.js';
import { HttpConnections } from './connections/connection-limits.js';
import type { DatabaseOptions, Flagcast, FlagcastOptions } from './flagcast-options.js';
import {
  type Base,
  type Connections,
  createAccess,
  createConnections,
  createDelivery,
  createHttp,
  type Delivery,
  type Http,
} from './flagcast-parts.js';
import { Lifecycle } from './lifecycle.js';
import { defaultLogRetentionMs, LogRetention } from './operations/log-retention.js';

/**
 * The codes of the errors of the library and of the command. The codes of refused requests and of `error` messages are
 * in @flagcast/protocol. docs/reference.md lists both.
 */
export const flagcastErrorCodes = {
  invalid_options: 'An option of createFlagcast is missing, malformed, or excludes another one.',
  closed: 'Flagcast was closed before it was ready, or is started again after it was closed.',
} as const;

/** A key of `flagcastErrorCodes`. */
export type FlagcastErrorCode = keyof typeof flagcastErrorCodes;

/** An error of Flagcast. `code` is stable; `message` is one line that says what is wrong and how to fix it. */
export class FlagcastError extends Error {
  override readonly name = 'FlagcastError';
  readonly code: FlagcastErrorCode;

  constructor(code: FlagcastErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** How long clients have to disconnect when the server closes, in milliseconds: within the 10 s of close(). */
const drainTimeoutMs = 5_000;

/**
 * Creates a Flagcast: call `ready()` to start it.
 *
 * Throws a FlagcastError `invalid_options` if an option is missing, malformed, or excludes another one.
 */
export function createFlagcast(options: FlagcastOptions): Flagcast {
  try {
    return compose(options);
  } catch (error) {
    throw new FlagcastError('invalid_options', describeError(error), { cause: error });
  }
}

/** The composition root: the only place that knows all parts. */
function compose(options: FlagcastOptions): Flagcast {
  checkOptions(options);
  checkBasePath(options.network?.basePath ?? '');
  const lifecycle = options.lifecycle ?? new Lifecycle();
  const sessions = new DatabaseSessions({
    database: databaseOf(options.database),
    listenUrl: options.database.listenUrl ?? null,
    connections: options.database.connections ?? defaultDatabaseConnections,
    queryTimeoutMs: options.timeouts?.queryTimeoutMs ?? 5_000,
    writes: options.writes ?? false,
    relay: options.relay !== undefined,
  });
  const delivery = createDelivery(options, { lifecycle, sessions });
  const access = createAccess(options, { lifecycle, sessions, broadcaster: delivery.broadcaster });
  const connections = createConnections(options, { lifecycle, delivery, access });
  const http = createHttp(options, { lifecycle, sessions, delivery, access, connections });
  const lifetime = createLifetime(options, { lifecycle, sessions, delivery, connections, http });
  const { gateway } = connections;
  return {
    lifecycle,
    requestListener: http.requestListener,
    handles: http.handles,
    middleware: (request, response, next) => {
      if (http.handles(request)) http.requestListener(request, response);
      else next();
    },
    createServer: () => {
      const server = createHttpServer(http.requestListener, {
        ...http.serverOptions,
        httpConnections: access.httpConnections,
      });
      gateway.attach(server);
      return server;
    },
    createMonitoringServer: () =>
      createHttpServer(http.monitoringListener, {
        ...http.serverOptions,
        // Counted separately, so that monitoring works while the connections of the other port are used up.
        httpConnections: new HttpConnections({ unauthenticated: 1_000 }),
      }),
    attach: (server) => gateway.attach(server),
    ...lifetime,
    [Symbol.asyncDispose]: lifetime.close,
  };
}

/** JavaScript may leave both out, and then pg would connect to a database on this machine. */
function databaseOf({ url = '', pool, listenUrl }: Partial<DatabaseOptions> = {}): Database {
  if (listenUrl !== undefined) checkUrl('database.listenUrl', listenUrl);
  if (pool === undefined && url === '') {
    throw new Error(
      'There is no database.url: give postgresql://user:password@host:5432/database (if it comes from the environment, is the variable set?), or a pg.Pool as database.pool',
    );
  }
  if (pool === undefined) {
    checkUrl('database.url', url);
    return { url };
  }
  if (url !== '') {
    throw new Error('database.url and database.pool exclude each other: leave one of them out');
  }
  // A pg.Client has no options.
  if (typeof pool.connect !== 'function' || typeof pool.options !== 'object') {
    throw new Error('database.pool is not a pg.Pool: give new pg.Pool({ … })');
  }
  return { pool: pool as pg.Pool };
}

function checkUrl(name: string, url: string): void {
  if (isPostgresUrl(url)) return;
  throw new Error(
    `${name} is not the URL of a PostgreSQL database: give postgresql://user:password@host:5432/database, with the special characters of the password percent-encoded`,
  );
}

interface LifetimeParts extends Base {
  readonly delivery: Delivery;
  readonly connections: Connections;
  readonly http: Http;
}

/** Starts and ends all parts, each at most once. */
function createLifetime(
  options: FlagcastOptions,
  { lifecycle, sessions, delivery, connections, http }: LifetimeParts,
): Pick<Flagcast, 'ready' | 'close'> {
  const { source, relay, freshness, broadcaster } = delivery;
  const { monitor } = connections;
  const retention = new LogRetention({
    openSession: sessions.open,
    queryTimeoutMs: sessions.queryTimeoutMs,
    keepMs: options.database.logRetentionMs ?? defaultLogRetentionMs,
    hasLog: () => source.source?.reason === 'event_log',
    lifecycle,
  });
  let hasStarted = false;
  let closing: Promise<void> | null = null;
  const closed = new AbortController();
  const ready = once(lifecycle, 'reader:started', { signal: closed.signal }).then(
    () => undefined,
    (cause: unknown) => {
      throw new FlagcastError('closed', 'Flagcast was closed before it was ready', { cause });
    },
  );
  // The rejection is handled: a host that does not await ready() continues.
  ready.catch(() => undefined);

  const start = (): void => {
    hasStarted = true;
    lifecycle.emit('socket-writer:chosen', {
      writer: delivery.socketWriter.name,
      reason: delivery.socketWriterReason,
    });
    http.eventLoopDelay.enable();
    source.start();
    relay?.start();
    monitor.start();
    freshness.start();
    retention.start();
  };
  const stop = async (): Promise<void> => {
    closed.abort();
    monitor.stop();
    freshness.stop();
    http.eventLoopDelay.disable();
    // A plain client has no cursor, so it cannot request these events later.
    broadcaster.finishDeliveries();
    // In parallel: a query in progress may take as long as the connections.
    const stopped = Promise.all([source.stop(), relay?.stop(), retention.stop()]);
    await Promise.all([connections.registry.drain(drainTimeoutMs), stopped, sessions.end(stopped)]);
  };
  return {
    // Not async: the caller gets the promise whose rejection is handled above.
    ready: () => {
      if (closing !== null && hasStarted) {
        return Promise.reject(new FlagcastError('closed', 'Flagcast was closed: create a new one'));
      }
      if (!hasStarted && closing === null) start();
      return ready;
    },
    close: async () => {
      freshness.drain();
      closing ??= stop();
      await closing;
    },
  };
}

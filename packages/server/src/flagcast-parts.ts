import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { getRequestListener } from '@hono/node-server';
import { TableAuthorization } from './auth/table-authorization.js';
import { CallbackAuthorization, functionSource, querySource } from './auth/callback-authorization.js';
import { createHostPolicy, createOriginPolicy } from './auth/origin-policy.js';
import { ConnectionLimits, HttpConnections } from './connections/connection-limits.js';
import { BurstThrottle } from './postgres/query-batcher.js';
import { createTokenVerifier } from './auth/token-verifier.js';
import { createTrustedProxies } from './auth/trusted-proxies.js';
import { Broadcaster } from './broadcast/broadcaster.js';
import type { Relay } from './broadcast/relay.js';
import type { V1Sources } from './connections/v1-session.js';
import { DatabaseSessions } from './postgres/database-sessions.js';
import { unavailable } from './http-problem.js';
import { RequestAuthorizer } from './auth/request-authorizer.js';
import { originalTarget, removeBasePath, withoutBasePath } from './auth/request-target.js';
import { openSocketWriter, type SocketWriter } from './transport/socket-writer.js';
import { Gateway } from './transport/web-socket-gateway.js';
import { ConnectionRegistry } from './connections/connection-registry.js';
import { Presence } from './connections/presence.js';
import { ConnectionMonitor, resolveTimeouts } from './connections/connection-monitor.js';
import type { AuthOptions, Flagcast, FlagcastOptions } from './flagcast-options.js';
import { MissedEventsSource } from './replay/missed-events.js';
import { SnapshotSource } from './replay/snapshot.js';
import { EventStreams } from './transport/event-stream.js';
import { type ConsoleFactory, createApp, createMonitoringApp, routeMatcher } from './api/app.js';
import { createMetrics, eventLoopResolutionMs } from './operations/metrics.js';
import { RequestSlots, ResponseMemory } from './api/request-limits.js';
import { createTokenSigner } from './auth/sign-token.js';
import { Lifecycle } from './lifecycle.js';
import { Freshness } from './reader/freshness.js';
import { type EventSource, guaranteeOf } from './reader/event-source.js';
import { defaultOverlapMs } from './reader/overlap.js';
import { EventReader } from './reader/reader.js';
import { ReadableLists } from './host/feature-lists.js';
import { createPlainDialect } from './connections/codecs/plain.js';

export interface Base {
  readonly lifecycle: Lifecycle;
  readonly sessions: DatabaseSessions;
}

export type Delivery = ReturnType<typeof createDelivery>;
type Access = ReturnType<typeof createAccess>;
export type Connections = ReturnType<typeof createConnections>;
export type Http = ReturnType<typeof createHttp>;

/** Event log -> reader -> broadcaster, with the relay. */
function createReading(options: FlagcastOptions, { lifecycle, sessions }: Base, cork: SocketWriter['cork']) {
  const { pollIntervalMs = 1_000, overlapMs = defaultOverlapMs } = options.database;
  const broadcaster = new Broadcaster({
    lifecycle,
    cork,
    replayBufferEvents: options.limits?.replayEvents,
    requestBatch: () => (relay ?? source).requestBatch(),
    onWatched: (channel, isWatched) => relay?.watch(channel, isWatched),
  });
  const source = new EventReader({
    openSession: sessions.open,
    openListenSession: sessions.openListening,
    view: options.database.view ?? null,
    overlapMs,
    pollIntervalMs,
    queryTimeoutMs: options.timeouts?.readTimeoutMs ?? 30_000,
    lifecycle,
    onBatch: (batch) => {
      broadcaster.broadcast(batch);
      relay?.delivered(batch);
    },
    onHistoryLost: () => {
      relay?.historyLost();
      broadcaster.forget();
    },
    hasRoom: () => broadcaster.hasRoom(),
  });
  const relay: Relay | null =
    options.relay?.({
      reader: source,
      lifecycle,
      openSession: async () =>
        await sessions.openListening({
          applicationName: 'flagcast relay',
          queryTimeoutMs: sessions.queryTimeoutMs,
        }),
    }) ?? null;
  const { readinessGraceMs, readinessLagMs = 30_000 } = options.timeouts ?? {};
  const freshness = new Freshness({
    lifecycle,
    staleAfterMs:
      readinessGraceMs === undefined
        ? Math.max(3 * pollIntervalMs, 5_000)
        : pollIntervalMs + readinessGraceMs,
    lagLimitMs: readinessLagMs,
    broadcaster,
    sessions,
  });
  return { broadcaster, source, relay, freshness, overlapMs };
}

/** What is read and broadcast, with missed events and snapshots. */
export function createDelivery(options: FlagcastOptions, base: Base) {
  const { lifecycle, sessions } = base;
  const { socketWriter, reason: socketWriterReason } = openSocketWriter(options.socketWriter, () =>
    lifecycle.emit('socket-writer:fallback', {}),
  );
  const cork = socketWriter.cork.bind(socketWriter);
  const reading = createReading(options, base, cork);
  const { broadcaster, source, relay } = reading;
  const knownSource = (): EventSource => {
    if (source.source === null) throw unavailable();
    return source.source;
  };
  const lists = new ReadableLists(() => source.requestPoll());
  return {
    ...reading,
    cork,
    socketWriter,
    socketWriterReason,
    knownSource,
    missedEvents: new MissedEventsSource({
      pool: sessions.requests,
      source: knownSource,
      broadcaster,
      willBeRead: source.willBeRead.bind(source),
      lists,
      relay,
    }),
    snapshots: new SnapshotSource({
      pool: sessions.requests,
      source: () => source.source,
      position: () => broadcaster.position,
      lists,
    }),
  };
}

/** JavaScript may leave it out. */
function authOf({ auth = {} }: Partial<FlagcastOptions>): AuthOptions {
  return auth;
}

/** Throws an Error if an option is set that only the console uses, and there is no console. */
function refuseOptionsOfConsole({ console, writes, timeouts }: FlagcastOptions): void {
  if (console !== undefined) return;
  const isSet = { writes: writes === true, 'timeouts.tokenTtlMs': timeouts?.tokenTtlMs !== undefined };
  for (const [name, value] of Object.entries(isSet)) {
    if (!value) continue;
    throw new Error(
      `${name} needs the console: set console to flagcastConsole() of @flagcast/console, or leave ${name} out`,
    );
  }
}

/** Who may connect: tokens, rights, origins, proxies, limits. */
export function createAccess(
  options: FlagcastOptions,
  { lifecycle, sessions, broadcaster }: Base & { readonly broadcaster: Broadcaster },
) {
  const { authenticate, authorize, authorizeSql, allowQueryToken = false, ...token } = authOf(options);
  const tokenOptions = token.secret === undefined && token.jwksUrl === undefined ? null : token;
  if (tokenOptions === null && authenticate === undefined) {
    throw new Error('No authentication: set auth.secret, auth.jwksUrl or auth.authenticate');
  }
  if (authorize !== undefined && authorizeSql !== undefined) {
    throw new Error('auth.authorize and auth.authorizeSql exclude each other: set one of them');
  }
  const callback =
    authorize !== undefined
      ? functionSource(authorize)
      : authorizeSql !== undefined
        ? querySource(sessions.authorization, authorizeSql)
        : null;
  if (callback !== null && options.writes === true) {
    throw new Error(
      "writes needs the users and roles of Togglr's tables: it excludes auth.authorize and auth.authorizeSql",
    );
  }
  refuseOptionsOfConsole(options);
  const authorization =
    callback === null
      ? new TableAuthorization(sessions.authorization)
      : new CallbackAuthorization(callback, lifecycle);

  const { allowedOrigins = [], allowedHosts = null, trustedProxies = [] } = options.network ?? {};
  const proxies = createTrustedProxies(trustedProxies);
  const httpConnections = new HttpConnections({
    unauthenticated: options.limits?.unauthenticatedConnections,
    perAddress: options.limits?.connectionsPerAddress,
  });
  const authorizerOptions = {
    verifier:
      tokenOptions === null
        ? null
        : createTokenVerifier({ ...tokenOptions, externalUsers: callback !== null }),
    authenticate: authenticate ?? null,
    authorization,
    originPolicy: createOriginPolicy(allowedOrigins, proxies.scheme),
    hostPolicy: createHostPolicy(allowedHosts),
    onAuthenticated: ({ socket }: IncomingMessage) => httpConnections.authenticated(socket),
    allowQueryToken,
    channelChanges: () => broadcaster.channelChanges,
    rightsChanges: () => broadcaster.rightsChanges,
  };
  // Monitoring uses the addresses of machines, which DNS rebinding cannot make a browser send as a host.
  const monitoringHosts = allowedHosts === null ? null : [...allowedHosts, '0.0.0.0', 'localhost'];
  return {
    authorization,
    /** With the tables of a host, a user may have the same name as another user of Togglr's tables. */
    signInAuth: callback === null && tokenOptions?.secret !== undefined ? tokenOptions : null,
    maxTokenAgeMs: tokenOptions?.maxTokenAgeMs,
    proxies,
    clientAddress: proxies.clientAddress,
    httpConnections,
    originPolicy: authorizerOptions.originPolicy,
    authorizer: new RequestAuthorizer(authorizerOptions),
    throttledAuthorizer: new RequestAuthorizer({
      ...authorizerOptions,
      throttle: new BurstThrottle(),
    }),
    monitoringAuthorizer: new RequestAuthorizer({
      ...authorizerOptions,
      hostPolicy: createHostPolicy(monitoringHosts),
    }),
    limits: new ConnectionLimits({
      perUser: options.limits?.connectionsPerUser,
      perAddress: options.limits?.connectionsPerAddress,
    }),
  };
}

/** WebSockets and event streams, their sessions, and what looks after them. */
export function createConnections(
  options: FlagcastOptions,
  { lifecycle, delivery, access }: { lifecycle: Lifecycle; delivery: Delivery; access: Access },
) {
  const { broadcaster, missedEvents, freshness, cork, relay } = delivery;
  const { throttledAuthorizer, limits, clientAddress, httpConnections, authorization } = access;
  const { handshakeTimeoutMs = 10_000, refusedCloseTimeoutMs = 2_000 } = options.timeouts ?? {};
  const timeouts = resolveTimeouts(options.timeouts);
  const server = randomUUID();
  const registry = new ConnectionRegistry(lifecycle);
  const presence =
    options.presence === false
      ? null
      : new Presence({
          cork,
          isBusy: () => broadcaster.lagMs > 0,
          openTopic: relay && relay.openTopic.bind(relay),
          onIgnored: (error) => lifecycle.emit('presence:message-ignored', { error }),
        });
  const sources: V1Sources = {
    authorizer: throttledAuthorizer,
    broadcaster,
    missedEvents,
    lifecycle,
    presence,
    stale: () => freshness.staleMessage,
    hello: ({ user, expiresAtMs }) => ({
      server,
      user_id: user.id,
      username: user.username,
      token_expires_at: new Date(expiresAtMs).toISOString(),
      heartbeat_interval_ms: timeouts.heartbeatIntervalMs,
      ...guaranteeOf(delivery.knownSource(), delivery.overlapMs),
      embedded_state: delivery.knownSource().hasState,
      presence: presence !== null,
    }),
  };
  const shared = { sources, limits, httpConnections, registry, clientAddress };
  return {
    server,
    registry,
    presence,
    gateway: new Gateway({
      ...shared,
      basePath: options.network?.basePath ?? '',
      plainDialect: createPlainDialect(options.eventTypes ?? 'spec'),
      handshakeTimeoutMs,
      refusedCloseTimeoutMs,
      socketWriter: delivery.socketWriter,
    }),
    eventStreams: new EventStreams(shared),
    monitor: new ConnectionMonitor({
      registry,
      cork,
      authorization,
      freshness,
      lifecycle,
      position: () => broadcaster.position,
      ...timeouts,
    }),
  };
}

interface HttpParts extends Base {
  readonly delivery: Delivery;
  readonly access: Access;
  readonly connections: Connections;
}

/** Snapshots, projects, the console, metrics and readiness. */
export function createHttp(options: FlagcastOptions, parts: HttpParts) {
  const { lifecycle, sessions, delivery, access, connections } = parts;
  const { broadcaster, freshness, source } = delivery;
  const { clientAddress, httpConnections, signInAuth, maxTokenAgeMs } = access;
  const {
    tokenTtlMs = 10_800_000,
    requestHeadersTimeoutMs = 10_000,
    idleTimeoutMs = 30_000,
  } = options.timeouts ?? {};
  const eventLoopDelay = monitorEventLoopDelay({ resolution: eventLoopResolutionMs });
  const monitoring = {
    lifecycle,
    metrics: createMetrics(
      lifecycle,
      {
        freshness,
        connections: connections.registry,
        presence: connections.presence,
        httpConnections,
        broadcaster,
        reader: source,
        sessionPools: sessions.pools,
        eventLoopDelay,
      },
      options.metricsRegistry,
    ),
    notReady: () => freshness.notReady(),
  };
  const app = createApp({
    ...monitoring,
    authorizer: access.authorizer,
    originPolicy: access.originPolicy,
    authorization: access.authorization,
    sessions,
    tokens: signInAuth && createTokenSigner(signInAuth, Math.min(tokenTtlMs, maxTokenAgeMs ?? tokenTtlMs)),
    clientAddress,
    writes: options.writes ?? false,
    server: connections.server,
    guarantee: () => source.source && guaranteeOf(source.source, delivery.overlapMs),
    snapshots: delivery.snapshots,
    requestSlots: new RequestSlots(),
    responseMemory: new ResponseMemory({ maxBytes: options.limits?.responseBytes ?? 67_108_864 }),
    eventStreams: connections.eventStreams,
    separateMonitoring: options.separateMonitoring ?? false,
    createConsole: (options.console as ConsoleFactory | undefined) ?? null,
  });
  const monitoringApp = createMonitoringApp({ ...monitoring, authorizer: access.monitoringAuthorizer });
  const { basePath = '' } = options.network ?? {};
  const listener = listenerOf(app.fetch);
  const isRoute = routeMatcher(app);
  return {
    requestListener: ((request, response) => {
      if (!removeBasePath(request, response, basePath)) listener(request, response);
    }) satisfies Flagcast['requestListener'],
    monitoringListener: listenerOf(monitoringApp.fetch),
    handles: ((request) => {
      const url = withoutBasePath(originalTarget(request), basePath);
      return url !== null && isRoute({ url });
    }) satisfies Flagcast['handles'],
    serverOptions: { proxies: access.proxies, lifecycle, requestHeadersTimeoutMs, idleTimeoutMs },
    eventLoopDelay,
  };
}

function listenerOf(fetch: Parameters<typeof getRequestListener>[0]): Flagcast['requestListener'] {
  const listen = getRequestListener(fetch);
  return (request, response) => {
    // A pipelined request begins after the responses before it. Until then its response has no socket and does not emit
    // `close` when the connection ends, so what waits for that would never be released.
    if (response.socket === null) response.once('socket', () => void listen(request, response));
    else void listen(request, response);
  };
}

import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { FreshnessMessage } from '@flagcast/protocol';
import { getRequestListener } from '@hono/node-server';
import { TableAuthorization, type Channel } from './auth/table-authorization.js';
import type { Authorization } from './auth/authorization.js';
import { queriedChannels } from './auth/authorize-query.js';
import { CallbackAuthorization, hostChannels } from './auth/callback-authorization.js';
import { createHostPolicy } from './auth/host-allowlist.js';
import { createConnectionLimits } from './connections/connection-limits.js';
import { createOriginPolicy } from './auth/origin-policy.js';
import { ThrottledAuthorization } from './auth/throttled-authorization.js';
import { createTokenVerifier } from './auth/token-verifier.js';
import { createTrustedProxies } from './auth/trusted-proxies.js';
import { Broadcaster } from './broadcast/broadcaster.js';
import type { Relay } from './broadcast/relay.js';
import type { Connection } from './connections/connection.js';
import { Session, type SessionWire } from './connections/session.js';
import { DatabaseSessions } from './postgres/database-sessions.js';
import { defaultDatabaseConnections } from './postgres/session-budget.js';
import type { SessionSource } from './postgres/session-pool.js';
import { unavailable } from './http-problem.js';
import { RequestAuthorizer, type Principal } from './auth/request-authorizer.js';
import { openSocketWriter } from './transport/socket-writer.js';
import { Gateway } from './transport/web-socket-gateway.js';
import { createHttpServer } from './transport/http-server.js';
import { ConnectionRegistry } from './connections/connection-registry.js';
import { defaultHeartbeatIntervalMs, ConnectionMonitor } from './connections/connection-monitor.js';
import { UnauthenticatedConnections } from './transport/unauthenticated-connections.js';
import type { Flagcast, FlagcastOptions } from './flagcast-options.js';
import { MissedEventsSource } from './replay/missed-events.js';
import { SnapshotSource } from './replay/snapshot.js';
import { AnswerMemory } from './api/answer-memory.js';
import { EventStreams } from './transport/event-stream.js';
import { createApp, createMonitoringApp } from './api/app.js';
import { builtConsoleDir } from './api/console-files.js';
import { createMetrics, eventLoopResolutionMs } from './operations/metrics.js';
import { ownPathTest } from './api/own-paths.js';
import { RequestSlots } from './api/request-slots.js';
import { SignIn } from './auth/sign-in.js';
import { DecisionPassword } from './api/decision-password.js';
import { SignInAttempts } from './auth/sign-in-attempts.js';
import { Lifecycle } from './lifecycle.js';
import { Freshness } from './reader/freshness.js';
import { LogRetention } from './operations/log-retention.js';
import { BatchSource } from './reader/batch-source.js';
import { type EventSource, guaranteeOf } from './reader/event-source.js';
import { createPlainDialect } from './connections/codecs/plain.js';

/** What a peer may have waiting before it is paused, in bytes; more than a socket buffers before it tells that it has drained. */
const highWaterBytes = 1_048_576;
/** How long peers get to leave when the server closes, in milliseconds: within the 10 s that close() takes. */
const drainTimeoutMs = 5_000;

/**
 * Puts the parts together: the only place that knows all of them.
 *
 * Throws an Error that says what to mend where options are missing, wrong or exclude each other.
 */
export function createFlagcast(options: FlagcastOptions): Flagcast {
  const lifecycle = options.lifecycle ?? new Lifecycle();
  const { databaseUrl, pollIntervalMs = 1_000, overlapMs = 60_000 } = options;
  const {
    readinessGraceMs = null,
    readinessLagMs = 30_000,
    handshakeTimeoutMs = 10_000,
    requestHeadersTimeoutMs = 10_000,
    idleTimeoutMs = 30_000,
    refusedCloseTimeoutMs = 2_000,
    tokenTtlMs = 10_800_000,
    answerStallTimeoutMs = 30_000,
    queryTimeoutMs = 5_000,
    readTimeoutMs = 30_000,
    ...connectionTimeouts
  } = options.timing ?? {};

  const { relay: createRelay = null, writes = false } = options;
  const sessions = new DatabaseSessions({
    databaseUrl,
    connections: options.databaseConnections ?? defaultDatabaseConnections,
    queryTimeoutMs,
    writes,
    relay: createRelay !== null,
  });

  const { auth, authenticate = null } = options;
  if (auth === undefined && authenticate === null) {
    throw new Error('Nothing says how to know who connects: give createFlagcast auth, authenticate or both');
  }
  const authorization = authorizationOf(options, sessions.authorization, lifecycle);
  const ownTables = authorization instanceof TableAuthorization;
  if (!ownTables && writes) {
    throw new Error("writes need the users and roles of Togglr's tables: leave writes away beside authorize");
  }
  const { socketWriter, reason } = openSocketWriter(options.socketWriter, () =>
    lifecycle.emit('socket-writer:fallback', {}),
  );
  const cork = socketWriter.cork.bind(socketWriter);
  const broadcaster = new Broadcaster({
    lifecycle,
    cork,
    replayBufferEvents: options.replayBufferEvents,
    requestBatch: () => (relay ?? source).requestBatch(),
    onWatched: (channel, isWatched) => relay?.watch(channel, isWatched),
  });
  const source = new BatchSource({
    databaseUrl,
    listenUrl: options.listenUrl ?? databaseUrl,
    view: options.view ?? null,
    overlapMs,
    pollIntervalMs,
    queryTimeoutMs: readTimeoutMs,
    slots: sessions.reader,
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
  const listenUrl = options.listenUrl ?? databaseUrl;
  const relay: Relay | null =
    createRelay?.({
      reader: source,
      lifecycle,
      openSession: async () =>
        await sessions.reader.open({
          databaseUrl: listenUrl,
          applicationName: 'flagcast relay',
          queryTimeoutMs,
        }),
    }) ?? null;
  const proxies = createTrustedProxies(options.trustedProxies ?? []);
  const { clientAddress } = proxies;
  const unauthenticated = new UnauthenticatedConnections({
    total: options.maxUnauthenticatedConnections,
    perAddress: options.maxConnectionsPerAddress,
  });
  const allowedHosts = options.allowedHosts ?? null;
  const authorizerOptions = {
    verifier: auth === undefined ? null : createTokenVerifier({ ...auth, opaqueUsers: !ownTables }),
    authenticate,
    authorization,
    originPolicy: createOriginPolicy(options.allowedOrigins ?? [], proxies.scheme),
    hostPolicy: createHostPolicy(allowedHosts),
    onAuthenticated: ({ socket }: IncomingMessage) => unauthenticated.release(socket),
    allowQueryToken: options.allowQueryToken ?? false,
    channelChanges: () => broadcaster.channelChanges,
  };
  if (authorization instanceof TableAuthorization)
    lifecycle.on('channels:changed', () => authorization.forgetChannels());
  const authorizer = new RequestAuthorizer(authorizerOptions);
  const throttledAuthorizer = new RequestAuthorizer({
    ...authorizerOptions,
    authorization: new ThrottledAuthorization(authorization),
  });
  const limits = createConnectionLimits({
    perUser: options.maxConnectionsPerUser,
    perAddress: options.maxConnectionsPerAddress,
  });
  const peers = new ConnectionRegistry(lifecycle);
  const knownSource = (): EventSource => {
    if (source.source === null) throw unavailable();
    return source.source;
  };
  const freshness = new Freshness({
    lifecycle,
    staleAfterMs:
      readinessGraceMs === null ? Math.max(3 * pollIntervalMs, 5_000) : pollIntervalMs + readinessGraceMs,
    lagLimitMs: readinessLagMs,
    broadcaster,
  });
  const missedEvents = new MissedEventsSource({
    pool: sessions.requests,
    source: () => knownSource(),
    progress: () => ({ sequence: broadcaster.sequence, position: broadcaster.position }),
    elsewhere: async (channel, position) => (await relay?.missedSince(channel, position)) ?? null,
  });
  const snapshots = new SnapshotSource({
    pool: sessions.requests,
    source: () => source.source,
    position: () => broadcaster.position,
  });
  const server = randomUUID();
  const willBeRead = source.willBeRead.bind(source);
  const stale = (): FreshnessMessage | null => freshness.staleMessage;
  const sources = { broadcaster, missedEvents, lifecycle, willBeRead, stale };
  const openSession = (
    peer: Connection,
    wire: SessionWire,
    principal: Principal,
    opened?: Channel,
  ): Session =>
    new Session(sources, {
      peer,
      wire,
      openChannel: async (wanted) => opened ?? (await throttledAuthorizer.openChannel(principal, wanted)),
      hello: {
        server,
        user_id: principal.user.id,
        username: principal.user.username,
        token_expires_at: new Date(principal.expiresAtMs).toISOString(),
        heartbeat_interval_ms: connectionTimeouts.heartbeatIntervalMs ?? defaultHeartbeatIntervalMs,
        ...guaranteeOf(knownSource(), overlapMs),
        embedded_state: knownSource().hasState,
      },
    });
  const gateway = new Gateway({
    authorizer: throttledAuthorizer,
    limits,
    peers,
    broadcaster,
    lifecycle,
    plainDialect: createPlainDialect(options.eventTypes ?? 'spec'),
    clientAddress,
    unauthenticated,
    openSession,
    handshakeTimeoutMs,
    refusedCloseTimeoutMs,
    highWaterBytes,
    socketWriter,
  });
  const eventStreams = new EventStreams({
    authorizer: throttledAuthorizer,
    limits,
    peers,
    lifecycle,
    clientAddress,
    openSession,
    highWaterBytes,
  });
  const eventLoopDelay = monitorEventLoopDelay({ resolution: eventLoopResolutionMs });
  const retention = new LogRetention({
    openSession: async () =>
      await sessions.reader.open({ databaseUrl, applicationName: 'flagcast retention', queryTimeoutMs }),
    keepMs: options.logRetentionMs ?? 604_800_000,
    hasLog: () => source.source?.reason === 'event_log',
    lifecycle,
  });
  const sweeper = new ConnectionMonitor({
    peers,
    cork,
    authorization,
    freshness,
    lifecycle,
    position: () => broadcaster.position,
    ...connectionTimeouts,
  });

  let closing: Promise<void> | null = null;
  const attempts = new SignInAttempts();
  const signIn = new SignIn({
    pool: sessions.authorization,
    writePool: writes ? sessions.writes : null,
    // Elsewhere than in Togglr's tables a user may be called what another one is called there.
    auth: ownTables && auth?.secret !== undefined ? auth : null,
    attempts,
    tokenTtlMs: Math.min(tokenTtlMs, auth?.maxTokenAgeMs ?? tokenTtlMs),
  });
  const monitoring = {
    lifecycle,
    metrics: createMetrics(
      lifecycle,
      {
        freshness,
        peers,
        unauthenticated,
        broadcaster,
        reader: source,
        slots: sessions.slots,
        eventLoopDelay,
      },
      options.metricsRegistry,
    ),
    notReady: () => freshness.notReady(),
  };
  const app = createApp({
    ...monitoring,
    authorizer,
    originPolicy: authorizerOptions.originPolicy,
    authorization,
    sessions,
    signIn,
    decisionPassword: new DecisionPassword(sessions.authorization, attempts),
    clientAddress,
    writes,
    demoPeople: options.demoPeople ?? [],
    server,
    guarantee: () => source.source && guaranteeOf(source.source, overlapMs),
    snapshots,
    requestSlots: new RequestSlots(),
    answerMemory: new AnswerMemory({
      maxBytes: options.answerMemoryBytes ?? 67_108_864,
      stallTimeoutMs: answerStallTimeoutMs,
    }),
    eventStreams,
    separateMonitoring: options.separateMonitoring ?? false,
    consoleDir: options.consoleDir === undefined ? builtConsoleDir : options.consoleDir,
  });
  // Monitoring comes by the addresses of machines, which no DNS rebinding can make a browser send as a host.
  const monitoringHosts = allowedHosts === null ? null : [...allowedHosts, '0.0.0.0', 'localhost'];
  const monitoringApp = createMonitoringApp({
    ...monitoring,
    authorizer: new RequestAuthorizer({
      ...authorizerOptions,
      hostPolicy: createHostPolicy(monitoringHosts),
    }),
  });

  const requestListener = listenerOf(app.fetch);
  const httpServerOptions = { proxies, lifecycle, requestHeadersTimeoutMs, idleTimeoutMs };
  const handles = ownPathTest(app);
  return {
    lifecycle,
    requestListener,
    handles,
    middleware: (request, response, next) => {
      if (handles(request)) requestListener(request, response);
      else next();
    },
    createServer: () => {
      const server = createHttpServer(requestListener, { ...httpServerOptions, unauthenticated });
      gateway.attach(server);
      return server;
    },
    createMonitoringServer: () =>
      createHttpServer(listenerOf(monitoringApp.fetch), {
        ...httpServerOptions,
        // Counted apart: monitoring goes on while strangers use up the connections of the other port.
        unauthenticated: new UnauthenticatedConnections({ total: 1_000 }),
      }),
    attach: (server) => gateway.attach(server),
    start: () => {
      lifecycle.emit('socket-writer:chosen', { writer: socketWriter.name, reason });
      eventLoopDelay.enable();
      source.start();
      relay?.start();
      sweeper.start();
      freshness.start();
      retention.start();
    },
    close: async () => {
      freshness.drain();
      closing ??= (async () => {
        sweeper.stop();
        freshness.stop();
        eventLoopDelay.disable();
        // Who speaks the plain dialect cannot ask for it later.
        broadcaster.finishDeliveries();
        // All at once: a look-up that is under way may take as long as the peers.
        const stopped = Promise.all([source.stop(), relay?.stop(), retention.stop()]);
        await Promise.all([peers.drain(drainTimeoutMs), stopped, sessions.end(stopped)]);
      })();
      await closing;
    },
  };
}

function listenerOf(fetch: Parameters<typeof getRequestListener>[0]): Flagcast['requestListener'] {
  const listen = getRequestListener(fetch);
  return (request, response) => {
    // A pipelined request begins when the answers before it have ended. Before, its response has no socket, and would
    // not emit `close` if the connection ended: what waits for that would be held for ever.
    if (response.socket === null) response.once('socket', () => void listen(request, response));
    else void listen(request, response);
  };
}

function authorizationOf(
  { authorize, authorizeSql = null }: FlagcastOptions,
  pool: SessionSource,
  lifecycle: Lifecycle,
): Authorization {
  if (authorize !== undefined && authorizeSql !== null) {
    throw new Error('authorize and authorizeSql are both given: leave one of them away');
  }
  if (authorize !== undefined) return new CallbackAuthorization(hostChannels(authorize), lifecycle);
  if (authorizeSql !== null) return new CallbackAuthorization(queriedChannels(pool, authorizeSql), lifecycle);
  return new TableAuthorization(pool);
}

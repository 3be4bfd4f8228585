import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import pg from 'pg';
import { Access } from './access/access.js';
import { createConnectionLimits } from './access/limits.js';
import { createOriginPolicy } from './access/origin.js';
import { createTokenVerifier } from './access/token.js';
import { Broadcaster } from './broadcast/broadcaster.js';
import type { Peer } from './connection/peer.js';
import { Session, type SessionWire } from './connection/session.js';
import { discardSession } from './database/session.js';
import { Door, RefusedError, unavailable, type Visitor } from './door/door.js';
import { Gateway } from './door/gateway.js';
import { Peers } from './door/peers.js';
import { defaultHeartbeatIntervalMs, Sweeper, type SweepTiming } from './door/sweeper.js';
import { MissedEventsSource } from './history/missed.js';
import { SnapshotSource } from './history/snapshot.js';
import { EventStreams } from './http/event-stream.js';
import { createApp } from './http/app.js';
import { builtConsoleDir } from './http/console-files.js';
import { createMetrics } from './http/metrics.js';
import type { DemoPerson } from './http/rest.js';
import { SignIn } from './http/sign-in.js';
import { SignInAttempts } from './http/sign-in-attempts.js';
import { Lifecycle } from './lifecycle.js';
import { type EventView, guaranteeOf } from './reader/event-view.js';
import { WakeListener } from './reader/listener.js';
import { EventReader } from './reader/reader.js';
import { RepeatedHint } from './reader/repeated-hint.js';

export interface FlagcastOptions {
  /** `postgresql://user:password@host:port/database`, with the schema `flagcast` installed. */
  databaseUrl: string;
  /**
   * Only for LISTEN, where `databaseUrl` leads through a pooler that pools by transaction or to a replica:
   * `postgresql://...` straight to the primary. Default: `databaseUrl`.
   */
  listenUrl?: string | null;
  /** How tokens are checked: one shared secret (HS256, at least 32 bytes) or the keys at a JWKS URL. */
  auth: { secret: string } | { jwksUrl: string };
  /** How often the database is read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /** The view of events, as it is written in SQL. Default: `flagcast.v_realtime_events`, or what there is in its place. */
  view?: string | undefined;
  /** How long after its created_at an event may be committed where the view tells no transaction ids, in milliseconds. Default 60,000. */
  overlapMs?: number;
  /** Origins whose pages may connect, beside the server's own, e.g. `https://console.example.com`; `*` for all. Default none. */
  allowedOrigins?: readonly string[];
  /** Whether a token in the query string is accepted. Default false: it ends up in logs. */
  allowQueryToken?: boolean;
  /** Connections that one user may have open. Default 100. */
  maxConnectionsPerUser?: number;
  /** Connections that one address may have open. Default 1,000. */
  maxConnectionsPerAddress?: number;
  /** Whether features can be changed and requests decided on over HTTP. Default false: then the owner of the database does it. */
  writes?: boolean;
  /** Whom the sign-in page offers with one click, passwords included: only ever for a demo. Default nobody. */
  demoPeople?: readonly DemoPerson[];
  /** The folder of the built console, which is served at `/`; null serves none. Default: the one that comes with this package. */
  consoleDir?: string | null;
  /** How many recent events are kept in memory for clients that come back. Default 10,000. */
  ringEvents?: number;
  /** How often things are looked after, and how long they may take. The defaults suit all but tests. */
  timing?: FlagcastTiming;
  /** Tells what happens; one is made when none is given. */
  lifecycle?: Lifecycle;
}

export interface FlagcastTiming extends SweepTiming {
  /** How long a token lasts that POST /api/auth/login gives, in milliseconds. Default 10,800,000 (3 h). */
  tokenTtlMs?: number;
  /** How long a WebSocket handshake may take before it is answered with 503, in milliseconds. Default 10,000. */
  handshakeTimeoutMs?: number;
  /** When a read is overdue by this long `/readyz` answers 503, in milliseconds. Default 15,000. */
  readinessGraceMs?: number;
}

export interface Flagcast {
  readonly lifecycle: Lifecycle;
  /** Answers HTTP requests: the console's pages, /healthz, /readyz, /metrics, and what /api/openapi.json describes. */
  readonly requestListener: (request: IncomingMessage, response: ServerResponse) => void;
  /** Answers WebSocket upgrades on /api/ws of this server; other paths are left alone. */
  attach(server: Server): void;
  /** Begins to read. A database that does not answer is waited for; `reader:started` tells when events flow. */
  start(): void;
  /** Refuses newcomers, asks the connected to reconnect elsewhere, and ends within 10 s. */
  close(): Promise<void>;
}

/** What a peer may have waiting before it is paused, in bytes; more than a socket buffers before it tells that it has drained. */
const highWaterBytes = 1_048_576;
/** Connections to the database for look-ups of users and channels. */
const poolSize = 5;
/** Connections for writes: whoever waits for a lock holds up no look-up. */
const writePoolSize = 4;
/** How long such a look-up may take, in milliseconds. */
const lookUpTimeoutMs = 5_000;
/** How long peers get to leave when the server closes, in milliseconds: within the 10 s that close() takes. */
const drainTimeoutMs = 5_000;

/** Puts the parts together: the only place that knows all of them. */
export function createFlagcast(options: FlagcastOptions): Flagcast {
  const lifecycle = options.lifecycle ?? new Lifecycle();
  const { databaseUrl, pollIntervalMs = 1_000, overlapMs = 60_000 } = options;
  const {
    readinessGraceMs = 15_000,
    handshakeTimeoutMs = 10_000,
    tokenTtlMs = 10_800_000,
    ...sweepTiming
  } = options.timing ?? {};

  const pooledClients = new Set<pg.Client>();
  const openPool = (applicationName: string, max: number): pg.Pool => {
    const opened = new pg.Pool({
      connectionString: databaseUrl,
      application_name: applicationName,
      max,
      connectionTimeoutMillis: lookUpTimeoutMs,
      query_timeout: lookUpTimeoutMs,
      keepAlive: true,
    });
    // An idle connection that is lost is replaced at the next look-up.
    opened.on('error', () => undefined);
    opened.on('connect', (client) => {
      if (client instanceof pg.Client) pooledClients.add(client);
    });
    opened.on('remove', (client) => pooledClients.delete(client as pg.Client));
    return opened;
  };
  const pool = openPool('flagcast access', poolSize);
  const writePool = openPool('flagcast changes', writePoolSize);

  const access = new Access(pool);
  const broadcaster = new Broadcaster({
    lifecycle,
    ringEvents: options.ringEvents,
    requestBatch: () => reader.wake(),
  });
  const reader = new EventReader({
    databaseUrl,
    view: options.view ?? null,
    overlapMs,
    lifecycle,
    onBatch: (batch) => broadcaster.broadcast(batch),
    onHistoryLost: () => broadcaster.forget(),
    pollIntervalMs,
  });
  const hints = new RepeatedHint({ wake: () => reader.wake(), readsReplica: () => reader.readsReplica });
  const listener = new WakeListener({
    databaseUrl: options.listenUrl ?? databaseUrl,
    lifecycle,
    onWake: () => hints.hint(),
  });
  const door = new Door({
    verifier: createTokenVerifier(options.auth),
    access,
    originPolicy: createOriginPolicy(options.allowedOrigins ?? []),
    allowQueryToken: options.allowQueryToken ?? false,
  });
  const limits = createConnectionLimits({
    perUser: options.maxConnectionsPerUser,
    perAddress: options.maxConnectionsPerAddress,
  });
  const peers = new Peers(lifecycle);
  const knownView = (): EventView => {
    if (reader.view === null) throw new RefusedError(unavailable);
    return reader.view;
  };
  const missedEvents = new MissedEventsSource({
    pool,
    view: () => knownView(),
    progress: () => ({ sequence: broadcaster.sequence, position: broadcaster.position }),
  });
  const snapshots = new SnapshotSource({
    pool,
    view: () => reader.view,
    position: () => broadcaster.position,
  });
  const server = randomUUID();
  const openSession = (peer: Peer, wire: SessionWire, visitor: Visitor): Session =>
    new Session({
      peer,
      wire,
      broadcaster,
      missedEvents,
      lifecycle,
      highWaterBytes,
      isYetToCome: (event) => reader.isYetToCome(event),
      openChannel: async (wanted) => await door.openChannel(visitor, wanted),
      hello: {
        server,
        user_id: visitor.user.id,
        username: visitor.user.username,
        token_expires_at: new Date(visitor.expiresAtMs).toISOString(),
        heartbeat_interval_ms: sweepTiming.heartbeatIntervalMs ?? defaultHeartbeatIntervalMs,
        ...guaranteeOf(knownView(), overlapMs),
        embedded_state: knownView().hasState,
      },
    });
  const gateway = new Gateway({
    door,
    limits,
    peers,
    broadcaster,
    lifecycle,
    openSession,
    handshakeTimeoutMs,
    highWaterBytes,
  });
  const eventStreams = new EventStreams({ door, limits, peers, lifecycle, openSession });
  const sweeper = new Sweeper({
    peers,
    access,
    lifecycle,
    position: () => broadcaster.position,
    ...sweepTiming,
  });

  let lastReadAtMs: number | null = null;
  let closing: Promise<void> | null = null;
  lifecycle.on('reader:started', () => (lastReadAtMs = Date.now()));
  lifecycle.on('reader:read', () => (lastReadAtMs = Date.now()));
  const signIn = new SignIn({
    pool,
    secret: 'secret' in options.auth ? options.auth.secret : null,
    attempts: new SignInAttempts(),
    tokenTtlMs,
  });
  const app = createApp({
    door,
    access,
    pool,
    writePool,
    signIn,
    writes: options.writes ?? false,
    demoPeople: options.demoPeople ?? [],
    server,
    guarantee: () => reader.view && guaranteeOf(reader.view, overlapMs),
    snapshots,
    eventStreams,
    lifecycle,
    metrics: createMetrics(lifecycle, {
      openConnections: () => peers.open.size,
      rememberedEvents: () => reader.rememberedEvents,
    }),
    consoleDir: options.consoleDir === undefined ? builtConsoleDir : options.consoleDir,
    notReady: () => {
      if (closing !== null) return 'draining';
      if (lastReadAtMs === null) return 'the database has not been read yet';
      if (Date.now() - lastReadAtMs > pollIntervalMs + readinessGraceMs)
        return 'the database does not answer';
      return null;
    },
  });

  const listen = getRequestListener(app.fetch);
  return {
    lifecycle,
    requestListener: (request, response) => void listen(request, response),
    attach: (server) => gateway.attach(server),
    start: () => {
      reader.start();
      listener.start();
      sweeper.start();
    },
    close: async () => {
      closing ??= (async () => {
        sweeper.stop();
        hints.stop();
        // All at once: a look-up that is under way may take as long as the peers.
        await Promise.all([
          peers.drain(drainTimeoutMs),
          listener.stop(),
          reader.stop(),
          pool.end(),
          writePool.end(),
        ]);
        // The pools have said goodbye; a database that does not answer would keep the process alive.
        for (const client of pooledClients) discardSession(client);
      })();
      await closing;
    },
  };
}

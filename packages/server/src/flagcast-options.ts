import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import type { Authenticate, Authorize } from './auth/host-callbacks.js';
import type { TokenOptions } from './auth/token-verifier.js';
import type { ConnectionTimeouts } from './connections/connection-monitor.js';
import type { CreateRelay } from './broadcast/relay.js';
import type { Lifecycle } from './lifecycle.js';
import type { EventTypes } from './connections/codecs/plain.js';
import type { SocketWriterFactory } from './transport/socket-writer.js';

/** The options of `createFlagcast`. A property that is absent or `undefined` has its default. */
export interface FlagcastOptions {
  readonly database: DatabaseOptions;
  readonly auth: AuthOptions;
  readonly network?: NetworkOptions | undefined;
  readonly limits?: LimitOptions | undefined;
  readonly timeouts?: TimeoutOptions | undefined;
  /**
   * Serves the console at `/`, with the REST API for sign-in, features, approvals and history: `flagcastConsole()` of
   * `@flagcast/console`. Default: none of them, so the server only reads.
   */
  readonly console?: CreateConsole | undefined;
  /**
   * Enables changes of features and decisions on requests with the `console`. Default false. Needs the users and roles
   * of Togglr's tables, so it excludes `auth.authorize` and `auth.authorizeSql`.
   */
  readonly writes?: boolean | undefined;
  /** Whether users see who else has the same feature or request open. Default true. */
  readonly presence?: boolean | undefined;
  /** The names of events that plain clients receive: the specification's or Togglr's. Default `spec`. */
  readonly eventTypes?: EventTypes | undefined;
  /** Leaves /metrics, /healthz and /readyz to `createMonitoringServer`. Default false. */
  readonly separateMonitoring?: boolean | undefined;
  /** The prom-client registry of the metrics, which /metrics returns. Default: a new one. */
  readonly metricsRegistry?: Registry | undefined;
  /** Emits what happens in the server. Default: a new one. */
  readonly lifecycle?: Lifecycle | undefined;
  /**
   * Lets several servers of one database share one reader: `natsRelay({ url })` of `@flagcast/relay-nats`. Default: this
   * server reads the database itself.
   */
  readonly relay?: CreateRelay | undefined;
  /** Writes to many WebSockets in one system call: `ioUring` of `@flagcast/io-uring`. Default: one write for each. */
  readonly socketWriter?: SocketWriterFactory | undefined;
}

/**
 * Creates the console of a server: what `flagcastConsole` of `@flagcast/console` returns. What it takes and returns is no
 * public interface: it changes with both packages, which have the same version.
 */
export type CreateConsole = (context: never) => object;

/** A user whom the sign-in page of a demo offers. */
export interface DemoUser {
  readonly username: string;
  readonly password: string;
  /** One line about what the user may do. */
  readonly about: string;
}

/** What Flagcast uses of a `pg.Pool`. Not that type, so that hosts without `@types/pg` can use these types. */
export interface PgPool {
  readonly options: object;
  /** Borrows a `pg.PoolClient`. */
  connect(): Promise<object>;
}

/** The database, with the schema `flagcast` installed. */
export type DatabaseOptions = DatabaseSettings &
  (
    | {
        /** `postgresql://user:password@host:port/database`. */
        readonly url: string;
        readonly pool?: undefined;
      }
    | {
        /**
         * A pool of the host, instead of `url`. Requests and authorization borrow its clients, at most `connections` less
         * three, and return them without settings. The reader, the listener and retention open sessions of their own
         * with `pool.options`; settings of a `connect` handler of the pool do not apply to them. `close()` does not end
         * the pool. The host listens for the pool's `error` event, as always with pg.
         */
        readonly pool: PgPool;
        readonly url?: undefined;
      }
  );

/** The settings that apply to both `url` and `pool`. */
export interface DatabaseSettings {
  /**
   * The URL for LISTEN: `postgresql://...` directly to the primary. Needed where `url` or `pool` leads to a pooler in
   * transaction mode or to a replica. Default: the same database.
   */
  readonly listenUrl?: string | undefined;
  /** The maximum number of database sessions: at least 5, plus one with `writes`, plus one with a relay. Default 10. */
  readonly connections?: number | undefined;
  /** How often the database is read when no notification arrives, in milliseconds. Default 1,000. */
  readonly pollIntervalMs?: number | undefined;
  /**
   * A view of events to read by created_at, as written in SQL (guarantee `overlap`). Default: the event log; without
   * it the host's tables, or its view `v_realtime_events`.
   */
  readonly view?: string | undefined;
  /** Without an event log: how long after its created_at an event can be committed, in milliseconds. Default 60,000. */
  readonly overlapMs?: number | undefined;
  /** How long rows of the event log are kept, and so how far back a client can resume, in milliseconds. Default 604,800,000 (7 days). */
  readonly logRetentionMs?: number | undefined;
}

/**
 * How users are authenticated, and what they may view. Needs a token check (`secret`, or `jwksUrl` with `issuer` and
 * `audience`), `authenticate`, or both.
 */
export type AuthOptions = (TokenOptions | { readonly secret?: undefined; readonly jwksUrl?: undefined }) &
  HostAuthOptions;

/** Authentication and authorization by the host's own rules. */
export interface HostAuthOptions {
  /**
   * Identifies the user of a request by the host's own means, such as cookies or API keys. Called for each handshake
   * and each HTTP request, after the origin check. If it returns null, the token is checked, or without token checks
   * the response is 401. If it rejects or takes longer than 5 s, the response is 503 and the error is logged.
   */
  readonly authenticate?: Authenticate | undefined;
  /**
   * Returns the channels that users may view, instead of Togglr's tables. Called for users who open a channel, and for
   * all connected users at each recheck. Failures are handled as with `authenticate`. A connection whose channel is no
   * longer in the list is closed.
   */
  readonly authorize?: Authorize | undefined;
  /** The same as a SELECT over the users `$1` (text[]), described in docs/other-schemas.md. Excludes `authorize`. */
  readonly authorizeSql?: string | undefined;
  /** Accepts a token in the query string. Default false, because URLs end up in logs. */
  readonly allowQueryToken?: boolean | undefined;
}

/** The origins, Host headers and reverse proxies that the server accepts. */
export interface NetworkOptions {
  /**
   * Origins whose pages may connect and read responses (CORS), in addition to the server's own, such as
   * `https://console.example.com`. `*` allows all: never with cookies. Default: none.
   */
  readonly allowedOrigins?: readonly string[] | undefined;
  /**
   * Names and addresses, without ports, that the Host header of a request may have; the response to others is 421.
   * `localhost` stands for all loopback names and addresses, `0.0.0.0` and `::` for every address. Default: any.
   */
  readonly allowedHosts?: readonly string[] | undefined;
  /**
   * Addresses and networks of trusted reverse proxies, such as `127.0.0.1`, `10.0.0.0/8`. Requests through them have
   * the client address of X-Forwarded-For. Default: none.
   */
  readonly trustedProxies?: readonly string[] | undefined;
  /**
   * The path of all routes, such as `/flagcast`: for a proxy that does not strip it, and for `attach` and `middleware`
   * in a server with other routes. Default: none.
   */
  readonly basePath?: string | undefined;
}

/** The limits of one server on connections and memory. */
export interface LimitOptions {
  /** Open connections of one user. Default 100. */
  readonly connectionsPerUser?: number | undefined;
  /** Open WebSockets and event streams from one address, and as many other HTTP connections. Default 1,000. */
  readonly connectionsPerAddress?: number | undefined;
  /** Open connections that have not authenticated, from all addresses. Default 10,000. */
  readonly unauthenticatedConnections?: number | undefined;
  /**
   * Bytes of responses (snapshots, lists, history) that clients have not read yet; one user may have half of it.
   * Further requests wait for a moment, then the response is 503. Default 67,108,864.
   */
  readonly responseBytes?: number | undefined;
  /** Recent events that are kept in memory for clients that resume. Default 10,000. */
  readonly replayEvents?: number | undefined;
}

/** Time-outs, in milliseconds. */
export interface TimeoutOptions extends ConnectionTimeouts {
  /** With the `console`: the life of a token of POST /api/auth/login, in milliseconds. Default 10,800,000 (3 h). */
  readonly tokenTtlMs?: number | undefined;
  /** How long a statement of a request may take, and how long a request waits for a database session, in milliseconds. Default 5,000. */
  readonly queryTimeoutMs?: number | undefined;
  /** How long a read of the event log may take, in milliseconds. Default 30,000. */
  readonly readTimeoutMs?: number | undefined;
  /** How long a WebSocket handshake may take before the response is 503, in milliseconds. Default 10,000. */
  readonly handshakeTimeoutMs?: number | undefined;
  /** How long the headers of a request may take on a server of `createServer`, in milliseconds. Default 10,000. */
  readonly requestHeadersTimeoutMs?: number | undefined;
  /** How long a connection of such a server may have no traffic, in milliseconds. Default 30,000. */
  readonly idleTimeoutMs?: number | undefined;
  /** How long a refused flagcast.v1 client may take to close its connection, in milliseconds. Default 2,000. */
  readonly refusedCloseTimeoutMs?: number | undefined;
  /**
   * How long a read may be overdue before the server is stale and the response of `/readyz` is 503, in milliseconds.
   * Default: 3 poll intervals without a read, at least 5,000.
   */
  readonly readinessGraceMs?: number | undefined;
  /** How long events may wait for delivery before the response of `/readyz` is 503, in milliseconds. Default 30,000. */
  readonly readinessLagMs?: number | undefined;
}

/** A server to attach to an HTTP server of the host, or to run on its own. `createFlagcast` creates it. */
export interface Flagcast {
  readonly lifecycle: Lifecycle;
  /** Handles HTTP requests: the pages of the console, /healthz, /readyz, /metrics, and the routes of /api/openapi.json. */
  readonly requestListener: (request: IncomingMessage, response: ServerResponse) => void;
  /** Whether the path of a request is a route of /api/openapi.json, for hosts with routes of their own. */
  readonly handles: (request: Pick<IncomingMessage, 'url'>) => boolean;
  /** Handles the requests that it `handles` and calls `next` for others: for Express, Connect and similar frameworks. */
  readonly middleware: (request: IncomingMessage, response: ServerResponse, next: () => void) => void;
  /**
   * Creates a server with `requestListener` and `attach`. Unlike a host's own server, it closes connections that send
   * nothing or too slowly, and new ones while too many have not authenticated. It does not listen yet.
   */
  createServer(): Server;
  /** Creates a server for /metrics, /healthz and /readyz only, for a port that only monitoring reaches. */
  createMonitoringServer(): Server;
  /**
   * Handles WebSocket upgrades on /api/ws of this server. Upgrades on other paths are left to the host's own `upgrade`
   * listeners; if there are none, the response is 404.
   */
  attach(server: Server): void;
  /**
   * Starts reading the database, and resolves when events flow. It waits for a database that does not respond: subscribe
   * to `lifecycle` for the reasons. Rejects with a FlagcastError `closed` if `close` is called first.
   */
  ready(): Promise<void>;
  /** Refuses new connections, asks clients to reconnect elsewhere, and resolves within 10 s. */
  close(): Promise<void>;
  /** Calls `close`. */
  [Symbol.asyncDispose](): Promise<void>;
}

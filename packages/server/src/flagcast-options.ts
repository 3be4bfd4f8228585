import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import type { Authenticate } from './auth/authenticate.js';
import type { Authorize } from './auth/authorize.js';
import type { AuthOptions } from './auth/auth-options.js';
import type { ConnectionTimeouts } from './connections/connection-timeouts.js';
import type { DemoPerson } from './api/demo-person.js';
import type { CreateRelay } from './broadcast/relay.js';
import type { Lifecycle } from './lifecycle.js';
import type { EventTypes } from './connections/codecs/plain.js';
import type { SocketWriterFactory } from './transport/socket-writer.js';

export interface FlagcastOptions {
  /** `postgresql://user:password@host:port/database`, with the schema `flagcast` installed. */
  databaseUrl: string;
  /**
   * How many sessions of the database this server has at most, divided between the reader, rights, what requests read
   * and what they write. At least 5, one more with `writes`, one more with `relay`. Default 10.
   */
  databaseConnections?: number;
  /**
   * Only for LISTEN, where `databaseUrl` leads through a pooler that pools by transaction or to a replica:
   * `postgresql://...` straight to the primary. Default: `databaseUrl`.
   */
  listenUrl?: string | null;
  /** How tokens are checked: by one shared secret or by the keys at a JWKS URL. Needed unless `authenticate` is given. */
  auth?: AuthOptions | undefined;
  /**
   * Who sends a request, by the host's own means: cookies, API keys. Asked for each handshake and each
   * HTTP request, after the origin has been checked; null leads on to the token where `auth` is given,
   * else to 401. Where it rejects or takes longer than 5 s the request is answered with 503 and the
   * log is told. With cookies never allow the origin `*`: any page could use them.
   */
  authenticate?: Authenticate;
  /**
   * What users may see, by the host's own rules, in place of Togglr's tables: asked for those who open a
   * channel at the same time, and for all who are connected at each recheck. Failures are as with `authenticate`;
   * a connection whose channel is no longer in the list ends.
   */
  authorize?: Authorize;
  /** The same as a query: a SELECT over the users `$1` (text[]), as docs/other-schemas.md describes; null for none. */
  authorizeSql?: string | null;
  /**
   * Lets several servers of one database share one reader: `natsRelay({ url })` of `@flagcast/relay-nats`. Default
   * null: this server reads the database itself.
   */
  relay?: CreateRelay | null;
  /** How often the database is read when nothing wakes the reader, in milliseconds. Default 1,000. */
  pollIntervalMs?: number;
  /**
   * A view of events to read, as it is written in SQL, by created_at: guarantee `overlap`. Default: the event log, or
   * without it the host's tables or its view `v_realtime_events`.
   */
  view?: string | undefined;
  /** How long after its created_at an event may be committed where there is no event log, in milliseconds. Default 60,000. */
  overlapMs?: number;
  /** How long rows of the event log are kept, in milliseconds: as far as a cursor reaches. Default 604,800,000 (7 days). */
  logRetentionMs?: number;
  /** Origins whose pages may connect and read answers (CORS), beside the server's own, e.g. `https://console.example.com`; `*` for all. Default none. */
  allowedOrigins?: readonly string[];
  /** Whether a token in the query string is accepted. Default false: it ends up in logs. */
  allowQueryToken?: boolean;
  /** Whose names plain clients are told of events by; flagcast.v1 has the specification's always. Default `spec`. */
  eventTypes?: EventTypes;
  /**
   * Addresses and networks of the proxies in front, e.g. `127.0.0.1`, `10.0.0.0/8`: of what comes through
   * them the address is the one in X-Forwarded-For. Default none: the address of the socket.
   */
  trustedProxies?: readonly string[];
  /**
   * Names and addresses, without ports, that the Host header of a request may have; others are answered with 421.
   * `localhost` stands for all loopback names and addresses, `0.0.0.0` and `::` for every address. Default null: any.
   */
  allowedHosts?: readonly string[] | null;
  /** Whether /metrics, /healthz and /readyz are left to `createMonitoringServer`. Default false. */
  separateMonitoring?: boolean;
  /** Connections that one user may have open. Default 100. */
  maxConnectionsPerUser?: number;
  /** Connections that one address may have open, and as many again that have not authenticated. Default 1,000. */
  maxConnectionsPerAddress?: number;
  /** Connections that may be open without having authenticated, from all addresses. Default 10,000. */
  maxUnauthenticatedConnections?: number;
  /**
   * How many bytes of snapshots, lists and pages of the history the server holds for clients that have not read them
   * yet; one user may have half of it. More wait for a moment, then they are refused. Default 67,108,864.
   */
  answerMemoryBytes?: number;
  /**
   * Whether features can be changed and requests decided on over HTTP. Default false: then the owner of
   * the database does it. Only by the rights of Togglr's tables: not together with `authorize`.
   */
  writes?: boolean;
  /** Whom the sign-in page offers with one click, passwords included: only ever for a demo. Default nobody. */
  demoPeople?: readonly DemoPerson[];
  /** The folder of the built console, which is served at `/`; null serves none. Default: the one that comes with this package. */
  consoleDir?: string | null;
  /** How many recent events are kept in memory for clients that come back. Default 10,000. */
  replayBufferEvents?: number;
  /**
   * Writes to many WebSockets in one system call: `ioUring` of the package `@flagcast/io-uring`. Default: each is written
   * to by itself, as on machines that do not allow io_uring.
   */
  socketWriter?: SocketWriterFactory | undefined;
  /** How often things are looked after, and how long they may take. The defaults suit all but tests. */
  timing?: FlagcastTiming;
  /** The prom-client registry that the metrics go into and /metrics answers with. Default: one of its own. */
  metricsRegistry?: Registry;
  /** Tells what happens; one is made when none is given. */
  lifecycle?: Lifecycle;
}

export interface FlagcastTiming extends ConnectionTimeouts {
  /** How long a token lasts that POST /api/auth/login gives, in milliseconds. Default 10,800,000 (3 h). */
  tokenTtlMs?: number;
  /**
   * How long a statement of a request may take in the database, and how long a request waits for a session, in
   * milliseconds. Default 5,000.
   */
  queryTimeoutMs?: number;
  /** How long a read of the event log may take, in milliseconds. Default 30,000. */
  readTimeoutMs?: number;
  /** How long a WebSocket handshake may take before it is answered with 503, in milliseconds. Default 10,000. */
  handshakeTimeoutMs?: number;
  /** An answer ends when its client reads nothing of it for this long, in milliseconds. Default 30,000. */
  answerStallTimeoutMs?: number;
  /** How long the head of a request may take on a server of `createServer`, in milliseconds. Default 10,000. */
  requestHeadersTimeoutMs?: number;
  /** A connection of such a server with no traffic for this long ends, also one whose answer is not read. In milliseconds. Default 30,000. */
  idleTimeoutMs?: number;
  /** How long a refused flagcast.v1 client may take to close its connection, in milliseconds. Default 2,000. */
  refusedCloseTimeoutMs?: number;
  /**
   * When a read is overdue by this long the server is stale: connections are sent so, and `/readyz` answers 503. In
   * milliseconds. Default: after 3 poll intervals without a read, at least 5,000.
   */
  readinessGraceMs?: number;
  /** When events that were read this long ago have not been handed to all connections `/readyz` answers 503, in milliseconds. Default 30,000. */
  readinessLagMs?: number;
}

export interface Flagcast {
  readonly lifecycle: Lifecycle;
  /** Answers HTTP requests: the console's pages, /healthz, /readyz, /metrics, and what /api/openapi.json describes. */
  readonly requestListener: (request: IncomingMessage, response: ServerResponse) => void;
  /**
   * Whether a request is for what /api/openapi.json describes, by its path alone: what a host that has
   * routes of its own hands to `requestListener`. The console's pages do not count.
   */
  readonly handles: (request: Pick<IncomingMessage, 'url'>) => boolean;
  /** Answers what it `handles` and leaves the rest to `next`: for Express, Connect and the like. */
  readonly middleware: (request: IncomingMessage, response: ServerResponse, next: () => void) => void;
  /**
   * A server that answers with `requestListener` and has upgrades attached. Unlike a host's own server it closes
   * connections that send nothing or too slowly, and new ones while too many have not authenticated. It does not
   * listen yet.
   */
  createServer(): Server;
  /** A server that answers /metrics, /healthz and /readyz and nothing else, for a port that only monitoring reaches. */
  createMonitoringServer(): Server;
  /**
   * Answers WebSocket upgrades on /api/ws of this server. Those on other paths are left to the host's own
   * `upgrade` listeners; where there are none they are answered with 404.
   */
  attach(server: Server): void;
  /** Begins to read. A database that does not answer is waited for; `reader:started` tells when events flow. */
  start(): void;
  /** Refuses newcomers, asks the connected to reconnect elsewhere, and ends within 10 s. */
  close(): Promise<void>;
}

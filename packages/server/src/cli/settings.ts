import { availableParallelism } from 'node:os';
import { createHostPolicy, createOriginPolicy } from '../auth/origin-policy.js';
import { secretKey } from '../auth/token-verifier.js';
import { createTrustedProxies } from '../auth/trusted-proxies.js';
import { parseUserClaim } from '../auth/user-claim.js';
import type { EventTypes } from '../connections/codecs/plain.js';
import { checkBasePath } from '../auth/request-target.js';
import * as accept from './setting-parsers.js';
import { checked, duration, list, oneOf, type Parser, wholeNumber } from './setting-parsers.js';

/** A setting of one or several commands. */
export interface Setting<Value = unknown> {
  readonly variable: string;
  /** The option of the same meaning, which takes precedence. */
  readonly option?: string;
  readonly parser: Parser<Value>;
  /** The text of the default value. A setting without it is null by default. */
  readonly default?: string;
  /** The default in words, where it is not a value. */
  readonly otherwise?: string;
  readonly help: string;
}

const onOff = oneOf({ on: true, off: false });
const limit = wholeNumber(1, 1_000_000);
const mebibytes = wholeNumber(1, 65_536);

/** Every setting. The loader, the help texts and docs/reference.md come from this table. */
export const settings = {
  databaseUrl: {
    variable: 'DATABASE_URL',
    option: 'database-url',
    parser: accept.databaseUrl,
    otherwise: 'the embedded demo',
    help: 'the PostgreSQL database',
  },
  port: {
    variable: 'PORT',
    option: 'port',
    parser: wholeNumber(0, 65_535),
    default: '8080',
    help: 'the port to listen on; 0 chooses a free one',
  },
  host: {
    variable: 'HOST',
    option: 'host',
    parser: accept.listenAddress,
    default: '127.0.0.1',
    help: 'the address to listen on; 0.0.0.0 for all',
  },
  pollIntervalMs: {
    variable: 'FLAGCAST_POLL_INTERVAL',
    option: 'poll-interval',
    parser: duration('10ms', '1h'),
    default: '1s',
    help: 'how often the database is read without a notification',
  },
  workers: {
    variable: 'FLAGCAST_WORKERS',
    option: 'workers',
    default: '1',
    // Each worker reads the database itself, so `auto` does not start one for each of many processors.
    parser: wholeNumber(1, 64, { auto: Math.min(availableParallelism(), 8) }),
    help: 'processes that share the port; auto: one per processor, at most 8',
  },
  databaseConnections: {
    variable: 'FLAGCAST_DB_CONNECTIONS',
    parser: wholeNumber(1, 10_000),
    otherwise: '10, or what the workers need',
    help: 'sessions of PostgreSQL, all workers together',
  },
  listenUrl: {
    variable: 'FLAGCAST_LISTEN_URL',
    parser: { ...accept.databaseUrl, accepts: '' },
    otherwise: 'DATABASE_URL',
    help: 'the primary, for LISTEN only, if DATABASE_URL leads to a pooler or a replica',
  },
  jwtSecret: {
    variable: 'FLAGCAST_JWT_SECRET',
    parser: checked('SECRET', 'at least 32 bytes', secretKey),
    help: 'the HS256 secret of the tokens; this or FLAGCAST_JWKS_URL is required with DATABASE_URL',
  },
  jwksUrl: {
    variable: 'FLAGCAST_JWKS_URL',
    parser: accept.jwksUrl,
    help: 'the JSON Web Key Set of the identity provider that signs the tokens',
  },
  issuer: {
    variable: 'FLAGCAST_JWT_ISSUER',
    parser: accept.anyText,
    otherwise: 'any',
    help: 'the iss claim that tokens must have; required with FLAGCAST_JWKS_URL',
  },
  audience: {
    variable: 'FLAGCAST_JWT_AUDIENCE',
    parser: accept.anyText,
    otherwise: 'any',
    help: 'the aud claim that tokens must have; required with FLAGCAST_JWKS_URL',
  },
  userClaim: {
    variable: 'FLAGCAST_JWT_USER_CLAIM',
    otherwise: 'userId, else sub',
    parser: checked('CLAIM', 'claim:id, claim:username or claim:email', parseUserClaim),
    help: 'the claim that identifies the user, and the column of users; required with FLAGCAST_JWKS_URL',
  },
  maxTokenAgeMs: {
    variable: 'FLAGCAST_JWT_MAX_AGE',
    parser: duration('1m', '3650d'),
    otherwise: '1d',
    help: 'the longest lifetime of a token that is accepted',
  },
  view: {
    variable: 'FLAGCAST_VIEW',
    parser: accept.viewName,
    otherwise: 'the event log, else the tables',
    help: 'a view of events to read by created_at',
  },
  overlapMs: {
    variable: 'FLAGCAST_OVERLAP',
    parser: duration('1s', '1h'),
    default: '1m',
    help: 'without an event log: how long after its created_at an event may be committed',
  },
  logRetentionMs: {
    variable: 'FLAGCAST_LOG_RETENTION',
    parser: duration('1m', '3650d'),
    default: '7d',
    help: 'how long the event log keeps rows, so how long a client may be away and resume',
  },
  readinessGraceMs: {
    variable: 'FLAGCAST_READY_GRACE',
    parser: duration('1s', '1h'),
    otherwise: '3 poll intervals, at least 5s',
    help: 'how overdue a read may be before the server is stale and /readyz answers 503',
  },
  relayUrl: {
    variable: 'FLAGCAST_RELAY_URL',
    otherwise: 'each server reads the database',
    parser: checked(
      'URL',
      'nats://user:password@host:4222, or tls://; all servers of a cluster by commas',
      accept.parseRelayUrl,
    ),
    help: 'NATS with JetStream, through which several servers share one reader; needs @flagcast/relay-nats',
  },
  metricsPort: {
    variable: 'FLAGCAST_METRICS_PORT',
    parser: wholeNumber(1, 65_535),
    otherwise: 'PORT',
    help: 'a separate port for /metrics, /healthz and /readyz',
  },
  basePath: {
    variable: 'FLAGCAST_BASE_PATH',
    parser: checked('PATH', '/path', checkBasePath),
    default: '',
    otherwise: 'none',
    help: 'the path under which a proxy that does not strip it serves Flagcast',
  },
  allowedHosts: {
    variable: 'FLAGCAST_ALLOWED_HOSTS',
    parser: list('names and addresses without ports, by commas', createHostPolicy),
    otherwise: 'any; with the embedded demo loopback names and HOST',
    help: 'the hosts that the Host header of a request may name',
  },
  allowedOrigins: {
    variable: 'FLAGCAST_ALLOWED_ORIGINS',
    default: '',
    otherwise: 'its own',
    parser: list('origins, by commas; * for all', createOriginPolicy),
    help: 'the origins of pages that may connect',
  },
  allowQueryToken: {
    variable: 'FLAGCAST_QUERY_TOKEN',
    default: 'deny',
    parser: oneOf({ allow: true, deny: false }),
    help: 'whether a token in the query string is accepted; URLs end up in logs',
  },
  authorizeSql: {
    variable: 'FLAGCAST_AUTHORIZE_SQL',
    parser: accept.anyText,
    otherwise: "the permissions of Togglr's tables",
    help: 'the query that lists the channels of the users $1; see docs/other-schemas.md',
  },
  presence: {
    variable: 'FLAGCAST_PRESENCE',
    default: 'on',
    parser: onOff,
    help: 'whether users see who else has the same flag or request open',
  },
  eventTypes: {
    variable: 'FLAGCAST_EVENT_TYPES',
    default: 'spec',
    parser: oneOf<EventTypes>({ spec: 'spec', togglr: 'togglr' }),
    help: 'the names of event types for plain clients',
  },
  trustedProxies: {
    variable: 'FLAGCAST_TRUSTED_PROXIES',
    default: '',
    otherwise: 'none',
    parser: list('addresses and networks, by commas', createTrustedProxies),
    help: 'the proxies whose X-Forwarded-For is the address of the client',
  },
  writes: {
    variable: 'FLAGCAST_WRITES',
    parser: onOff,
    otherwise: 'on with the embedded demo, else off',
    help: 'whether the console and its REST API may change flags; needs @flagcast/console',
  },
  ioUring: {
    variable: 'FLAGCAST_IO_URING',
    parser: onOff,
    default: 'on',
    help: 'whether @flagcast/io-uring is used if it is installed and the kernel allows it',
  },
  connectionsPerUser: {
    variable: 'FLAGCAST_MAX_CONNECTIONS_PER_USER',
    parser: limit,
    default: '100',
    help: 'open connections of one user, per worker',
  },
  connectionsPerAddress: {
    variable: 'FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS',
    parser: limit,
    default: '1000',
    help: 'open WebSockets and streams of one address, and as many other HTTP connections, per worker',
  },
  unauthenticatedConnections: {
    variable: 'FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS',
    parser: limit,
    default: '10000',
    help: 'open connections that have not authenticated, per worker',
  },
  responseBytes: {
    variable: 'FLAGCAST_ANSWER_MEMORY_MB',
    default: '64',
    parser: { ...mebibytes, parse: (text) => mebibytes.parse(text) * 1_048_576 },
    help: 'MiB of answers that clients have not read yet, per worker',
  },
  dataDir: {
    variable: 'FLAGCAST_DATA_DIR',
    parser: accept.folder,
    otherwise: '/var/lib/flagcast as root, else $XDG_DATA_HOME/flagcast or ~/.local/share/flagcast',
    help: 'the data folder of the embedded demo',
  },
  otlpEndpoint: {
    variable: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    parser: accept.collectorUrl,
    otherwise: 'no traces',
    help: 'the OpenTelemetry collector that receives traces, as JSON over HTTP',
  },
  otlpTracesEndpoint: {
    variable: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    parser: accept.collectorUrl,
    otherwise: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    help: 'the same with its path',
  },
  otelDisabled: {
    variable: 'OTEL_SDK_DISABLED',
    parser: accept.anyText,
    default: 'false',
    help: 'true: no traces',
  },
} as const satisfies Record<string, Setting>;

export type SettingKey = keyof typeof settings;

type Value<Key extends SettingKey> =
  | ReturnType<(typeof settings)[Key]['parser']['parse']>
  | ((typeof settings)[Key] extends { default: string } ? never : null);

export type Values<Keys extends SettingKey> = { readonly [Key in Keys]: Value<Key> };

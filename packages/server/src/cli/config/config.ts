import path from 'node:path';
import { z } from 'zod';
import type { TokenOptions, TokenChecks } from '../../auth/auth-options.js';
import { defaultDataDir } from './data-dir.js';
import {
  defaultDatabaseConnections,
  leastCommandConnections,
  type SessionNeeds,
} from '../../postgres/session-budget.js';
import type { EventTypes } from '../../connections/codecs/plain.js';
import { readAuth, readTokenChecks } from './auth.js';
import { ConfigError } from './config-error.js';
import {
  parsed,
  parseDatabaseUrl,
  parseEventTypes,
  parseAllowedHosts,
  parseHost,
  parseIoUring,
  parseJwksUrl,
  parseMaxTokenAge,
  parseOrigins,
  parseLogRetention,
  parseOverlap,
  parsePollInterval,
  parseQueryToken,
  parseRelay,
  parseReadyGrace,
  parseTracesEndpoint,
  parseSecret,
  parseTrustedProxies,
  parseUserClaimSetting,
  parseView,
  parseWorkers,
  parseWrites,
  wholeNumber,
} from './values.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What was said on the command line, as it was written; it wins over the environment. */
export interface Flags {
  readonly databaseUrl?: string | undefined;
  readonly port?: string | undefined;
  readonly host?: string | undefined;
  readonly pollInterval?: string | undefined;
  readonly workers?: string | undefined;
}

/** What `serve` runs with. */
export interface ServeConfig {
  /** The database to attach to; null: the embedded PostgreSQL in `dataDir`. */
  readonly databaseUrl: string | null;
  /** How many sessions of the database the command may have with all its workers. */
  readonly databaseConnections: number;
  /** Where LISTEN goes; null: to `databaseUrl`. */
  readonly listenUrl: string | null;
  /** Null only without a `databaseUrl`: then the secret that is kept in `dataDir`. */
  readonly auth: TokenOptions | null;
  /** What tokens must say, whichever way they are checked. */
  readonly tokenChecks: TokenChecks;
  /** 0: a free one. */
  readonly port: number;
  readonly host: string;
  readonly pollIntervalMs: number;
  /** By how long a read may be overdue before the server is stale; null: 3 poll intervals, at least 5 s. */
  readonly readyGraceMs: number | null;
  /** How long rows of the event log are kept. */
  readonly logRetentionMs: number;
  /** Whether OpenTelemetry's own variables ask for traces; its exporter reads them itself. */
  readonly traces: boolean;
  /** Processes that serve; 1: the command's own, without others. */
  readonly workers: number;
  /** The view of events, as it is written in SQL; null: Flagcast's own, or what there is in its place. */
  readonly view: string | null;
  readonly overlapMs: number;
  /** The NATS servers by which servers share one reader; null: this one reads for itself. */
  readonly relayUrl: string | null;
  /** The hosts that requests may be for; null: any. */
  readonly allowedHosts: readonly string[] | null;
  /** The port of /metrics, /healthz and /readyz; null: that of everything else. */
  readonly metricsPort: number | null;
  /** Exact origins, `null` or `*`; pages of the server's own origin are always allowed. */
  readonly allowedOrigins: readonly string[];
  readonly allowQueryToken: boolean;
  /** The query that lists the channels of users, where they are not those of Togglr's tables; else null. */
  readonly authorizeSql: string | null;
  readonly eventTypes: EventTypes;
  /** Addresses and networks of the proxies in front. */
  readonly trustedProxies: readonly string[];
  /** Whether features can be changed through the server. Unless it is said: only in the embedded PostgreSQL. */
  readonly writes: boolean;
  /** Whether many connections are written to in one system call, where the machine can. */
  readonly ioUring: boolean;
  readonly maxConnectionsPerUser: number;
  readonly maxConnectionsPerAddress: number;
  /** How much of large answers the server holds for clients that have not read them yet. */
  readonly answerMemoryBytes: number;
  /** An absolute path; null where none is set and the user has no home directory. */
  readonly dataDir: string | null;
  readonly maxUnauthenticatedConnections: number;
  /** Whether it is not where the other commands look by themselves. */
  readonly dataDirChosen: boolean;
}

/** What `doctor` looks with. */
export interface DoctorConfig {
  readonly databaseUrl: string;
  /** This and what follows as for `serve`. */
  readonly databaseConnections: number;
  readonly listenUrl: string | null;
  readonly view: string | null;
  readonly overlapMs: number;
  readonly authorizeSql: string | null;
  readonly writes: boolean;
  readonly userClaim: string | null;
}

/** What the commands that talk to a server or a database from beside it run with. */
export interface LocalConfig {
  readonly databaseUrl: string | null;
  /** From FLAGCAST_JWT_SECRET. */
  readonly secret: string | null;
  /** What the server asks of tokens. */
  readonly tokenChecks: TokenChecks;
  /** An absolute path; null where none is set and the user has no home directory. */
  readonly dataDir: string | null;
}

const defaultOverlapMs = 60_000;
const defaultLogRetentionMs = 7 * 86_400_000;
const limit = wholeNumber(1, 1_000_000);

/** Each setting by its variable, with the flag of the same meaning where there is one. */
const settings = {
  DATABASE_URL: { flag: 'databaseUrl', schema: parsed(parseDatabaseUrl) },
  FLAGCAST_DB_CONNECTIONS: { flag: null, schema: wholeNumber(1, 10_000) },
  FLAGCAST_LISTEN_URL: { flag: null, schema: parsed(parseDatabaseUrl) },
  PORT: { flag: 'port', schema: wholeNumber(0, 65_535) },
  HOST: { flag: 'host', schema: parsed(parseHost) },
  FLAGCAST_JWT_SECRET: { flag: null, schema: parsed(parseSecret) },
  FLAGCAST_JWKS_URL: { flag: null, schema: parsed(parseJwksUrl) },
  FLAGCAST_JWT_ISSUER: { flag: null, schema: z.string() },
  FLAGCAST_JWT_AUDIENCE: { flag: null, schema: z.string() },
  FLAGCAST_JWT_USER_CLAIM: { flag: null, schema: parsed(parseUserClaimSetting) },
  FLAGCAST_JWT_MAX_AGE: { flag: null, schema: parsed(parseMaxTokenAge) },
  FLAGCAST_POLL_INTERVAL: { flag: 'pollInterval', schema: parsed(parsePollInterval) },
  FLAGCAST_READY_GRACE: { flag: null, schema: parsed(parseReadyGrace) },
  OTEL_SDK_DISABLED: { flag: null, schema: z.string() },
  OTEL_EXPORTER_OTLP_ENDPOINT: { flag: null, schema: parsed(parseTracesEndpoint) },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: { flag: null, schema: parsed(parseTracesEndpoint) },
  FLAGCAST_WORKERS: { flag: 'workers', schema: parsed(parseWorkers) },
  FLAGCAST_VIEW: { flag: null, schema: parsed(parseView) },
  FLAGCAST_LOG_RETENTION: { flag: null, schema: parsed(parseLogRetention) },
  FLAGCAST_OVERLAP: { flag: null, schema: parsed(parseOverlap) },
  FLAGCAST_RELAY_URL: { flag: null, schema: parsed(parseRelay) },
  FLAGCAST_METRICS_PORT: { flag: null, schema: wholeNumber(1, 65_535) },
  FLAGCAST_ALLOWED_HOSTS: { flag: null, schema: parsed(parseAllowedHosts) },
  FLAGCAST_ALLOWED_ORIGINS: { flag: null, schema: parsed(parseOrigins) },
  FLAGCAST_QUERY_TOKEN: { flag: null, schema: parsed(parseQueryToken) },
  FLAGCAST_AUTHORIZE_SQL: { flag: null, schema: z.string() },
  FLAGCAST_EVENT_TYPES: { flag: null, schema: parsed(parseEventTypes) },
  FLAGCAST_TRUSTED_PROXIES: { flag: null, schema: parsed(parseTrustedProxies) },
  FLAGCAST_WRITES: { flag: null, schema: parsed(parseWrites) },
  FLAGCAST_IO_URING: { flag: null, schema: parsed(parseIoUring) },
  FLAGCAST_DATA_DIR: { flag: null, schema: parsed((text) => path.resolve(text)) },
  FLAGCAST_MAX_CONNECTIONS_PER_USER: { flag: null, schema: limit },
  FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS: { flag: null, schema: limit },
  FLAGCAST_ANSWER_MEMORY_MB: { flag: null, schema: wholeNumber(1, 65_536) },
  FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS: { flag: null, schema: limit },
} as const satisfies Record<string, { flag: keyof Flags | null; schema: z.ZodType }>;

export type Variable = keyof typeof settings;
type Value<Name extends Variable> = z.output<(typeof settings)[Name]['schema']>;

/**
 * The settings of `serve`. With a database one of FLAGCAST_JWT_SECRET and FLAGCAST_JWKS_URL must
 * be set, and never both.
 *
 * @throws ConfigError naming every variable or flag that is wrong, and what it accepts.
 */
export function loadConfig(environment: Environment, flags: Flags): ServeConfig {
  const reading = new Reading(environment, flags);
  const databaseUrl = reading.value('DATABASE_URL');
  const tokenChecks = readTokenChecks(reading);
  const auth = readAuth(reading, tokenChecks);
  if (reading.isSet('FLAGCAST_LISTEN_URL') && !reading.isSet('DATABASE_URL')) {
    reading.report(
      'FLAGCAST_LISTEN_URL is set, but no database: set DATABASE_URL, too, or unset FLAGCAST_LISTEN_URL',
    );
  }
  const authorizeSql = reading.value('FLAGCAST_AUTHORIZE_SQL');
  const writes = reading.value('FLAGCAST_WRITES');
  if (authorizeSql !== null && !reading.isSet('DATABASE_URL')) {
    reading.report(
      'FLAGCAST_AUTHORIZE_SQL is for a database of yours: set DATABASE_URL, or unset FLAGCAST_AUTHORIZE_SQL',
    );
  }
  if (authorizeSql !== null && writes === true) {
    reading.report(
      "FLAGCAST_WRITES=on needs the users and roles of Togglr's tables, FLAGCAST_AUTHORIZE_SQL is for other ones: unset one of them",
    );
  }
  const workers = reading.value('FLAGCAST_WORKERS') ?? 1;
  const relayUrl = reading.value('FLAGCAST_RELAY_URL');
  const takesWrites = writes ?? databaseUrl === null;
  const port = reading.value('PORT') ?? 8080;
  const host = reading.value('HOST') ?? '127.0.0.1';
  const metricsPort = reading.value('FLAGCAST_METRICS_PORT');
  if (metricsPort !== null && metricsPort === port) {
    reading.report(
      `FLAGCAST_METRICS_PORT and PORT are both ${port}: give each a port of its own, or unset FLAGCAST_METRICS_PORT`,
    );
  }
  const allowedHosts = reading.value('FLAGCAST_ALLOWED_HOSTS');
  const config: ServeConfig = {
    databaseUrl,
    databaseConnections: connectionsOf(reading, workers, { writes: takesWrites, relay: relayUrl !== null }),
    listenUrl: reading.value('FLAGCAST_LISTEN_URL'),
    auth,
    tokenChecks,
    port,
    host,
    metricsPort,
    pollIntervalMs: reading.value('FLAGCAST_POLL_INTERVAL') ?? 1_000,
    readyGraceMs: reading.value('FLAGCAST_READY_GRACE'),
    logRetentionMs: reading.value('FLAGCAST_LOG_RETENTION') ?? defaultLogRetentionMs,
    traces: wantsTraces(reading),
    workers,
    view: reading.value('FLAGCAST_VIEW'),
    overlapMs: reading.value('FLAGCAST_OVERLAP') ?? defaultOverlapMs,
    relayUrl,
    // The demo signs in with one click: a page that makes its own name resolve to it (DNS rebinding) must not.
    allowedHosts:
      databaseUrl === null ? ['localhost', host.replace(/%.*/, ''), ...(allowedHosts ?? [])] : allowedHosts,
    allowedOrigins: reading.value('FLAGCAST_ALLOWED_ORIGINS') ?? [],
    allowQueryToken: reading.value('FLAGCAST_QUERY_TOKEN') ?? false,
    authorizeSql,
    eventTypes: reading.value('FLAGCAST_EVENT_TYPES') ?? 'spec',
    trustedProxies: reading.value('FLAGCAST_TRUSTED_PROXIES') ?? [],
    writes: takesWrites,
    ioUring: reading.value('FLAGCAST_IO_URING') ?? true,
    maxConnectionsPerUser: reading.value('FLAGCAST_MAX_CONNECTIONS_PER_USER') ?? 100,
    maxConnectionsPerAddress: reading.value('FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS') ?? 1_000,
    answerMemoryBytes: (reading.value('FLAGCAST_ANSWER_MEMORY_MB') ?? 64) * 1_048_576,
    maxUnauthenticatedConnections: reading.value('FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS') ?? 10_000,
    dataDir: reading.value('FLAGCAST_DATA_DIR') ?? defaultDataDir(environment),
    dataDirChosen: reading.isSet('FLAGCAST_DATA_DIR'),
  };
  reading.finish();
  return config;
}

/**
 * The settings of the commands beside the server.
 *
 * @throws ConfigError naming every variable or flag that is wrong, and what it accepts.
 */
export function loadLocalConfig(environment: Environment, flags: Flags): LocalConfig {
  const reading = new Reading(environment, flags);
  const config: LocalConfig = {
    databaseUrl: reading.value('DATABASE_URL'),
    secret: reading.value('FLAGCAST_JWT_SECRET'),
    tokenChecks: readTokenChecks(reading),
    dataDir: reading.value('FLAGCAST_DATA_DIR') ?? defaultDataDir(environment),
  };
  reading.finish();
  return config;
}

/**
 * The database that a command is for: there is no default.
 *
 * @throws ConfigError when none is given or what is given is no URL of a PostgreSQL database.
 */
export function loadDatabaseUrl(environment: Environment, flags: Flags): string {
  const reading = new Reading(environment, flags);
  const databaseUrl = reading.value('DATABASE_URL');
  reading.finish();
  return given(databaseUrl);
}

/**
 * The settings of `doctor`.
 *
 * @throws ConfigError as `loadDatabaseUrl`.
 */
export function loadDoctorConfig(environment: Environment, flags: Flags): DoctorConfig {
  const reading = new Reading(environment, flags);
  const databaseUrl = reading.value('DATABASE_URL');
  const view = reading.value('FLAGCAST_VIEW');
  const overlapMs = reading.value('FLAGCAST_OVERLAP') ?? defaultOverlapMs;
  const listenUrl = reading.value('FLAGCAST_LISTEN_URL');
  const authorizeSql = reading.value('FLAGCAST_AUTHORIZE_SQL');
  const writes = reading.value('FLAGCAST_WRITES') ?? false;
  const userClaim = reading.value('FLAGCAST_JWT_USER_CLAIM');
  const databaseConnections = connectionsOf(reading, reading.value('FLAGCAST_WORKERS') ?? 1, {
    writes,
    relay: reading.isSet('FLAGCAST_RELAY_URL'),
  });
  reading.finish();
  return {
    databaseUrl: given(databaseUrl),
    databaseConnections,
    listenUrl,
    view,
    overlapMs,
    authorizeSql,
    writes,
    userClaim,
  };
}

/** Each worker is a server with sessions of its own: by default there are more of them where ten are not enough. */
function connectionsOf(reading: Reading, workers: number, needs: SessionNeeds): number {
  const least = leastCommandConnections(workers, needs);
  const connections = reading.value('FLAGCAST_DB_CONNECTIONS');
  if (connections !== null && connections < least) {
    const server = workers === 1 ? 'this server' : `${workers} workers`;
    reading.report(
      `FLAGCAST_DB_CONNECTIONS: ${connections} are too few for ${server}; give ${least} or more`,
    );
  }
  return connections ?? Math.max(defaultDatabaseConnections, least);
}

function wantsTraces(reading: Reading): boolean {
  if (reading.value('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return false;
  const endpoints = [
    reading.value('OTEL_EXPORTER_OTLP_ENDPOINT'),
    reading.value('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'),
  ];
  return endpoints.some((endpoint) => endpoint !== null);
}

function given(databaseUrl: string | null): string {
  if (databaseUrl !== null) return databaseUrl;
  throw new ConfigError([
    'No database is given: add --database-url postgresql://user:password@host:5432/database, or set DATABASE_URL',
  ]);
}

/** Whether a terminal may be written to in colours (no-color.org). */
export function allowsColors(environment: Environment): boolean {
  return (environment['NO_COLOR'] ?? '') === '';
}

/** Reads settings one by one and gathers what is wrong with them. */
export class Reading {
  readonly #environment: Environment;
  readonly #flags: Flags;
  readonly #problems: string[] = [];

  constructor(environment: Environment, flags: Flags) {
    this.#environment = environment;
    this.#flags = flags;
  }

  /** Null when it is not set, or wrong, which is reported. */
  value<Name extends Variable>(variable: Name): Value<Name> | null {
    const { name, text } = this.#find(variable);
    if (text === undefined) return null;
    const result = settings[variable].schema.safeParse(text);
    if (result.success) return result.data as Value<Name>;
    for (const issue of result.error.issues) this.report(`${name}: ${issue.message}`);
    return null;
  }

  isSet(variable: Variable): boolean {
    return this.#find(variable).text !== undefined;
  }

  report(problem: string): void {
    this.#problems.push(problem);
  }

  finish(): void {
    if (this.#problems.length > 0) throw new ConfigError(this.#problems);
  }

  #find(variable: Variable): { name: string; text: string | undefined } {
    const { flag } = settings[variable];
    const given = flag === null ? undefined : this.#flags[flag];
    if (flag !== null && given !== undefined) return { name: flagName(flag), text: given };
    const text = this.#environment[variable]?.trim();
    // Compose files and charts pass an empty variable for one that is not set. Only the database
    // is different: without it another one would be served, and silently.
    return { name: variable, text: text === '' && variable !== 'DATABASE_URL' ? undefined : text };
  }
}

function flagName(flag: keyof Flags): string {
  return `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

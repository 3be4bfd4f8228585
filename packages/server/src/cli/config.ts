import type { TokenOptions, TokenChecks } from '../auth/token-verifier.js';
import { parseUserClaim } from '../auth/user-claim.js';
import {
  defaultDatabaseConnections,
  minCommandConnections,
  type SessionNeeds,
} from '../postgres/session-budget.js';
import { defaultDataDir } from './setting-parsers.js';
import { type Setting, type SettingKey, settings, type Values } from './settings.js';

/** The texts of options on the command line, by the key of their setting. */
export type Flags = { readonly [Key in SettingKey]?: string | undefined };

export type Environment = Readonly<Record<string, string | undefined>>;

/** Lists everything that is wrong with the settings, one line each. Never holds a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** Reads settings and collects their errors. Options take precedence over variables. */
class SettingsReader {
  readonly #environment: Environment;
  readonly #flags: Flags;
  readonly #problems: string[] = [];

  constructor(environment: Environment, flags: Flags) {
    this.#environment = environment;
    this.#flags = flags;
  }

  /** A setting that is wrong is reported and null. */
  read<Keys extends SettingKey>(keys: readonly Keys[]): Values<Keys> {
    return Object.fromEntries(keys.map((key) => [key, this.#value(key)])) as Values<Keys>;
  }

  isSet(key: SettingKey): boolean {
    return this.#textOf(key) !== undefined;
  }

  report(problem: string): void {
    this.#problems.push(problem);
  }

  /** @throws ConfigError if anything is wrong. */
  finish(): void {
    if (this.#problems.length > 0) throw new ConfigError(this.#problems.join('\n'));
  }

  #value(key: SettingKey): unknown {
    const setting: Setting = settings[key];
    const text = this.#textOf(key) ?? setting.default;
    if (text === undefined) return null;
    try {
      return setting.parser.parse(text);
    } catch (error) {
      const name = this.#flags[key] === undefined ? setting.variable : `--${setting.option ?? ''}`;
      this.report(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return null;
    }
  }

  #textOf(key: SettingKey): string | undefined {
    const text = this.#flags[key] ?? this.#environment[settings[key].variable]?.trim();
    // Compose files and charts pass an empty variable for one that is not set. An empty DATABASE_URL is an error,
    // because the server would silently serve another database.
    return text === '' && key !== 'databaseUrl' && this.#flags[key] === undefined ? undefined : text;
  }
}

export const tokenSettings = ['jwtSecret', 'issuer', 'audience', 'userClaim', 'maxTokenAgeMs'] as const;
export const doctorSettings = [
  ...(['databaseUrl', 'databaseConnections', 'workers', 'listenUrl', 'view', 'overlapMs'] as const),
  ...(['relayUrl', 'authorizeSql', 'writes', 'userClaim', 'noColor'] as const),
];
export const serveSettings = (Object.keys(settings) as SettingKey[]).filter((key) => key !== 'noColor');
const authSettings = ['jwksUrl', ...tokenSettings] as const;
const traceSettings = ['otlpEndpoint', 'otlpTracesEndpoint', 'otelDisabled'] as const;

type PlainKey = Exclude<
  SettingKey,
  (typeof authSettings)[number] | (typeof traceSettings)[number] | 'noColor'
>;

/** The settings of `serve`. Plain data, so that it can be sent to workers. */
export interface ServeConfig extends Omit<Values<PlainKey>, 'databaseConnections' | 'writes'> {
  readonly databaseConnections: number;
  /** Null only without a `databaseUrl`: then the secret in `dataDir` is used. */
  readonly auth: TokenOptions | null;
  readonly tokenChecks: TokenChecks;
  readonly writes: boolean;
  readonly traces: boolean;
  /** Whether the data folder differs from the default of other commands. */
  readonly dataDirChosen: boolean;
}

/**
 * The settings of `serve`.
 *
 * @throws ConfigError naming every wrong variable or option, and its valid values.
 */
export function loadConfig(environment: Environment, flags: Flags): ServeConfig {
  const reader = new SettingsReader(environment, flags);
  const authValues = reader.read(authSettings);
  const { otlpEndpoint, otlpTracesEndpoint, otelDisabled } = reader.read(traceSettings);
  const separate: readonly SettingKey[] = [...authSettings, ...traceSettings];
  const plain = reader.read(serveSettings.filter((key) => !separate.includes(key)) as PlainKey[]);
  const { databaseUrl, relayUrl, host, allowedHosts } = plain;
  const writes = plain.writes ?? databaseUrl === null;
  const tokenChecks = tokenChecksOf(authValues);
  const auth = authOf(reader, authValues, tokenChecks);
  refuseContradictions(reader, plain);
  const databaseConnections = connectionsOf(reader, plain, { writes, relay: relayUrl !== null });
  reader.finish();
  return {
    ...plain,
    databaseConnections,
    auth,
    tokenChecks,
    writes,
    // The demo signs in with one click, so a page that resolves its own name to it (DNS rebinding) must be refused.
    allowedHosts:
      databaseUrl === null ? ['localhost', host.replace(/%.*/, ''), ...(allowedHosts ?? [])] : allowedHosts,
    traces: otelDisabled.toLowerCase() !== 'true' && (otlpEndpoint ?? otlpTracesEndpoint) !== null,
    dataDir: plain.dataDir ?? defaultDataDir(environment),
    dataDirChosen: plain.dataDir !== null,
  };
}

/** The settings of the commands that sign tokens and use the embedded demo. `dataDir` is null without a home directory. */
export interface LocalConfig extends Pick<ServeConfig, 'databaseUrl' | 'tokenChecks' | 'dataDir'> {
  readonly secret: string | null;
}

/** @throws ConfigError */
export function loadLocalConfig(environment: Environment, flags: Flags): LocalConfig {
  const reader = new SettingsReader(environment, flags);
  const values = reader.read(['databaseUrl', 'dataDir', ...tokenSettings]);
  reader.finish();
  return {
    databaseUrl: values.databaseUrl,
    secret: values.jwtSecret,
    tokenChecks: tokenChecksOf(values),
    dataDir: values.dataDir ?? defaultDataDir(environment),
  };
}

/**
 * The database of a command that has no default database.
 *
 * @throws ConfigError
 */
export function loadDatabaseUrl(environment: Environment, flags: Flags): string {
  const reader = new SettingsReader(environment, flags);
  const { databaseUrl } = reader.read(['databaseUrl']);
  reader.finish();
  if (databaseUrl !== null) return databaseUrl;
  throw new ConfigError(
    'A database is required: add --database-url postgresql://user:password@host:5432/database, or set DATABASE_URL',
  );
}

/** @throws ConfigError */
export function loadDoctorConfig(
  environment: Environment,
  flags: Flags,
): Pick<
  ServeConfig,
  'listenUrl' | 'view' | 'overlapMs' | 'authorizeSql' | 'writes' | 'databaseConnections'
> & {
  readonly databaseUrl: string;
  readonly userClaim: string | null;
} {
  const reader = new SettingsReader(environment, flags);
  const values = reader.read(doctorSettings);
  const { listenUrl, view, overlapMs, authorizeSql, userClaim } = values;
  const writes = values.writes ?? false;
  const databaseConnections = connectionsOf(reader, values, {
    writes,
    relay: reader.isSet('relayUrl'),
  });
  reader.finish();
  const databaseUrl = loadDatabaseUrl(environment, flags);
  return { databaseUrl, databaseConnections, listenUrl, view, overlapMs, authorizeSql, writes, userClaim };
}

/** Whether the output may have colors (no-color.org). */
export function allowsColors(environment: Environment): boolean {
  return !new SettingsReader(environment, {}).isSet('noColor');
}

function tokenChecksOf(values: Values<keyof TokenChecks>): TokenChecks {
  return {
    issuer: values.issuer ?? undefined,
    audience: values.audience ?? undefined,
    userClaim: values.userClaim ?? undefined,
    maxTokenAgeMs: values.maxTokenAgeMs ?? undefined,
  };
}

const requiredWithJwks = {
  issuer: 'the "iss" of the tokens',
  audience: 'the "aud" of tokens for this server, so that tokens for other services are refused',
  userClaim:
    'the claim that identifies the user and the column of users that it is compared with, such as email:email',
} as const;

/** How tokens are checked; null if no setting says so. */
function authOf(
  reader: SettingsReader,
  { jwtSecret, jwksUrl }: Values<'jwtSecret' | 'jwksUrl'>,
  checks: TokenChecks,
): TokenOptions | null {
  const hasSecret = reader.isSet('jwtSecret');
  const hasKeys = reader.isSet('jwksUrl');
  const hasAuthorizeSql = reader.isSet('authorizeSql');
  if (hasSecret && hasKeys) {
    reader.report('FLAGCAST_JWT_SECRET and FLAGCAST_JWKS_URL are both set: unset one of them');
  } else if (reader.isSet('databaseUrl') && !hasSecret && !hasKeys) {
    reader.report(
      'No setting says how to check tokens: set FLAGCAST_JWT_SECRET to the secret that signs them (at least 32 bytes), or FLAGCAST_JWKS_URL to the address of their keys',
    );
  }
  if (jwksUrl !== null && !hasSecret) {
    for (const key of ['issuer', 'audience', 'userClaim'] as const) {
      if (reader.isSet(key) || (key === 'userClaim' && hasAuthorizeSql)) continue;
      reader.report(`FLAGCAST_JWKS_URL needs ${settings[key].variable}: set it to ${requiredWithJwks[key]}`);
    }
  }
  const { userClaim } = checks;
  if (userClaim !== undefined && (parseUserClaim(userClaim).column === null) !== hasAuthorizeSql) {
    reader.report(
      hasAuthorizeSql
        ? 'FLAGCAST_JWT_USER_CLAIM names a column of users, but FLAGCAST_AUTHORIZE_SQL is for users of other tables: write the claim alone, such as sub'
        : 'FLAGCAST_JWT_USER_CLAIM names no column of users: write claim:column, such as sub:id, preferred_username:username or email:email',
    );
  }
  if (jwtSecret !== null) return { secret: jwtSecret, ...checks };
  const { issuer = '', audience = '' } = checks;
  return jwksUrl === null ? null : { jwksUrl, ...checks, issuer, audience };
}

function refuseContradictions(reader: SettingsReader, values: Values<PlainKey>): void {
  const { authorizeSql, writes, port, metricsPort } = values;
  if (!reader.isSet('databaseUrl')) {
    if (reader.isSet('listenUrl')) {
      reader.report(
        'FLAGCAST_LISTEN_URL is set, but no database: set DATABASE_URL, too, or unset FLAGCAST_LISTEN_URL',
      );
    }
    if (authorizeSql !== null) {
      reader.report(
        'FLAGCAST_AUTHORIZE_SQL is for a database of yours: set DATABASE_URL, or unset FLAGCAST_AUTHORIZE_SQL',
      );
    }
  }
  if (authorizeSql !== null && writes === true) {
    reader.report(
      "FLAGCAST_WRITES=on needs the users and roles of Togglr's tables, FLAGCAST_AUTHORIZE_SQL is for other ones: unset one of them",
    );
  }
  if (metricsPort !== null && metricsPort === port) {
    reader.report(
      `FLAGCAST_METRICS_PORT and PORT are both ${port}: give each a port of its own, or unset FLAGCAST_METRICS_PORT`,
    );
  }
}

/** Each worker is a server with its own sessions, so the default grows with the workers. */
function connectionsOf(
  reader: SettingsReader,
  values: Values<'databaseConnections' | 'workers'>,
  needs: SessionNeeds,
): number {
  // Null if it is wrong, which is reported.
  const workers = (values.workers as number | null) ?? 1;
  const minimum = minCommandConnections(workers, needs);
  const connections = values.databaseConnections;
  if (connections !== null && connections < minimum) {
    const server = workers === 1 ? 'this server' : `${workers} workers`;
    reader.report(
      `FLAGCAST_DB_CONNECTIONS: ${connections} are too few for ${server}; give ${minimum} or more`,
    );
  }
  return connections ?? Math.max(defaultDatabaseConnections, minimum);
}

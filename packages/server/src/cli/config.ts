import type { TokenOptions, TokenChecks } from '../auth/token-verifier.js';
import { parseUserClaim } from '../auth/user-claim.js';
import {
  defaultDatabaseConnections,
  minCommandConnections,
  type SessionNeeds,
} from '../postgres/database-sessions.js';
import { defaultDataDir } from './data-folder.js';
import { type Setting, type SettingKey, settings, type Values } from './settings.js';

/** The texts of options on the command line, by the key of their setting. */
export type Flags = { readonly [Key in SettingKey]?: string | undefined };

export type Environment = Readonly<Record<string, string | undefined>>;

/** Lists everything that is wrong with the settings, one line each. Never holds a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
}

/**
 * Options take precedence over variables. A setting that is not set and has no default is null.
 *
 * @throws ConfigError naming every wrong variable or option, and its valid values.
 */
export function readSettings<Key extends SettingKey>(
  keys: readonly Key[],
  environment: Environment,
  flags: Flags = {},
): Values<Key> {
  const problems: string[] = [];
  const valueOf = (key: SettingKey): unknown => {
    const { variable, option = '', parser, default: value }: Setting = settings[key];
    const ofVariable = environment[variable]?.trim();
    // Compose files and charts pass an empty variable for one that is not set. An empty DATABASE_URL is an error,
    // because the server would silently serve another database.
    const isUnset = ofVariable === '' && key !== 'databaseUrl';
    const text = flags[key] ?? (isUnset ? undefined : ofVariable) ?? value;
    if (text === undefined) return null;
    try {
      return parser.parse(text);
    } catch (error) {
      const name = flags[key] === undefined ? variable : `--${option}`;
      problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return null;
    }
  };
  const values = Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as Values<Key>;
  refuse(problems);
  return values;
}

export const tokenSettings = ['jwtSecret', 'issuer', 'audience', 'userClaim', 'maxTokenAgeMs'] as const;
const traceSettings = ['otlpEndpoint', 'otlpTracesEndpoint', 'otelDisabled'] as const;
export const serveSettings = Object.keys(settings) as SettingKey[];

type SeparateKey = 'jwksUrl' | (typeof tokenSettings)[number] | (typeof traceSettings)[number];

/** The settings of `serve`. Plain data, so that it can be sent to workers. */
export interface ServeConfig extends Omit<
  Values<SettingKey>,
  SeparateKey | 'databaseConnections' | 'writes'
> {
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
  const values = readSettings(serveSettings, environment, flags);
  const { jwtSecret, jwksUrl, issuer, audience, userClaim, maxTokenAgeMs, ...others } = values;
  const { otlpEndpoint, otlpTracesEndpoint, otelDisabled, ...plain } = others;
  const { databaseUrl, host, allowedHosts, dataDir, relayUrl } = plain;
  refuse(contradictions(values));
  const tokenChecks = tokenChecksOf({ issuer, audience, userClaim, maxTokenAgeMs });
  let auth: TokenOptions | null = null;
  if (jwtSecret !== null) auth = { secret: jwtSecret, ...tokenChecks };
  if (jwksUrl !== null) auth = { jwksUrl, ...tokenChecks, issuer: issuer ?? '', audience: audience ?? '' };
  const writes = plain.writes ?? databaseUrl === null;
  return {
    ...plain,
    databaseConnections: connectionsOf(values, { writes, relay: relayUrl !== null }),
    auth,
    tokenChecks,
    writes,
    // The demo signs in with one click, so a page that resolves its own name to it (DNS rebinding) must be refused.
    allowedHosts:
      databaseUrl === null ? ['localhost', host.replace(/%.*/, ''), ...(allowedHosts ?? [])] : allowedHosts,
    traces: otelDisabled.toLowerCase() !== 'true' && (otlpEndpoint ?? otlpTracesEndpoint) !== null,
    dataDir: dataDir ?? defaultDataDir(environment),
    dataDirChosen: dataDir !== null,
  };
}

/** The settings of the commands that sign tokens and use the embedded demo. `dataDir` is null without a home directory. */
export interface LocalConfig extends Pick<ServeConfig, 'databaseUrl' | 'tokenChecks' | 'dataDir'> {
  readonly secret: string | null;
}

/** @throws ConfigError */
export function loadLocalConfig(environment: Environment, flags: Flags): LocalConfig {
  const { databaseUrl, dataDir, jwtSecret, ...checks } = readSettings(
    ['databaseUrl', 'dataDir', ...tokenSettings],
    environment,
    flags,
  );
  const tokenChecks = tokenChecksOf(checks);
  return { databaseUrl, secret: jwtSecret, tokenChecks, dataDir: dataDir ?? defaultDataDir(environment) };
}

/**
 * The database of a command that has no default database.
 *
 * @throws ConfigError
 */
export function loadDatabaseUrl(environment: Environment, flags: Flags): string {
  const { databaseUrl } = readSettings(['databaseUrl'], environment, flags);
  if (databaseUrl !== null) return databaseUrl;
  throw new ConfigError(
    'A database is required: add --database-url postgresql://user:password@host:5432/database, or set DATABASE_URL',
  );
}

/** Without what is not set. */
function tokenChecksOf(values: Values<keyof TokenChecks>): TokenChecks {
  const checks = Object.entries(values).filter(([, value]) => value !== null);
  return Object.fromEntries(checks) as TokenChecks;
}

const requiredWithJwks = {
  issuer: 'the "iss" of the tokens',
  audience: 'the "aud" of tokens for this server, so that tokens for other services are refused',
  userClaim:
    'the claim that identifies the user and the column of users that it is compared with, such as email:email',
} as const;

/** What is wrong with settings together, a line each. */
function contradictions(values: Values<SettingKey>): string[] {
  const { databaseUrl, listenUrl, jwtSecret, jwksUrl, userClaim, authorizeSql, port, metricsPort } = values;
  const hasOwnUsers = authorizeSql !== null;
  const claimNamesColumn = userClaim === null ? null : parseUserClaim(userClaim).column !== null;
  const missing = (['issuer', 'audience', 'userClaim'] as const).filter(
    (key) => jwksUrl !== null && values[key] === null && !(key === 'userClaim' && hasOwnUsers),
  );
  return [
    jwtSecret !== null &&
      jwksUrl !== null &&
      'FLAGCAST_JWT_SECRET and FLAGCAST_JWKS_URL are both set: unset one of them',
    databaseUrl !== null &&
      (jwtSecret ?? jwksUrl) === null &&
      'No setting says how to check tokens: set FLAGCAST_JWT_SECRET to the secret that signs them (at least 32 bytes), or FLAGCAST_JWKS_URL to the address of their keys',
    ...(jwtSecret === null ? missing : []).map(
      (key) => `FLAGCAST_JWKS_URL needs ${settings[key].variable}: set it to ${requiredWithJwks[key]}`,
    ),
    claimNamesColumn === true &&
      hasOwnUsers &&
      'FLAGCAST_JWT_USER_CLAIM names a column of users, but FLAGCAST_AUTHORIZE_SQL is for users of other tables: write the claim alone, such as sub',
    claimNamesColumn === false &&
      !hasOwnUsers &&
      'FLAGCAST_JWT_USER_CLAIM names no column of users: write claim:column, such as sub:id, preferred_username:username or email:email',
    databaseUrl === null &&
      listenUrl !== null &&
      'FLAGCAST_LISTEN_URL is set, but no database: set DATABASE_URL, too, or unset FLAGCAST_LISTEN_URL',
    databaseUrl === null &&
      hasOwnUsers &&
      'FLAGCAST_AUTHORIZE_SQL is for a database of yours: set DATABASE_URL, or unset FLAGCAST_AUTHORIZE_SQL',
    hasOwnUsers &&
      values.writes === true &&
      "FLAGCAST_WRITES=on needs the users and roles of Togglr's tables, FLAGCAST_AUTHORIZE_SQL is for other ones: unset one of them",
    metricsPort !== null &&
      metricsPort === port &&
      `FLAGCAST_METRICS_PORT and PORT are both ${port}: give each a port of its own, or unset FLAGCAST_METRICS_PORT`,
  ].filter((problem) => problem !== false);
}

/**
 * The sessions of all workers. Each is a server with its own sessions, so the default grows with the workers.
 *
 * @throws ConfigError
 */
export function connectionsOf(
  { workers, databaseConnections }: Values<'databaseConnections' | 'workers'>,
  needs: SessionNeeds,
): number {
  const minimum = minCommandConnections(workers, needs);
  if (databaseConnections !== null && databaseConnections < minimum) {
    const server = workers === 1 ? 'this server' : `${workers} workers`;
    throw new ConfigError(
      `FLAGCAST_DB_CONNECTIONS: ${databaseConnections} are too few for ${server}; give ${minimum} or more`,
    );
  }
  return databaseConnections ?? Math.max(defaultDatabaseConnections, minimum);
}

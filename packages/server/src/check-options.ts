import type { FlagcastOptions } from './flagcast-options.js';

/** `count`: a whole number from 1. `duration`: milliseconds. `timer`: milliseconds of a timer of Node, from 1. */
type Kind = 'any' | 'list' | 'count' | 'duration' | 'timer';

type Group = 'database' | 'auth' | 'network' | 'limits' | 'timeouts';
type KeyOf<Type> = Type extends unknown ? keyof Type : never;
type Kinds<Type> = Readonly<Record<KeyOf<Type>, Kind>>;

const all = <Name extends string>(kind: Kind, names: readonly Name[]): Record<Name, Kind> =>
  Object.fromEntries(names.map((name) => [name, kind])) as Record<Name, Kind>;

const groups: { readonly [Name in Group]: Kinds<NonNullable<FlagcastOptions[Name]>> } = {
  database: {
    ...all('any', ['url', 'pool', 'listenUrl', 'view']),
    ...all('duration', ['overlapMs', 'logRetentionMs']),
    connections: 'count',
    pollIntervalMs: 'timer',
  },
  auth: {
    ...all('any', ['secret', 'jwksUrl', 'issuer', 'audience', 'userClaim', 'authenticate']),
    ...all('any', ['authorize', 'authorizeSql', 'allowQueryToken']),
    maxTokenAgeMs: 'duration',
  },
  network: { ...all('list', ['allowedOrigins', 'allowedHosts', 'trustedProxies']), basePath: 'any' },
  limits: {
    ...all('count', ['connectionsPerUser', 'connectionsPerAddress', 'unauthenticatedConnections']),
    ...all('count', ['responseBytes', 'replayEvents']),
  },
  timeouts: {
    ...all('timer', ['checkIntervalMs', 'pingIntervalMs', 'keepAliveIntervalMs', 'recheckIntervalMs']),
    ...all('timer', ['heartbeatIntervalMs', 'queryTimeoutMs', 'readTimeoutMs', 'handshakeTimeoutMs']),
    ...all('timer', ['requestHeadersTimeoutMs', 'idleTimeoutMs', 'refusedCloseTimeoutMs']),
    ...all('duration', ['recheckTimeoutMs', 'slowTimeoutMs', 'staleTimeoutMs', 'tokenTtlMs']),
    ...all('duration', ['readinessGraceMs', 'readinessLagMs']),
  },
};

const names: Kinds<FlagcastOptions> = {
  ...all('any', ['database', 'auth', 'network', 'limits', 'timeouts', 'console', 'writes', 'presence']),
  ...all('any', ['eventTypes', 'separateMonitoring', 'metricsRegistry', 'lifecycle', 'relay']),
  socketWriter: 'any',
};

/** Options of earlier builds that now have another name. Those that kept their name are found in the groups. */
const renamed: Readonly<Record<string, string>> = {
  databaseUrl: 'database.url',
  databaseConnections: 'database.connections',
  maxConnectionsPerUser: 'limits.connectionsPerUser',
  maxConnectionsPerAddress: 'limits.connectionsPerAddress',
  maxUnauthenticatedConnections: 'limits.unauthenticatedConnections',
  answerMemoryBytes: 'limits.responseBytes',
  ringEvents: 'limits.replayEvents',
  timing: 'timeouts',
  consoleDir: 'console, with flagcastConsole({ pagesDir }) of @flagcast/console',
  demoPeople: 'console, with flagcastConsole({ demoUsers }) of @flagcast/console',
  relayUrl: 'relay, with natsRelay({ url }) of @flagcast/relay-nats',
  relayKeepMs: 'relay, with natsRelay({ url, retentionMs }) of @flagcast/relay-nats',
  ioUring: 'socketWriter, with ioUring of @flagcast/io-uring',
};

/**
 * Checks the names of options, their lists and their numbers. JavaScript ignores an unknown `network.allowedHost`, and
 * NaN limits nothing.
 *
 * @throws Error of one line, which names the option.
 */
export function checkOptions(options: FlagcastOptions): void {
  checkGroup('', options, names);
  for (const [group, kinds] of Object.entries(groups))
    checkGroup(group, options[group as Group] ?? {}, kinds);
}

function checkGroup(group: string, values: unknown, kinds: Readonly<Record<string, Kind>>): void {
  if (typeof values !== 'object' || values === null) {
    throw new Error(`${group === '' ? 'There are no options' : `${group} is not an object`}: give an object`);
  }
  for (const [key, value] of Object.entries(values)) {
    const name = group === '' ? key : `${group}.${key}`;
    const kind = Object.hasOwn(kinds, key) ? kinds[key] : undefined;
    if (value === undefined) continue;
    if (kind === undefined) throw new Error(`${name} is not an option${placeOf(key)}`);
    if (value === null) throw new Error(`${name} is null: leave it out for its default`);
    if (kind === 'list' && !Array.isArray(value))
      throw new Error(`${name} is not an array: give an array of texts`);
    if (kind !== 'any' && kind !== 'list') checkNumber(name, value, kind);
  }
}

function placeOf(name: string): string {
  const [group] = Object.entries(groups).find(([, kinds]) => Object.hasOwn(kinds, name)) ?? [];
  const place = Object.hasOwn(renamed, name) ? renamed[name] : group && `${group}.${name}`;
  return place === undefined ? ': correct its name, or leave it out' : `: use ${place}`;
}

/** A timer of Node with a longer time, or with NaN, would end after 1 ms. */
const longestTimerMs = 2_147_483_647;

function checkNumber(name: string, value: unknown, kind: Exclude<Kind, 'any' | 'list'>): void {
  const least = kind === 'duration' ? 0 : 1;
  const most = kind === 'timer' ? longestTimerMs : Number.MAX_SAFE_INTEGER;
  const isValid = typeof value === 'number' && value >= least && value <= most;
  if (isValid && (kind !== 'count' || Number.isInteger(value))) return;
  const range = kind === 'timer' ? `from 1 to ${longestTimerMs}` : `${least} or more`;
  throw new Error(
    `${name} is ${String(value)}: give a ${kind === 'count' ? 'whole number' : 'number of milliseconds'}, ${range}`,
  );
}

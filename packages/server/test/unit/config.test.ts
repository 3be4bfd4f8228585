import { availableParallelism } from 'node:os';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, type Flags, loadConfig, loadDatabaseUrl } from '../../src/cli/config.js';
import { anyCharacter } from '../../../../testing/testkit/any-character.ts';

const secret = 'a-secret-of-more-than-thirty-two-bytes';
const database = { DATABASE_URL: 'postgresql://u:hunter2@db/flags', FLAGCAST_JWT_SECRET: secret };

/** The lines of the error; empty if all settings are accepted. */
function problems(environment: Record<string, string>, flags: Flags = {}): string[] {
  try {
    loadConfig(environment, flags);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
}

describe('the settings of flagcast serve', () => {
  it('have defaults for an embedded database', () => {
    expect(loadConfig({ FLAGCAST_DATA_DIR: '/data' }, {})).toEqual({
      databaseUrl: null,
      databaseConnections: 10,
      listenUrl: null,
      auth: null,
      tokenChecks: {},
      port: 8080,
      host: '127.0.0.1',
      pollIntervalMs: 1_000,
      readinessGraceMs: null,
      traces: false,
      workers: 1,
      view: null,
      overlapMs: 60_000,
      logRetentionMs: 604_800_000,
      relayUrl: null,
      metricsPort: null,
      basePath: '',
      allowedHosts: ['localhost', '127.0.0.1'],
      allowedOrigins: [],
      allowQueryToken: false,
      authorizeSql: null,
      eventTypes: 'spec',
      presence: true,
      trustedProxies: [],
      writes: true,
      ioUring: true,
      connectionsPerUser: 100,
      connectionsPerAddress: 1_000,
      responseBytes: 67_108_864,
      unauthenticatedConnections: 10_000,
      dataDir: '/data',
      dataDirChosen: true,
    });
  });

  it('are read from their variables', () => {
    const environment = {
      ...database,
      PORT: '0',
      HOST: '::1',
      FLAGCAST_POLL_INTERVAL: '250ms',
      FLAGCAST_READY_GRACE: '40s',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces',
      FLAGCAST_WORKERS: '3',
      FLAGCAST_DB_CONNECTIONS: '40',
      FLAGCAST_LISTEN_URL: 'postgresql://u:hunter2@primary/flags',
      FLAGCAST_ALLOWED_ORIGINS: 'https://a.example.com, http://b.example.com:8080,null',
      FLAGCAST_VIEW: 'app."Flag events"',
      FLAGCAST_OVERLAP: '90s',
      FLAGCAST_LOG_RETENTION: '2d',
      FLAGCAST_RELAY_URL: 'nats://u:hunter2@one:4222,tls://two',
      FLAGCAST_QUERY_TOKEN: 'allow',
      FLAGCAST_AUTHORIZE_SQL: ' SELECT 1; ',
      FLAGCAST_EVENT_TYPES: 'togglr',
      FLAGCAST_PRESENCE: 'off',
      FLAGCAST_TRUSTED_PROXIES: '127.0.0.1, fd00::/8,',
      FLAGCAST_IO_URING: 'off',
      FLAGCAST_DATA_DIR: '/data',
      FLAGCAST_MAX_CONNECTIONS_PER_USER: '3',
      FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS: '7',
      FLAGCAST_ANSWER_MEMORY_MB: '128',
      FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS: '9',
      FLAGCAST_METRICS_PORT: '9464',
      FLAGCAST_BASE_PATH: '/flagcast',
      FLAGCAST_ALLOWED_HOSTS: 'flags.example.com, 10.0.0.21,::1',
    };
    expect(loadConfig(environment, {})).toEqual({
      databaseUrl: database.DATABASE_URL,
      databaseConnections: 40,
      listenUrl: 'postgresql://u:hunter2@primary/flags',
      tokenChecks: {},
      auth: { secret },
      port: 0,
      host: '::1',
      pollIntervalMs: 250,
      readinessGraceMs: 40_000,
      traces: true,
      workers: 3,
      view: 'app."Flag events"',
      overlapMs: 90_000,
      logRetentionMs: 172_800_000,
      relayUrl: 'nats://u:hunter2@one:4222,tls://two',
      allowedOrigins: ['https://a.example.com', 'http://b.example.com:8080', 'null'],
      allowQueryToken: true,
      authorizeSql: 'SELECT 1;',
      eventTypes: 'togglr',
      presence: false,
      trustedProxies: ['127.0.0.1', 'fd00::/8'],
      writes: false,
      ioUring: false,
      connectionsPerUser: 3,
      connectionsPerAddress: 7,
      responseBytes: 134_217_728,
      unauthenticatedConnections: 9,
      metricsPort: 9464,
      basePath: '/flagcast',
      allowedHosts: ['flags.example.com', '10.0.0.21', '::1'],
      dataDir: '/data',
      dataDirChosen: true,
    });
  });

  it('have one worker for each processor, at most 8, with --workers auto', () => {
    const { workers } = loadConfig(database, { workers: 'auto' });
    expect(workers).toBe(Math.min(availableParallelism(), 8));
  });

  it('prefer an option to its variable, even to an invalid one', () => {
    const environment = { ...database, PORT: 'nonsense', HOST: '0.0.0.0', FLAGCAST_POLL_INTERVAL: '9s' };
    const flags = { port: '81', host: 'localhost', pollIntervalMs: '2s', databaseUrl: 'postgres://other/x' };
    expect(loadConfig(environment, flags)).toMatchObject({
      port: 81,
      host: 'localhost',
      pollIntervalMs: 2_000,
      databaseUrl: 'postgres://other/x',
    });
  });

  it('allow any host with a database, and only loopback, --host and listed hosts without one', () => {
    const hosts = { FLAGCAST_ALLOWED_HOSTS: 'flags.test' };
    expect(loadConfig(database, {}).allowedHosts).toBeNull();
    expect(loadConfig({ ...database, ...hosts }, {}).allowedHosts).toEqual(['flags.test']);
    expect(loadConfig(hosts, { host: 'fe80::7%eth0' }).allowedHosts).toEqual([
      'localhost',
      'fe80::7',
      'flags.test',
    ]);
  });

  it('refuse the same port for monitoring and for everything else', () => {
    expect(problems({ ...database, PORT: '9464', FLAGCAST_METRICS_PORT: '9464' })).toEqual([
      'FLAGCAST_METRICS_PORT and PORT are both 9464: give each a port of its own, or unset FLAGCAST_METRICS_PORT',
    ]);
  });

  it('enable writes only in the embedded database by default', () => {
    expect(loadConfig({}, {}).writes).toBe(true);
    expect(loadConfig({ FLAGCAST_WRITES: 'off' }, {}).writes).toBe(false);
    expect(loadConfig(database, {}).writes).toBe(false);
    expect(loadConfig({ ...database, FLAGCAST_WRITES: 'on' }, {}).writes).toBe(true);
  });

  it('enable io_uring by default', () => {
    expect(loadConfig(database, {}).ioUring).toBe(true);
    expect(loadConfig({ ...database, FLAGCAST_IO_URING: 'on' }, {}).ioUring).toBe(true);
    expect(loadConfig({ ...database, FLAGCAST_IO_URING: 'off' }, {}).ioUring).toBe(false);
  });

  it('treat an empty variable as not set', () => {
    const environment = { PORT: '', HOST: ' ', FLAGCAST_JWKS_URL: '', FLAGCAST_ALLOWED_ORIGINS: '' };
    expect(loadConfig(environment, {})).toMatchObject({ port: 8080, host: '127.0.0.1', auth: null });
  });

  it.each([
    ['DATABASE_URL', 'mysql://u:hunter2@db/x', 'postgresql://'],
    ['DATABASE_URL', 'hunter2', 'postgresql://'],
    ['FLAGCAST_LISTEN_URL', 'hunter2', 'postgresql://'],
    ['DATABASE_URL', 'postgres://u:hunter2@db:port/x', 'postgresql://'],
    ['FLAGCAST_RELAY_URL', 'http://u:hunter2@nats', 'nats://user:password@host:4222'],
    ['FLAGCAST_RELAY_URL', 'nats://u:hunter2@one,two:4222', 'nats://user:password@host:4222'],
    ['FLAGCAST_RELAY_URL', 'nats://u:hunter2%@nats', 'percent-encoded'],
    // If the invalid value was ignored, the server would silently use another database.
    ['DATABASE_URL', '', 'it is empty'],
    ['PORT', '80a', '0 to 65535'],
    ['PORT', '65536', '0 to 65535'],
    ['PORT', '-1', '0 to 65535'],
    ['HOST', 'http://x', '127.0.0.1'],
    ['FLAGCAST_JWT_SECRET', 'hunter2', 'at least 32'],
    ['FLAGCAST_JWKS_URL', 'ftp://keys', 'http(s)://'],
    ['FLAGCAST_JWT_MAX_AGE', '59s', '1m to 3650d'],
    ['FLAGCAST_JWT_MAX_AGE', '3600', 'write a number and a unit'],
    ['FLAGCAST_JWKS_URL', 'https://u:hunter2@keys', 'http(s)://'],
    ['FLAGCAST_POLL_INTERVAL', '5', '500ms'],
    ['FLAGCAST_POLL_INTERVAL', '1ms', '10ms to 1h'],
    ['FLAGCAST_POLL_INTERVAL', '2h', '10ms to 1h'],
    ['FLAGCAST_WORKERS', '0', '1 to 64'],
    ['FLAGCAST_WORKERS', 'all', '1 to 64 or auto'],
    ['FLAGCAST_VIEW', 'v; DROP TABLE users', 'schema.view'],
    ['FLAGCAST_VIEW', 'a.b.c', 'schema.view'],
    ['FLAGCAST_OVERLAP', '60', '500ms'],
    ['FLAGCAST_OVERLAP', '2h', '1s to 1h'],
    ['FLAGCAST_READY_GRACE', '2h', '1s to 1h'],
    ['FLAGCAST_LOG_RETENTION', '59s', '1m to 3650d'],
    ['FLAGCAST_LOG_RETENTION', '3651d', '1m to 3650d'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317', 'http(s)://host:4318'],
    ['FLAGCAST_ALLOWED_ORIGINS', 'https://a.example.com/path', 'scheme://host'],
    ['FLAGCAST_QUERY_TOKEN', 'yes', 'allow or deny'],
    ['FLAGCAST_EVENT_TYPES', 'Togglr', 'spec or togglr'],
    ['FLAGCAST_TRUSTED_PROXIES', 'nginx', '10.0.0.0/8'],
    ['FLAGCAST_TRUSTED_PROXIES', '10.0.0.0/33', '10.0.0.0/8'],
    ['FLAGCAST_WRITES', 'yes', 'on or off'],
    ['FLAGCAST_IO_URING', 'false', 'on or off'],
    ['FLAGCAST_MAX_CONNECTIONS_PER_USER', '0', '1 to'],
    ['FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS', '1.5', '1 to'],
    ['FLAGCAST_MAX_UNAUTHENTICATED_CONNECTIONS', '0', '1 to'],
    ['FLAGCAST_METRICS_PORT', '0', '1 to 65535'],
    ['FLAGCAST_ALLOWED_HOSTS', 'https://flags.example.com', 'without scheme and port'],
    ['FLAGCAST_ALLOWED_HOSTS', 'flags.example.com:8080', 'without scheme and port'],
  ])('refuse %s=%s by its name, with the accepted values', (name, value, accepted) => {
    const [line = '', ...others] = problems({
      [name]: value,
      ...(name === 'DATABASE_URL' ? { FLAGCAST_JWT_SECRET: secret } : {}),
      ...(name === 'FLAGCAST_LISTEN_URL' ? database : {}),
    });
    expect(others).toEqual([]);
    expect(line).toMatch(new RegExp(`^${name}: `));
    expect(line).toContain(accepted);
    expect(line).not.toContain('hunter2');
  });

  it.each([
    ['--database-url', { databaseUrl: 'db' }],
    ['--port', { port: 'x' }],
    ['--host', { host: '' }],
    ['--poll-interval', { pollIntervalMs: 'x' }],
    ['--workers', { workers: '1.5' }],
  ])('refuse an invalid %s by its name', (name, flags) => {
    const [line = ''] = problems({ FLAGCAST_JWT_SECRET: secret }, flags);
    expect(line).toMatch(new RegExp(`^${name}: `));
  });

  it('report all errors at once, one line each', () => {
    const lines = problems(
      { PORT: 'x', FLAGCAST_QUERY_TOKEN: 'x', FLAGCAST_JWT_SECRET: 'short' },
      { host: '?' },
    );
    expect(lines.map((line) => line.split(':', 1)[0]).toSorted()).toEqual([
      '--host',
      'FLAGCAST_JWT_SECRET',
      'FLAGCAST_QUERY_TOKEN',
      'PORT',
    ]);
  });

  it('refuse FLAGCAST_LISTEN_URL without a database', () => {
    expect(problems({ FLAGCAST_LISTEN_URL: database.DATABASE_URL })).toEqual([
      expect.stringMatching(/^FLAGCAST_LISTEN_URL is set, but no database: set DATABASE_URL/),
    ]);
  });

  it('require exactly one way to check tokens with a database', () => {
    const { DATABASE_URL } = database;
    const jwks = { FLAGCAST_JWKS_URL: 'https://keys.example.com/jwks' };
    expect(problems({ DATABASE_URL })).toEqual([
      expect.stringMatching(/FLAGCAST_JWT_SECRET.*FLAGCAST_JWKS_URL/),
    ]);
    expect(problems({ ...database, ...jwks })).toEqual([expect.stringMatching(/both set/)]);
    expect(problems({ FLAGCAST_JWT_SECRET: secret, ...jwks })).toEqual([expect.stringMatching(/both set/)]);
    const claims = { FLAGCAST_JWT_ISSUER: 'https://id.example.com', FLAGCAST_JWT_AUDIENCE: 'flagcast' };
    const checks = { issuer: 'https://id.example.com', audience: 'flagcast' };
    const user = { FLAGCAST_JWT_USER_CLAIM: 'email:email', FLAGCAST_JWT_MAX_AGE: '12h' };
    const userChecks = { userClaim: 'email:email', maxTokenAgeMs: 43_200_000 };
    expect(loadConfig({ DATABASE_URL, ...jwks, ...claims, ...user }, {}).auth).toEqual({
      jwksUrl: jwks.FLAGCAST_JWKS_URL,
      ...checks,
      ...userChecks,
    });
    expect(loadConfig({ ...database, ...claims, ...user }, {}).auth).toEqual({
      secret,
      ...checks,
      ...userChecks,
    });
    expect(loadConfig({ FLAGCAST_JWT_SECRET: secret }, {}).auth).toEqual({ secret });
    // The demo signs and checks tokens with its own secret.
    expect(loadConfig(claims, {})).toMatchObject({ auth: null, tokenChecks: checks });
  });

  it('require issuer, audience and user claim with FLAGCAST_JWKS_URL', () => {
    const { DATABASE_URL } = database;
    const keys = { DATABASE_URL, FLAGCAST_JWKS_URL: 'https://keys.example.com/jwks' };
    const both = { FLAGCAST_JWT_ISSUER: 'https://id.example.com', FLAGCAST_JWT_AUDIENCE: 'flagcast' };
    expect(problems(keys)).toEqual([
      expect.stringMatching(/^FLAGCAST_JWKS_URL needs FLAGCAST_JWT_ISSUER: set it to the "iss" /),
      expect.stringMatching(/^FLAGCAST_JWKS_URL needs FLAGCAST_JWT_AUDIENCE: set it to the "aud" /),
      expect.stringMatching(/^FLAGCAST_JWKS_URL needs FLAGCAST_JWT_USER_CLAIM: .* such as email:email$/),
    ]);
    const ownUsers = { FLAGCAST_AUTHORIZE_SQL: 'SELECT 1' };
    expect(loadConfig({ ...keys, ...both, ...ownUsers }, {}).auth).not.toHaveProperty('userClaim', 'sub');
    expect(problems({ ...keys, ...both, ...ownUsers, FLAGCAST_JWT_USER_CLAIM: 'sub:id' })).toEqual([
      expect.stringMatching(/^FLAGCAST_JWT_USER_CLAIM names a column of users, .*write the claim alone/),
    ]);
    expect(problems({ ...keys, ...both, FLAGCAST_JWT_USER_CLAIM: 'sub' })).toEqual([
      expect.stringMatching(/^FLAGCAST_JWT_USER_CLAIM names no column of users: write claim:column/),
    ]);
    expect(problems({ ...keys, ...both, FLAGCAST_JWT_USER_CLAIM: 'sub:name' })).toEqual([
      expect.stringMatching(/^FLAGCAST_JWT_USER_CLAIM: "sub:name" does not say which claim/),
    ]);
  });
});

describe('FLAGCAST_AUTHORIZE_SQL', () => {
  const authorize = { FLAGCAST_AUTHORIZE_SQL: 'SELECT 1' };

  it('requires a database', () => {
    expect(problems(authorize)).toEqual([
      expect.stringMatching(/^FLAGCAST_AUTHORIZE_SQL .*set DATABASE_URL/),
    ]);
  });

  it('excludes writes', () => {
    expect(problems({ ...database, ...authorize, FLAGCAST_WRITES: 'on' })).toEqual([
      expect.stringMatching(/^FLAGCAST_WRITES=on .*FLAGCAST_AUTHORIZE_SQL.*unset one/),
    ]);
    expect(loadConfig({ ...database, ...authorize, FLAGCAST_WRITES: 'off' }, {})).toMatchObject({
      authorizeSql: 'SELECT 1',
      writes: false,
    });
  });
});

describe('the database of install and uninstall', () => {
  it('comes from the option, else from DATABASE_URL, and has no default', () => {
    expect(loadDatabaseUrl(database, { databaseUrl: 'postgres://a/b' })).toBe('postgres://a/b');
    expect(loadDatabaseUrl(database, {})).toBe(database.DATABASE_URL);
    expect(() => loadDatabaseUrl({}, {})).toThrow(/--database-url/);
  });
});

describe('a setting with any text', () => {
  const names = [
    'DATABASE_URL',
    'FLAGCAST_LISTEN_URL',
    'FLAGCAST_DB_CONNECTIONS',
    'PORT',
    'HOST',
    'FLAGCAST_JWT_SECRET',
    'FLAGCAST_JWKS_URL',
    'FLAGCAST_JWT_USER_CLAIM',
    'FLAGCAST_JWT_MAX_AGE',
    'FLAGCAST_POLL_INTERVAL',
    'FLAGCAST_WORKERS',
    'FLAGCAST_VIEW',
    'FLAGCAST_OVERLAP',
    'FLAGCAST_RELAY_URL',
    'FLAGCAST_READY_GRACE',
    'FLAGCAST_LOG_RETENTION',
    'FLAGCAST_ALLOWED_ORIGINS',
    'FLAGCAST_QUERY_TOKEN',
    'FLAGCAST_EVENT_TYPES',
    'FLAGCAST_TRUSTED_PROXIES',
    'FLAGCAST_WRITES',
    'FLAGCAST_IO_URING',
    'FLAGCAST_MAX_CONNECTIONS_PER_USER',
    'FLAGCAST_MAX_CONNECTIONS_PER_ADDRESS',
  ];
  const value = fc.oneof(
    fc.string({ minLength: 1, unit: anyCharacter }),
    fc.stringMatching(/^postgres:\/\/[a-z:@%/[\]]{1,20}$/),
    fc.stringMatching(/^[\da-f.:/, ]{1,20}$/),
  );

  it('is accepted, or refused with the name of its variable in one line', () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), value, (name, text) => {
        // The other settings are valid, so that only this one can be refused.
        const environment = name.endsWith('_URL') ? {} : database;
        const lines = problems({ ...environment, [name]: text });
        expect(lines.length).toBeLessThanOrEqual(2);
        for (const line of lines)
          expect(line).toMatch(/^(No setting says how|FLAGCAST_\w+|DATABASE_URL|PORT|HOST)\b/);
      }),
      { numRuns: 400 },
    );
  });

  it('is not quoted if it may be a secret', () => {
    fc.assert(
      fc.property(fc.constantFrom(...names.filter((name) => /_URL|SECRET/.test(name))), (name) => {
        for (const text of ['hunter2', 'x://u:hunter2@h', 'postgres://u:hunter2@[', 'https://u:hunter2@h']) {
          expect(problems({ [name]: text }).join('\n')).not.toContain('hunter2');
        }
      }),
      { numRuns: 20 },
    );
  });
});

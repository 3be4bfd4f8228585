import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFlagcast, FlagcastError, type AuthorizedChannel } from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { testSecret } from './server.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
});
afterAll(async () => await database.drop());

describe('createFlagcast', () => {
  const authorize = async (): Promise<AuthorizedChannel[]> => await Promise.resolve([]);
  const auth = { secret: testSecret };
  /** The value that a JavaScript program reads from an unset variable. */
  const unset = undefined as unknown as string;

  it.each([
    ['no database', { database: { url: unset }, auth }, /^There is no database.url: give postgresql:/],
    [
      'a URL and a pool',
      { database: { url: 'postgresql://localhost/app', pool: new pg.Pool() } as never, auth },
      /^database.url and database.pool exclude each other/,
    ],
    [
      'a text that is no URL',
      { database: { url: 'app_db' }, auth },
      /^database.url is not the URL of a PostgreSQL database: give postgresql:/,
    ],
    [
      'the URL of another database system',
      { database: { url: 'mysql://user:hunter2@localhost/app' }, auth },
      /^database.url is not the URL of a PostgreSQL database: give postgresql:(?!.*hunter2)/,
    ],
    [
      'a listenUrl of another database system',
      { database: { url: 'postgresql://localhost/app', listenUrl: 'mysql://localhost/app' }, auth },
      /^database.listenUrl is not the URL of a PostgreSQL database: give postgresql:/,
    ],
    ['a pg.Client as pool', { database: { pool: new pg.Client() }, auth }, /^database.pool is not a pg.Pool/],
    ['an empty secret', { auth: { secret: '' } }, /secret/],
    [
      'no authentication',
      { auth: {} },
      /^No authentication: set auth.secret, auth.jwksUrl or auth.authenticate/,
    ],
    [
      'both authorize and authorizeSql',
      { auth: { ...auth, authorize, authorizeSql: 'SELECT 1' } },
      /exclude each other/,
    ],
    ['writes with authorize', { auth: { ...auth, authorize }, writes: true }, /it excludes auth.authorize/],
    [
      'a limit of zero',
      { auth, limits: { connectionsPerUser: 0 } },
      /^limits.connectionsPerUser is 0: give a whole/,
    ],
    ['no options', undefined, /^There are no options/],
    ['no database object', { database: undefined, auth }, /^There is no database.url/],
    ['no auth object', { auth: undefined }, /^No authentication: set auth.secret/],
    [
      'an option of an earlier build',
      { databaseUrl: '' },
      /^databaseUrl is not an option: use database.url$/,
    ],
    [
      'an option outside of its group',
      { auth, allowedHosts: [] },
      /not an option: use network.allowedHosts$/,
    ],
    ['an old limit', { auth, maxConnectionsPerUser: 5 }, /use limits.connectionsPerUser$/],
    ['the old timing', { auth, timing: {} }, /^timing is not an option: use timeouts$/],
    [
      'relayUrl',
      { auth, relayUrl: 'nats://relay' },
      /use relay, with natsRelay\(\{ url \}\) of @flagcast\/relay-nats$/,
    ],
    ['consoleDir', { auth, consoleDir: null }, /use console, with flagcastConsole\(\{ pagesDir \}\)/],
    ['demoPeople', { auth, demoPeople: [] }, /use console, with flagcastConsole\(\{ demoUsers \}\)/],
    ['writes without the console', { auth, writes: true }, /^writes needs the console: set console to/],
    [
      'the life of tokens of the sign-in without the console',
      { auth, timeouts: { tokenTtlMs: 60_000 } },
      /^timeouts.tokenTtlMs needs the console: /,
    ],
    [
      'an unknown option of a group',
      { auth, network: { allowedHost: [] } },
      /^network.allowedHost is not an option: /,
    ],
    ['a name that all objects have', { auth, constructor: 1 }, /^constructor is not an option: correct/],
    [
      'a text as a list',
      { auth, network: { allowedHosts: 'a.example' } },
      /^network.allowedHosts is not an array/,
    ],
    [
      'null as a query',
      { auth: { ...auth, authorizeSql: null } },
      /^auth.authorizeSql is null: leave it out/,
    ],
    [
      'NaN events',
      { auth, limits: { replayEvents: Number.NaN } },
      /^limits.replayEvents is NaN: give a whole number/,
    ],
    [
      'a text as a number',
      { auth, limits: { responseBytes: '5' } },
      /^limits.responseBytes is 5: give a whole number/,
    ],
    [
      'an endless timer',
      { auth, timeouts: { idleTimeoutMs: Infinity } },
      /^timeouts.idleTimeoutMs is Infinity: /,
    ],
    [
      'too few sessions',
      { auth, database: { url: 'postgresql://h/d', connections: 2 } },
      /give database.connections 5/,
    ],
  ])('rejects %s with a FlagcastError invalid_options', (_, options, message) => {
    // JavaScript may pass anything.
    const all = options && { database: { url: database.url }, ...options };
    const create = (): unknown => createFlagcast(all as never);
    expect(create).toThrow(FlagcastError);
    expect(create).toThrow(message);
  });
});

describe('a Flagcast', () => {
  const options = (): Parameters<typeof createFlagcast>[0] => ({
    database: { url: database.url },
    auth: { secret: testSecret },
  });

  it('is ready when it has read the database', async () => {
    const flagcast = createFlagcast(options());
    const events: string[] = [];
    flagcast.lifecycle.on('reader:started', () => events.push('reader:started'));
    await flagcast.ready();
    expect(events).toStrictEqual(['reader:started']);
    await expect(flagcast.ready()).resolves.toBeUndefined();
    await flagcast.close();
    // It does not start again.
    await expect(flagcast.ready()).rejects.toMatchObject({ name: 'FlagcastError', code: 'closed' });
  });

  it('waits for a database that does not respond, and rejects ready() when it is closed meanwhile', async () => {
    const flagcast = createFlagcast({
      ...options(),
      database: { url: 'postgresql://nobody@127.0.0.1:1/none' },
    });
    const failed = new Promise((resolve) => flagcast.lifecycle.once('reader:failed', resolve));
    const ready = flagcast.ready();
    await failed;
    await flagcast.close();
    await expect(ready).rejects.toMatchObject({ name: 'FlagcastError', code: 'closed' });
    await expect(flagcast.ready()).rejects.toBeInstanceOf(FlagcastError);
  });

  it('closes at the end of an `await using` block', async () => {
    const flagcast = createFlagcast(options());
    await flagcast.ready();
    await flagcast[Symbol.asyncDispose]();
    await expect(
      database.pool.query(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'flagcast%'",
      ),
    ).resolves.toMatchObject({ rowCount: 0 });
  });
});

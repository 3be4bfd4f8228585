import { readFile } from 'node:fs/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createTokenVerifier } from '../src/auth/token-verifier.js';
import { hasTerminals, RunningCommand, runCommand, runHere } from './command.js';
import { createTestDatabase, createTestFolder, type TestDatabase } from './database.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import { freePort } from '../../../testing/testkit/program.ts';

const secret = 'a secret for tests that is long enough';

let emptyDataDir = '';
const undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  emptyDataDir = await createTestFolder();
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function database(schema: 'none' | 'tables'): Promise<TestDatabase> {
  const made = await createTestDatabase({ schema });
  undo.push(async () => await made.drop());
  return made;
}

/** `serve` on a free port, with this database. */
function startServe(
  databaseUrl: string,
  args: readonly string[] = ['--port', '0'],
  env: Readonly<Record<string, string>> = {},
): RunningCommand {
  const serve = new RunningCommand(['serve', ...args], {
    env: { DATABASE_URL: databaseUrl, FLAGCAST_JWT_SECRET: secret, ...env },
  });
  undo.push(async () => await serve.end());
  return serve;
}

async function statusOf(url: unknown): Promise<number> {
  const response = await fetch(String(url));
  await response.text();
  return response.status;
}

describe('the command line', () => {
  it.each([
    [
      'serve',
      ['--database-url', '--port', '8080', '--host', '127.0.0.1', '--poll-interval', '1s', '--traffic'],
    ],
    ['install', ['--database-url', '--writes', '--tables', '--yes']],
    ['uninstall', ['--database-url', '--yes']],
    ['doctor', ['(DATABASE_URL; required)', '(FLAGCAST_WORKERS; default:']],
    ['guard', ['list', 'add', 'remove', '--project', '--env', '--database-url']],
    ['tail', ['--url', 'http://127.0.0.1:8080', '--project', '--env', '--approvals', '--token', '--json']],
    ['token', ['--user', '--ttl', '1h', '--database-url']],
  ])('%s --help lists its options and their defaults', async (name, words) => {
    const { code, stdout, stderr } = await runHere([name, '--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const word of [`flagcast ${name}`, ...words]) expect(stdout).toContain(word);
  });

  it('--version prints the version of the package, and --help lists every command', async () => {
    const [version, help, manifest] = await Promise.all([
      runCommand(['--version']),
      runCommand(['--help']),
      readFile(new URL('../package.json', import.meta.url), 'utf8'),
    ]);
    expect(version).toMatchObject({
      code: 0,
      stdout: `${(JSON.parse(manifest) as { version: string }).version}\n`,
    });
    for (const name of ['serve', 'install', 'uninstall', 'tail', 'token'])
      expect(help.stdout).toContain(`  ${name} `);
  });

  it.each([
    [[], /command/],
    [['nonsense'], /nonsense/],
    [['--nonsense'], /--nonsense/],
    [['serve', '--nonsense'], /--nonsense/],
    [['serve', '--port'], /--port/],
    [['serve', 'postgres://u:hunter2@db/x'], /Unexpected argument/],
    [['token'], /--user/],
    [['tail', '--env', 'prod'], /--project/],
  ])('%j is an invalid command line: one line, exit code 2', async (args, problem) => {
    const { code, stdout, stderr } = await runHere(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^flagcast: .*--help\n$/);
    expect(stderr).toMatch(problem);
    expect(stderr).not.toContain('hunter2');
  });

  it('invalid settings end with exit code 1 and one line each', async () => {
    const { code, stdout, stderr } = await runHere(['serve', '--port', 'x'], {
      DATABASE_URL: 'mysql://u:hunter2@db/x',
      FLAGCAST_JWT_SECRET: 'hunter2',
      HOST: '?',
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const lines = stderr.trimEnd().split('\n');
    expect(lines.map((line) => /^flagcast: ([\w-]+): /.exec(line)?.[1]).toSorted()).toEqual([
      '--port',
      'DATABASE_URL',
      'FLAGCAST_JWT_SECRET',
      'HOST',
    ]);
    expect(stderr).not.toContain('hunter2');
  });
});

describe('install and uninstall', () => {
  it('print their changes, and refuse to drop rows without --yes', async () => {
    const { url, pool } = await database('none');
    const installed = await runHere(['install', '--tables', '--database-url', url]);
    expect(installed).toMatchObject({ code: 0, stderr: '' });
    expect(installed.stdout).toContain('created view flagcast.v_realtime_events\n');
    expect(installed.stdout).toMatch(/\nFlagcast is installed in 127\.0\.0\.1:\d+\/test_\w+\.\n$/);

    const env = { DATABASE_URL: url };
    expect((await runHere(['install'], env)).stdout).toMatch(/nothing was changed/);

    await pool.query("INSERT INTO projects (name) VALUES ('precious')");
    const refused = await runHere(['uninstall'], env);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/^flagcast: Nothing was changed, .*\d+ rows in \d+ tables.*--yes.*\n$/);
    expect((await pool.query('SELECT FROM projects')).rowCount).toBe(1);

    const removed = await runHere(['uninstall', '--yes'], env);
    expect(removed).toMatchObject({ code: 0, stderr: '' });
    expect(removed.stdout).toContain('dropped view flagcast.v_realtime_events\n');
    expect((await pool.query("SELECT to_regclass('projects') AS found")).rows).toEqual([{ found: null }]);
    expect((await runHere(['uninstall'], env)).stdout).toMatch(/not installed/);
  });

  it.skipIf(!hasTerminals)('ask on a terminal, and change something only after a yes', async () => {
    const { url, pool } = await database('none');
    const isInstalled = async (): Promise<boolean> =>
      (await pool.query("SELECT FROM pg_namespace WHERE nspname = 'flagcast'")).rowCount === 1;
    const ask = async (args: readonly string[], answer: string): Promise<number | null> => {
      const command = new RunningCommand(args, { terminal: true, env: { DATABASE_URL: url } });
      undo.push(async () => await command.end());
      command.type(`${answer}\n`);
      return (await command.ended).code;
    };
    expect(await ask(['install', '--tables'], 'n')).toBe(1);
    expect(await isInstalled()).toBe(false);
    expect(await ask(['install', '--tables'], 'y')).toBe(0);
    expect(await isInstalled()).toBe(true);
    expect(await ask(['uninstall'], '')).toBe(1);
    expect(await isInstalled()).toBe(true);
    expect(await ask(['uninstall'], 'yes')).toBe(0);
    expect(await isInstalled()).toBe(false);
  });

  it('fail with one line without the password if no database answers', async () => {
    const port = await freePort();
    const { code, stderr } = await runHere([
      'install',
      '--database-url',
      `postgres://u:hunter2@127.0.0.1:${port}/x`,
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(`^flagcast: .*127\\.0\\.0\\.1:${port}/x.*ECONNREFUSED.*--database-url.*\\n$`),
    );
    expect(stderr).not.toContain('hunter2');
  });
});

describe('token', () => {
  it('is printed alone, with the id of the user in the database', async () => {
    const { url, pool } = await database('tables');
    await pool.query(
      "INSERT INTO users (id, username, email, password_hash) VALUES (77, 'erin', 'e@example.com', '')",
    );
    const env = { DATABASE_URL: url, FLAGCAST_JWT_SECRET: secret };
    const beforeMs = Date.now();
    const { code, stdout, stderr } = await runHere(['token', '--user', 'erin', '--ttl', '90s'], env);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const identity = await createTokenVerifier({ secret }).verify(stdout.trimEnd());
    expect(identity).toMatchObject({ user: { id: '77' }, username: 'erin' });
    expect(identity.expiresAtMs).toBeGreaterThanOrEqual(beforeMs + 89_000);
    expect(identity.expiresAtMs).toBeLessThanOrEqual(Date.now() + 90_000);

    const unknown = await runHere(['token', '--user', 'nobody'], env);
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toMatch(/^flagcast: There is no user "nobody".*\n$/);
  });

  it('has the name of the user if no database answers, with a message', async () => {
    const env = { FLAGCAST_JWT_SECRET: secret, FLAGCAST_DATA_DIR: emptyDataDir };
    const { stdout, stderr } = await runHere(['token', '--user', 'erin'], env);
    expect(stderr).toBe('');
    const { user } = await createTokenVerifier({ secret }).verify(stdout.trimEnd());
    expect(user).toEqual({ username: 'erin' });

    const down = `postgres://u:hunter2@127.0.0.1:${await freePort()}/x`;
    const unchecked = await runHere(['token', '--user', 'erin', '--database-url', down], env);
    expect(unchecked.stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    expect(unchecked.stderr).toMatch(/^flagcast: The user was not looked up: .*ECONNREFUSED.*\n$/);
    expect(unchecked.stderr).not.toContain('hunter2');
  });

  it('is refused without a secret, and with an invalid lifetime', async () => {
    const env = { FLAGCAST_DATA_DIR: emptyDataDir };
    const without = await runHere(['token', '--user', 'erin'], env);
    expect(without).toMatchObject({ code: 1, stdout: '' });
    expect(without.stderr).toMatch(/^flagcast: .*FLAGCAST_JWT_SECRET.*FLAGCAST_DATA_DIR.*is not one\)\n$/);
    const wrong = await runHere(['token', '--user', 'erin', '--ttl', '5'], env);
    expect(wrong.stderr).toMatch(/^flagcast: --ttl: .*15m.*\n$/);
    const long = await runHere(['token', '--user', 'erin', '--ttl', '2d'], {
      ...env,
      FLAGCAST_JWT_SECRET: secret,
    });
    expect(long.stderr).toMatch(/^flagcast: --ttl: "2d" is longer than servers accept \(86400 s\): .*\n$/);
  });

  it('has the claims that the settings of the server require', async () => {
    const { url, pool } = await database('tables');
    await pool.query(
      "INSERT INTO users (username, email, password_hash) VALUES ('grace', 'grace@example.com', '')",
    );
    const env = {
      DATABASE_URL: url,
      FLAGCAST_JWT_SECRET: secret,
      FLAGCAST_JWT_ISSUER: 'https://id.example.com',
      FLAGCAST_JWT_AUDIENCE: 'flagcast',
      FLAGCAST_JWT_USER_CLAIM: 'email:email',
      FLAGCAST_JWT_MAX_AGE: '2d',
    };
    const { stdout } = await runHere(['token', '--user', 'grace', '--ttl', '2d'], env);
    const verifier = createTokenVerifier({
      secret,
      issuer: 'https://id.example.com',
      audience: 'flagcast',
      userClaim: 'email:email',
      maxTokenAgeMs: 2 * 86_400_000,
    });
    expect((await verifier.verify(stdout.trimEnd())).user).toEqual({ email: 'grace@example.com' });
  });
});

describe('serve with a database', () => {
  it.each([
    ['that has not been prepared', 'none', (url: string) => url, [], /flagcast install --database-url/],
    ['with a wrong password', 'none', (url: string) => url.replace(/:[^:@]+@/, ':hunter2@'), [], /28P01/],
    ['that does not exist', 'none', (url: string) => `${url}_not`, [], /3D000/],
    [
      'without the demo, but with --traffic',
      'tables',
      (url: string) => url,
      ['--traffic'],
      /--traffic is for the demo/,
    ],
  ] as const)('%s ends with one line', async (_case, schema, urlOf, args, problem) => {
    const { url } = await database(schema);
    const { code, stderr } = await startServe(urlOf(url), ['--port', '0', ...args]).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^flagcast: [^\n]+\n$/);
    expect(stderr).toMatch(problem);
    expect(stderr).not.toContain('hunter2');
  });

  it('without the view of FLAGCAST_VIEW ends with one line', async () => {
    const { url } = await database('tables');
    const { code, stderr } = await startServe(url, ['--port', '0'], { FLAGCAST_VIEW: 'app.feed' }).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^flagcast: [^\n]+the view app\.feed of FLAGCAST_VIEW cannot be read[^\n]+\n$/);
  });

  it('waits for a database that does not answer, alive but not ready', async () => {
    const { url } = await database('tables');
    const target = new URL(url);
    const port = await freePort();
    const serve = startServe(url.replace(`:${target.port}/`, `:${port}/`));
    const { url: server } = await serve.logged('server_listening');
    const waiting = await serve.logged('database_waiting', ({ attempt }) => attempt === 2);
    expect(waiting).toMatchObject({
      level: 'warn',
      error: expect.stringContaining('ECONNREFUSED') as string,
    });
    expect(await statusOf(`${String(server)}/healthz`)).toBe(200);
    expect(await statusOf(`${String(server)}/readyz`)).toBe(503);

    const relay = await FaultyProxy.open([Number(target.port)], { port });
    undo.push(async () => await relay.close());
    await serve.logged('reader_started');
    expect(await statusOf(`${String(server)}/readyz`)).toBe(200);
    // The sign-in page must not list the real users of a company.
    expect(await (await fetch(`${String(server)}/api/auth/mode`)).json()).toMatchObject({ demo_people: [] });
    serve.signal('SIGTERM');
    const { code, stdout, stderr } = await serve.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).not.toContain(target.password);
  });

  it('stops while it waits for a database', async () => {
    const serve = startServe(`postgres://u@127.0.0.1:${await freePort()}/x`, ['--port', '0']);
    await serve.logged('database_waiting');
    serve.signal('SIGINT');
    expect((await serve.ended).code).toBe(0);
  });

  it('accepts FLAGCAST_JWKS_URL only with issuer, audience and user claim', async () => {
    const keys = { FLAGCAST_JWT_SECRET: '', FLAGCAST_JWKS_URL: 'https://id.example.com/keys' };
    const { code, stderr } = await startServe('postgres://u@127.0.0.1:9/x', ['--port', '0'], keys).ended;
    expect(code).toBe(1);
    for (const name of ['ISSUER', 'AUDIENCE', 'USER_CLAIM']) {
      expect(stderr).toContain(`FLAGCAST_JWKS_URL needs FLAGCAST_JWT_${name}: set it to `);
    }
  });

  it('names the port that is in use', async () => {
    const { url } = await database('tables');
    const relay = await FaultyProxy.open([1]);
    undo.push(async () => await relay.close());
    const { code, stderr } = await startServe(url, ['--port', String(relay.port)]).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`^flagcast: Port ${relay.port} .*--port.*\\n$`));
  });
});

import { once } from 'node:events';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PlainMessage } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { signToken } from '../src/auth/sign-token.js';
import { demoUsers } from '../../demo/src/company/company.js';
import { type CommandResult, hasTerminals, RunningCommand, runCommand } from './command.js';
import { createTestFolder, withClient } from './database.js';

const sqlScript = fileURLToPath(new URL('../../../scripts/sql.js', import.meta.url));
const webShop = 'f1a9c457-0001-4000-8000-000000000001';
const insertAudit = (featureId: string): string =>
  `INSERT INTO audit_log (project_id, environment_id, feature_id, entity, entity_id, actor, action)
   SELECT project_id, id, '${featureId}', 'feature', '${featureId}', 'user', 'update'
   FROM environments WHERE project_id = '${webShop}' AND key = 'prod'`;

/** All tests share a folder: creating a cluster takes longer than starting it, and data must survive every end. */
let dataDir = '';
const undo: (() => Promise<void>)[] = [];

beforeAll(async () => {
  dataDir = await createTestFolder();
});

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

afterAll(async () => {
  // A server that was killed leaves its PostgreSQL running; the next one stops it.
  if (await isDatabaseRunning()) {
    const serve = start(['serve', '--port', '0']);
    await serve.logged('server_listening');
    await stop(serve, 'SIGTERM');
  }
  await rm(dataDir, { recursive: true, force: true });
});

function start(args: readonly string[], options: { terminal?: boolean } = {}): RunningCommand {
  const command = new RunningCommand(args, { ...options, env: { FLAGCAST_DATA_DIR: dataDir } });
  undo.push(async () => await command.end());
  return command;
}

async function startServe(): Promise<{ serve: RunningCommand; url: string }> {
  const serve = start(['serve', '--port', '0']);
  const { url } = await serve.logged('server_listening');
  await serve.logged('reader_started');
  return { serve, url: String(url) };
}

/** The status of the answer to a request with this Host. */
async function statusFor(url: string, host: string, target: string): Promise<number | undefined> {
  const asked = get(`${url}${target}`, { headers: { Host: host }, agent: false });
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.resume();
  return response.statusCode;
}

async function startTail(url: string, args: readonly string[] = ['--json']): Promise<RunningCommand> {
  const tail = start(['tail', '--url', url, '--project', 'Web shop', '--env', 'prod', ...args]);
  await tail.errorLine((line) => line.includes('watching'));
  return tail;
}

async function stop(command: RunningCommand, signal: NodeJS.Signals): Promise<CommandResult> {
  command.signal(signal);
  return await command.ended;
}

/** As `npm run sql` does. */
async function sql(statement: string): Promise<CommandResult> {
  return await runCommand([statement], { file: sqlScript, env: { FLAGCAST_DATA_DIR: dataDir } });
}

/** Runs a statement in the demo's database. Resolves with the rows. */
async function query(statement: string): Promise<Record<string, unknown>[]> {
  const url = await readFile(path.join(dataDir, 'database-url'), 'utf8');
  return await withClient(url.trim(), async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(statement);
    return rows;
  });
}

/** The postmaster's process id; null if it does not run. */
async function databasePid(): Promise<number | null> {
  const [cluster] = (await readdir(dataDir)).filter((name) => name.startsWith('data-'));
  if (cluster === undefined) return null;
  const text = await readFile(path.join(dataDir, cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  return Number.isNaN(pid) ? null : pid;
}

async function isDatabaseRunning(): Promise<boolean> {
  const pid = await databasePid();
  if (pid === null) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('serve without a database', () => {
  it('starts an embedded PostgreSQL with the demo, which other commands find, and stops cleanly', async () => {
    const { serve, url } = await startServe();
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    // The console offers them with a click.
    expect(await (await fetch(`${url}/api/auth/mode`)).json()).toMatchObject({
      sign_in: 'password',
      demo_people: demoUsers.map(({ username, password }) => ({ username, password })),
    });
    // A page whose own name resolves to this machine (DNS rebinding) sends that name.
    for (const host of ['evil.example', '10.0.0.7']) {
      for (const target of ['/', '/api/auth/mode', '/metrics']) {
        expect([host, await statusFor(url, host, target)]).toEqual([host, 421]);
      }
    }
    expect(await statusFor(url, 'localhost', '/api/auth/mode')).toBe(200);
    expect((await stat(path.join(dataDir, 'jwt-secret'))).mode & 0o777).toBe(0o600);
    expect((await stat(path.join(dataDir, 'database-url'))).mode & 0o777).toBe(0o600);

    const { stdout: token } = await runCommand(['token', '--user', 'carol'], {
      env: { FLAGCAST_DATA_DIR: dataDir },
    });
    const projects = await fetch(`${url}/api/projects`, {
      headers: { Authorization: `Bearer ${token.trimEnd()}` },
    });
    expect(await projects.json()).toMatchObject({ projects: [{ id: webShop, name: 'Web shop' }] });

    const tail = await startTail(url);
    const changed = await sql(insertAudit('11111111-1111-4111-8111-111111111111'));
    expect(changed).toMatchObject({ code: 0, stdout: 'INSERT 1\n', stderr: '' });
    const message = JSON.parse(await tail.line((line) => line.includes('11111111-1111'))) as PlainMessage;
    expect(message).toMatchObject({ type: 'feature_updated', project_id: webShop, environment: 'prod' });

    // Without a terminal there is no greeting: the log has the users.
    const users = demoUsers.map(({ username }) => username);
    expect(await serve.logged('demo_ready')).toMatchObject({ url, users });

    // npm forwards a signal that its process group has already received. It must not count as a second signal.
    serve.signal('SIGTERM');
    const { code, stderr } = await stop(serve, 'SIGTERM');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(await databasePid()).toBe(null);
    await tail.errorLine((line) => line.includes('close code 4000'));
    expect((await stop(tail, 'SIGINT')).code).toBe(0);
    expect((await sql('SELECT 1')).stderr).toMatch(/^flagcast: The demo does not run in .*\n$/);

    // What operators collect holds no secret, and every line names its event.
    const lines = serve.stdout.trimEnd().split('\n');
    const events = lines.map((line) => (JSON.parse(line) as { event?: string }).event);
    expect(events).not.toContain(undefined);
    // PostgreSQL stops last: no other part loses its connections before it has closed.
    expect(events.slice(-3)).toEqual(['connection_closed', 'embedded_database_stopped', 'server_stopped']);
    const secrets = await Promise.all(
      ['jwt-secret', 'password'].map(async (file) => await readFile(path.join(dataDir, file), 'utf8')),
    );
    for (const secret of [...secrets, token]) expect(serve.stdout).not.toContain(secret.trim());
  });

  it('restarts PostgreSQL after a crash, and delivers events again', async () => {
    const { serve, url } = await startServe();
    const tail = await startTail(url);
    const pid = await databasePid();
    if (pid === null) throw new Error('PostgreSQL does not run');
    process.kill(pid, 'SIGKILL');
    await serve.logged('embedded_database_ended');
    await serve.logged('embedded_database_restarted');
    await serve.logged('reader_recovered');
    await query(insertAudit('22222222-2222-4222-8222-222222222222'));
    await tail.line((line) => line.includes('22222222-2222'));
    expect((await stop(serve, 'SIGTERM')).code).toBe(0);
    expect(await isDatabaseRunning()).toBe(false);
  });

  it('stops although a client stays connected', async () => {
    const { serve, url } = await startServe();
    const client = await openMuteClient(url);
    const { code, stdout } = await stop(serve, 'SIGTERM');
    expect(code).toBe(0);
    expect(stdout).toContain('server_stopped');
    expect(await isDatabaseRunning()).toBe(false);
    client.destroy();
  });

  it('starts with its data after it was killed', async () => {
    const { serve } = await startServe();
    expect((await stop(serve, 'SIGKILL')).signal).toBe('SIGKILL');

    const { serve: next } = await startServe();
    const kept = await query("SELECT count(*) FROM audit_log WHERE feature_id::text LIKE '11111111-%'");
    expect(kept).toEqual([{ count: '1' }]);
    expect((await stop(next, 'SIGTERM')).code).toBe(0);
    expect(await isDatabaseRunning()).toBe(false);
  });

  it('ends immediately at the second signal, while a client stays connected', async () => {
    const { serve, url } = await startServe();
    const client = await openMuteClient(url);
    serve.signal('SIGTERM');
    await serve.logged('server_stopping');
    const { code, stdout } = await stop(serve, 'SIGINT');
    expect(code).toBe(130);
    expect(stdout).not.toContain('server_stopped');
    client.destroy();
    // It receives the signal to stop, but no process waits for it.
    await vi.waitFor(async () => expect(await isDatabaseRunning()).toBe(false), { timeout: 60_000 });
  });

  it.skipIf(!hasTerminals)('greets a terminal, and Ctrl-C there ends all of it cleanly', async () => {
    const serve = start(['serve', '--port', '0', '--traffic'], { terminal: true });
    const change = await serve.line((line) => line.includes('npm run sql -- "'));
    await serve.line((line) => line.includes('reader started'));
    expect(serve.stdout).toMatch(
      /npx flagcast tail --url http:\/\/127\.0\.0\.1:\d+ --project "Web shop" --env prod/,
    );
    for (const name of ['alice', 'bob', 'carol', 'dave', 'root'])
      expect(serve.stdout).toContain(`  ${name} `);
    const statement = /npm run sql -- "([^"]+)"/.exec(change)?.[1] ?? '';
    expect(await sql(statement)).toMatchObject({ code: 0, stdout: 'INSERT 1\n' });
    await serve.line((line) => line.includes(' traffic action='));
    serve.type('\x03');
    expect((await serve.ended).code).toBe(0);
    expect(serve.stdout).toContain('server stopped');
    expect(await isDatabaseRunning()).toBe(false);
  });
});

/** A client of the demo that never answers, not even a close frame. */
async function openMuteClient(url: string): Promise<ReturnType<typeof connect>> {
  const { hostname, port } = new URL(url);
  const secret = (await readFile(path.join(dataDir, 'jwt-secret'), 'utf8')).trim();
  const [root] = await query("SELECT id::text FROM users WHERE username = 'root'");
  const userId = String(root?.['id']);
  const token = await signToken({ secret, userId, username: 'root', ttlMs: 60_000 });
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.write(
    [
      `GET /api/ws?project_id=${webShop}&env=prod HTTP/1.1`,
      `Host: ${hostname}:${port}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
      `Authorization: Bearer ${token}`,
      '\r\n',
    ].join('\r\n'),
  );
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 101 /);
  return socket;
}

import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, seedProject, type TestDatabase } from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { handshake } from './plain-client.js';
import { builtPagesDir } from '../../console/server/console-files.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestUser } from './server.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let channel: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId } = await seedProject(database.pool);
  channel = `project_id=${projectId}&env=prod`;
  server = await startTestServer(database.url, { writes: true, console: { pagesDir: builtPagesDir } });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function ask(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return await fetch(server.httpUrl + path, {
    headers: { Authorization: `Bearer ${root.token}`, ...headers },
    redirect: 'manual',
  });
}

/** Sends these bytes over a new connection; returns the status lines of all responses. */
async function sendRaw(...lines: string[]): Promise<string[]> {
  const socket = connect({ port: Number(new URL(server.httpUrl).port), host: '127.0.0.1' });
  await once(socket, 'connect');
  socket.write(lines.join('\r\n'));
  const answer = await text(socket);
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status = '']) => status);
}

describe('every response', () => {
  it.each([
    ['/healthz', 200],
    ['/metrics', 200],
    ['/api/openapi.json', 200],
    ['/api/projects', 200],
    ['/api/auth/me', 200],
    ['/api/snapshot', 400],
    ['/api/ws', 426],
    ['/nothing', 404],
  ])('cannot be shown, framed or embedded by a page: %s', async (path, status) => {
    const { status: answered, headers } = await ask(path);
    expect(answered).toBe(status);
    expect(headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'");
    expect(headers.get('content-type')).toMatch(/^(application\/json|text\/plain; .*charset=utf-8)$/);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('cross-origin-resource-policy')).toBe('same-origin');
    // A page of another origin must not read it, not even one that sends a preflight.
    expect(headers.get('access-control-allow-origin')).toBe(null);
  });

  it('has these headers for the console and for a stream, too', async () => {
    const page = await ask('/');
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'");
    expect(page.headers.get('cross-origin-resource-policy')).toBe('same-origin');
    const stream = await EventStreamClient.open(server.httpUrl, channel, {
      Authorization: `Bearer ${root.token}`,
    });
    expect(stream.response.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'same-origin',
    });
    stream.response.destroy();
  });
});

describe('a resource embedded by a page of another site', () => {
  // A browser sends no Origin for an image, a script or a frame, but Sec-Fetch-Site.
  it.each([
    [{ 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'image' }, 403],
    [{ 'Sec-Fetch-Site': 'same-site', 'Sec-Fetch-Dest': 'script' }, 403],
    [{ 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'iframe' }, 403],
    [{ 'Sec-Fetch-Site': 'same-origin', 'Sec-Fetch-Dest': 'empty' }, 200],
    [{ 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Dest': 'document' }, 200],
    [{ 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'document' }, 200],
  ])('%j: %i', async (headers, status) => {
    for (const path of [`/api/snapshot?${channel}`, '/api/projects', '/api/auth/me']) {
      expect((await ask(path, headers)).status).toBe(status);
    }
    if (status === 200) return;
    const asked = EventStreamClient.open(server.httpUrl, channel, {
      Authorization: `Bearer ${root.token}`,
      ...headers,
    });
    await expect(asked).rejects.toMatchObject({ status, body: { code: 'origin_forbidden' } });
  });
});

describe('an error of the database', () => {
  it('is written to the log, and not to the client', async () => {
    const failed = nextEvent(server.flagcast.lifecycle, 'access:failed');
    // PostgreSQL's message quotes the row.
    await database.pool.query(`ALTER TABLE users RENAME TO users_away;
      CREATE VIEW users AS SELECT 'hunter2'::text::int AS id, username, is_active, is_superuser FROM users_away`);
    const answers = await Promise.all([
      ask('/api/auth/me'),
      ask('/api/projects'),
      ask(`/api/snapshot?${channel}`),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      const body = (await answer.json()) as object;
      expect(body).toMatchObject({ code: 'unavailable' });
      expect(JSON.stringify(body)).not.toMatch(/hunter2|users|integer/);
    }
    expect((await failed).error.message).toContain('hunter2');
    await database.pool.query('DROP VIEW users; ALTER TABLE users_away RENAME TO users');
  });
});

describe('a request that two servers could parse differently', () => {
  const host = 'Host: flags.example.com';
  it.each([
    ['two lengths', ['POST /api/auth/login HTTP/1.1', host, 'Content-Length: 2', 'Content-Length: 20']],
    [
      'a length and chunks',
      ['POST /api/auth/login HTTP/1.1', host, 'Content-Length: 4', 'Transfer-Encoding: chunked'],
    ],
    ['an encoding that ends in something else', ['POST /a HTTP/1.1', host, 'Transfer-Encoding: chunked, x']],
    ['a space before the colon', ['GET /healthz HTTP/1.1', host, 'Content-Length : 5']],
    ['a folded header', ['GET /healthz HTTP/1.1', host, 'X-One: 1', ' Content-Length: 5']],
    ['a line break in a value', ['GET /healthz HTTP/1.1', host, 'X-One: 1\rX-Two: 2']],
    ['no host', ['GET /healthz HTTP/1.1']],
    ['a host that is none', ['GET /healthz HTTP/1.1', 'Host: a b@c/d']],
  ])('is refused, and the bytes after it are not answered: %s', async (_, head) => {
    const smuggled = ['0', '', 'GET /healthz HTTP/1.1', host, 'Connection: close', '', ''];
    expect(await sendRaw(...head, '', ...smuggled)).toStrictEqual(['400']);
  });

  it('is refused if it has two Host headers', async () => {
    const other = 'Host: evil.example';
    expect(await sendRaw('GET /healthz HTTP/1.1', host, other, 'Connection: close', '', '')).toStrictEqual([
      '400',
    ]);
    const upgrade = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
    const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
    const line = `GET /api/ws?${channel} HTTP/1.1`;
    expect(await sendRaw(line, host, other, ...upgrade, key, '', '')).toStrictEqual(['400']);
  });

  it('is refused if its first line names another server', async () => {
    const query = `http://evil.example/api/ws?${channel}`;
    const upgrade = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
    const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
    expect(await sendRaw(`GET ${query} HTTP/1.1`, host, ...upgrade, key, '', '')).toStrictEqual(['400']);
  });

  it('is refused if its Origin header lists two origins', async () => {
    const origin = `${server.httpUrl}, https://evil.example`;
    const { status, body } = await handshake(server.wsUrl, channel, {
      Authorization: `Bearer ${root.token}`,
      Origin: origin,
    });
    expect(status).toBe(403);
    expect(body).toContain('origin_forbidden');
  });
});

describe("an offer of HTTP/2, which Java's client makes with each request", () => {
  const offer = (length = 0): string[] => [
    'Host: flags.example.com',
    'Connection: Upgrade, HTTP2-Settings',
    'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
    `Content-Length: ${length}`,
  ];
  const last = ['GET /readyz HTTP/1.1', 'Host: flags.example.com', 'Connection: close', '', ''];

  it('is declined by an answer to the request, and the connection stays open', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): number => warnings.push(warning);
    process.on('warning', note);
    const requests = Array.from({ length: 15 }, () => ['GET /healthz HTTP/1.1', ...offer(), '']);
    const statuses = await sendRaw(...requests.flat(), ...last);
    process.off('warning', note);
    expect(statuses).toStrictEqual(Array.from({ length: 16 }, () => '200'));
    expect(warnings).toStrictEqual([]);
  });

  it('does not affect the body of a request', async () => {
    const body = JSON.stringify({
      project_id: new URLSearchParams(channel).get('project_id'),
      key: 'h2c',
      name: 'é',
    });
    const head = [
      'POST /api/features HTTP/1.1',
      `Authorization: Bearer ${root.token}`,
      'Content-Type: application/json',
      ...offer(Buffer.byteLength(body)),
    ];
    expect(await sendRaw(...head, '', body + last.join('\r\n'))).toStrictEqual(['201', '200']);
  });

  it('is answered with 426 at the endpoint of WebSockets', async () => {
    const request = [`GET /api/ws?${channel} HTTP/1.1`, ...offer(), ''];
    expect(await sendRaw(...request, ...last)).toStrictEqual(['426', '200']);
  });
});

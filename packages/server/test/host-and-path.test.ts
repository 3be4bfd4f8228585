import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { createHostPolicy } from '../src/auth/origin-policy.js';
import { hasCanonicalPath } from '../src/auth/request-target.js';
import { createTestDatabase, seedProject, type TestDatabase } from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';

let database: TestDatabase;
let server: TestServer;
let token: string;
let channel: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId } = await seedProject(database.pool);
  channel = `project_id=${projectId}&env=prod`;
  server = await startTestServer(database.url, {
    network: { allowedHosts: ['localhost', 'flags.example.com'], trustedProxies: ['127.0.0.1'] },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Sends this request target and these headers as they are. */
async function send(
  target: string,
  headers: Record<string, string> = {},
  port = Number(new URL(server.httpUrl).port),
): Promise<Answer> {
  const all = { Host: 'localhost', Connection: 'close', Authorization: `Bearer ${token}`, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET ${target} HTTP/1.1\r\n${lines.join('')}\r\n`);
  if ('Upgrade' in headers) {
    const [head] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return answerOf(head.toString('latin1'));
  }
  return answerOf(await text(socket));
}

function answerOf(answer: string): Answer {
  const [, status = '0'] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
  return { status: Number(status), body: answer.slice(answer.indexOf('\r\n\r\n') + 4) };
}

const upgrade = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

describe('the allowlist of hosts', () => {
  it.each([
    'evil.example',
    'flags.example.com.evil.example',
    'localhost.evil.example',
    '10.0.0.7:8080',
    'a@localhost',
    'localhost:1:2',
  ])('refuses the host %s with 421, or 400 if it is invalid, on every entry point', async (host) => {
    for (const target of ['/', '/healthz', '/metrics', '/api/auth/me', `/api/events?${channel}`]) {
      expect([400, 421]).toContain((await send(target, { Host: host })).status);
    }
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    for (const protocol of [{}, { 'Sec-WebSocket-Protocol': 'flagcast.v1' }]) {
      const { status, body } = await send(`/api/ws?${channel}`, { ...upgrade, ...protocol, Host: host });
      expect([status, JSON.parse(body)]).toMatchObject([421, { code: 'host_forbidden' }]);
    }
    expect(await refused).toMatchObject({ status: 421, code: 'host_forbidden' });
    expect((await send('/elsewhere', { ...upgrade, Host: host })).status).toBe(421);
  });

  it.each([
    'localhost',
    'LOCALHOST:8080',
    '127.0.0.1:8080',
    'console.localhost',
    '[::1]',
    'flags.example.com',
  ])('allows the host %s', async (host) => {
    expect((await send('/api/auth/me', { Host: host })).status).toBe(200);
    expect((await send(`/api/ws?${channel}`, { ...upgrade, Host: host })).status).toBe(101);
  });

  it('matches its entries exactly, and 0.0.0.0 and :: match every address', () => {
    const isAllowed = (allowed: string[] | null, host?: string): boolean =>
      createHostPolicy(allowed).isAllowed({ headers: host === undefined ? {} : { host } });
    expect(isAllowed(null, 'evil.example')).toBe(true);
    expect(isAllowed(null)).toBe(true);
    expect(isAllowed(['Flags.example.com'], 'flags.EXAMPLE.com:8443')).toBe(true);
    expect(isAllowed(['flags.example.com'])).toBe(false);
    expect(isAllowed(['flags.example.com'], 'localhost')).toBe(false);
    expect(isAllowed(['fd00::7'], '[FD00:0::7]:80')).toBe(true);
    for (const all of ['0.0.0.0', '::']) {
      expect(isAllowed([all], '10.0.0.7:8080')).toBe(true);
      expect(isAllowed([all], '[fd00::7]')).toBe(true);
      expect(isAllowed([all], 'evil.example')).toBe(false);
      expect(isAllowed([all], '10.0.0.7.evil.example')).toBe(false);
    }
  });

  it.each(['http://flags.example.com', 'flags.example.com:8080', '[::1]:80', '*', 'a b', 'a/b', ''])(
    'rejects the entry %j',
    (entry) => {
      expect(() => createHostPolicy([entry])).toThrow(`${JSON.stringify(entry)} is not a host: write a name`);
    },
  );
});

describe("the server's own origin", () => {
  it.each([
    ['https://localhost', { 'X-Forwarded-Proto': 'https' }, 200],
    ['http://localhost', { 'X-Forwarded-Proto': 'https' }, 403],
    ['http://localhost', { 'X-Forwarded-Proto': 'http' }, 200],
    ['https://localhost', { 'X-Forwarded-Proto': 'http' }, 403],
    // The browser connects to the first proxy.
    ['https://localhost', { 'X-Forwarded-Proto': 'https, http' }, 200],
    ['http://localhost', { Forwarded: 'for=192.0.2.1;proto=https;by=10.0.0.1, proto=http' }, 403],
    ['https://localhost', { Forwarded: 'for=192.0.2.1; Proto="https"' }, 200],
    ['http://localhost', { 'X-Forwarded-Proto': 'junk' }, 200],
    ['http://localhost', {}, 200],
    ['https://localhost', {}, 200],
  ])('is compared with its scheme if a trusted proxy forwards it: %s, %j: %i', async (...row) => {
    const [origin, headers, status] = row;
    const sent = { Origin: origin, ...headers } as Record<string, string>;
    expect((await send('/api/auth/me', sent)).status).toBe(status);
    const { status: opened } = await send(`/api/ws?${channel}`, { ...upgrade, ...sent });
    expect(opened).toBe(status === 200 ? 101 : status);
  });

  it('is compared without its scheme if an untrusted client sends one', async () => {
    const direct = await startTestServer(database.url);
    onTestFinished(async () => await direct.close());
    const headers = { Origin: 'https://localhost', 'X-Forwarded-Proto': 'http' };
    expect((await send('/api/auth/me', headers, Number(new URL(direct.httpUrl).port))).status).toBe(200);
  });
});

const oddTargets = [
  '/%6detrics',
  '/./metrics',
  '/a/../metrics',
  '//metrics',
  '/metrics/.',
  '/%2e/metrics',
  '/a%2f..%2fmetrics',
  '/a%5cmetrics',
  '//api/auth/me',
  '/api//auth/me',
  '/api/%61uth/me',
  '/api/auth/me%',
  '/api/auth/m%e9%zz',
  'http://localhost/api/auth/me',
  'http://evil.example/metrics',
];

describe('a path that is not canonical', () => {
  it.each(oddTargets)('is refused with 400, over HTTP and in upgrades: %s', async (target) => {
    const { status, body } = await send(target);
    expect([status, JSON.parse(body)]).toMatchObject([400, { code: 'path_not_canonical' }]);
    expect((await send(target, upgrade)).status).toBe(400);
  });

  // The adapter of the framework refuses this target itself.
  it('is refused with 400 if it has a backslash', async () => {
    expect((await send('/a\\metrics')).status).toBe(400);
    expect((await send('/a\\metrics', upgrade)).status).toBe(400);
  });

  it.each(['/api/%77s', '/./api/ws', '//api/ws', '/api/ws/.', '/api/ws/../ws'])(
    'opens no WebSocket: %s',
    async (target) => {
      expect((await send(`${target}?${channel}`, upgrade)).status).toBe(400);
    },
  );

  it('differs from its normalized form', () => {
    for (const target of [
      '/',
      '/p/b%C3%BCcher/a%20b',
      '/api/x?next=//a/../%6d',
      "/a-._~!$&'()*+,;=:@",
      '/a/',
    ])
      expect([target, hasCanonicalPath(target)]).toStrictEqual([target, true]);
    for (const target of ['', '*', 'x', '/..', '/a/.', '/é', '/a#b', '/%41', '/%7E', '/%', '/%2'])
      expect([target, hasCanonicalPath(target)]).toStrictEqual([target, false]);
    const encoded = Array.from({ length: 256 }, (_, byte) => byte).filter(
      (byte) => !hasCanonicalPath(`/%${byte.toString(16).padStart(2, '0')}`),
    );
    expect(String.fromCharCode(...encoded)).toMatch(/^-\.\/[0-9]{10}[A-Z]{26}\\_[a-z]{26}~$/);
  });

  it('is left to the host if the server is embedded', async () => {
    const host: Server = createServer((request, response) => {
      server.flagcast.middleware(request, response, () => response.end(`host ${request.url ?? ''}`));
    });
    server.flagcast.attach(host);
    host.on('upgrade', (request, socket) => {
      if (request.url?.startsWith('/api/ws?') !== true)
        socket.end(`HTTP/1.1 418 ${request.url ?? ''}\r\n\r\n`);
    });
    host.listen(0, '127.0.0.1');
    await once(host, 'listening');
    onTestFinished(() => {
      host.closeAllConnections();
      host.close();
    });
    const { port } = host.address() as AddressInfo;
    for (const target of ['/%6detrics', '//metrics', '/./api/auth/me']) {
      expect(await send(target, {}, port)).toMatchObject({ status: 200 });
      expect(await send(target, upgrade, port)).toMatchObject({ status: 418 });
    }
    expect((await send(`/api/ws?${channel}`, upgrade, port)).status).toBe(101);
  });

  it('keeps its WebSockets from libraries that destroy sockets of other paths', async () => {
    const host = createServer();
    const before = new WebSocketServer({ server: host, path: '/before' });
    server.flagcast.attach(host);
    const after = new WebSocketServer({ server: host, path: '/after' });
    await once(host.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => {
      for (const { clients } of [before, after]) for (const client of clients) client.terminate();
      host.closeAllConnections();
      host.close();
    });
    const { port } = host.address() as AddressInfo;
    for (let count = 0; count < 3; count += 1) {
      const address = `ws://localhost:${port}/api/ws?${channel}`;
      const socket = new WebSocket(address, 'flagcast.v1', { headers: { Authorization: `Bearer ${token}` } });
      const [hello] = (await once(socket, 'message')) as [Buffer];
      expect(hello.toString('utf8')).toContain('"type":"hello"');
      socket.terminate();
    }
  });
});

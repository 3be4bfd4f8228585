import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { handshake, PlainClient, Refused } from './plain-client.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestServerOptions } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let token: string;
let channel: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
});

afterAll(async () => await database.drop());

async function start(options: TestServerOptions): Promise<TestServer> {
  const server = await startTestServer(database.url, options);
  onTestFinished(async () => await server.close());
  return server;
}

/** A TCP connection that the server has accepted. */
async function open(server: TestServer): Promise<Socket> {
  return (await openBothEnds(server)).socket;
}

async function openBothEnds(server: TestServer): Promise<{ socket: Socket; atServer: Socket }> {
  const accepted = once(server.http, 'connection') as Promise<[Socket]>;
  const socket = connect(Number(new URL(server.httpUrl).port), '127.0.0.1');
  socket.on('error', () => undefined);
  const [[atServer]] = await Promise.all([accepted, once(socket, 'connect')]);
  onTestFinished(() => void socket.destroy());
  return { socket, atServer };
}

/** Resolves with the received bytes when the server has ended the connection. */
async function ended(socket: Socket): Promise<string> {
  return await text(socket).catch(() => '');
}

describe('a connection that has not authenticated', () => {
  const timing = { requestHeadersTimeoutMs: 200 };

  it('is closed if it sends nothing', async () => {
    const server = await start({ timeouts: timing });
    expect(await ended(await open(server))).toMatch(/^(HTTP\/1\.1 408 |$)/);
  });

  it('is closed if the head of its request does not end', async () => {
    const server = await start({ timeouts: timing });
    const socket = await open(server);
    socket.write('GET /api/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n');
    const timer = setInterval(() => socket.write('X-More: 1\r\n'), 50);
    onTestFinished(() => clearInterval(timer));
    expect(await ended(socket)).toMatch(/^(HTTP\/1\.1 408 |$)/);
  });

  it('is closed if the client does not read the answers', async () => {
    const server = await start({ timeouts: { idleTimeoutMs: 200 } });
    const { socket, atServer } = await openBothEnds(server);
    socket.pause();
    const closed = once(atServer, 'close');
    // More than the buffers of both ends hold.
    socket.write('GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1_000));
    await closed;
  });

  it('is closed soon after a flagcast.v1 client was refused, even if the client keeps it open', async () => {
    const server = await start({ timeouts: { refusedCloseTimeoutMs: 100 } });
    const closed = new Promise<void>((resolve) => {
      server.http.once('connection', (socket: Socket) => socket.once('close', () => resolve()));
    });
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    // It reads nothing, so it never answers the close frame, and it keeps sending pings.
    const { socket } = await handshake(server.wsUrl, '', { 'Sec-WebSocket-Protocol': 'flagcast.v1' });
    expect((await refused).code).toBe('token_missing');
    socket?.on('error', () => undefined);
    const ping = Buffer.from([0x89, 0x80, 0, 0, 0, 0]);
    const timer = setInterval(() => socket?.write(ping), 10);
    await closed;
    clearInterval(timer);
    socket?.destroy();
  });
});

describe('the limit on HTTP connections of an address', () => {
  const sendRequest = async (socket: Socket, path: string): Promise<string> => {
    const answer = once(socket, 'data');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    return String((await answer)[0]);
  };

  it('counts connections whose requests have authenticated, and whose streams were refused, until they close', async () => {
    const server = await start({ limits: { connectionsPerAddress: 2 } });
    const first = await openBothEnds(server);
    expect(await sendRequest(first.socket, '/api/auth/me')).toMatch(/^HTTP\/1\.1 200 /);
    const unknown = `/api/events?project_id=${channel.projectId}&env=none`;
    expect(await sendRequest(await open(server), unknown)).toMatch(/^HTTP\/1\.1 404 /);
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    expect(await ended(await open(server))).toBe('');
    expect(await refused).toMatchObject({ status: 429, code: 'too_many_address' });
    const left = once(first.atServer, 'close');
    first.socket.destroy();
    await left;
    expect(await sendRequest(await open(server), '/api/auth/me')).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('does not count WebSockets and streams, which have a limit of their own', async () => {
    const server = await start({ limits: { connectionsPerAddress: 2 } });
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.control('hello');
    const stream = `/api/events?project_id=${channel.projectId}&env=prod`;
    // Else further requests could follow the end of the stream.
    expect(await sendRequest(await open(server), stream)).toMatch(
      /^HTTP\/1\.1 200 .*\r\nConnection: close\r\n/is,
    );
    for (let count = 0; count < 2; count += 1) {
      expect(await sendRequest(await open(server), '/api/auth/me')).toMatch(/^HTTP\/1\.1 200 /);
    }
  });
});

describe('the limit on connections that have not authenticated', () => {
  it('closes further ones of an address, while open ones are served and other addresses connect', async () => {
    const server = await start({ limits: { connectionsPerAddress: 5 } });
    const query = { project_id: channel.projectId, env_id: channel.environmentId };
    const inside = await PlainClient.connect(server.wsUrl, query, { token });
    for (let count = 0; count < 4; count += 1) await open(server);
    const leaving = await openBothEnds(server);

    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    expect(await ended(await open(server))).toBe('');
    expect(await refused).toMatchObject({ status: 429, code: 'too_many_address', address: '127.0.0.1' });
    const { entityId } = await insertAudit(database.pool, channel);
    await inside.received((message) => message.entity_id === entityId);

    const left = once(leaving.atServer, 'close');
    leaving.socket.destroy();
    await left;
    await PlainClient.connect(server.wsUrl, query, { token });
  });

  it('closes further ones of all addresses, and counts them in the metrics', async () => {
    const server = await start({ limits: { unauthenticatedConnections: 3 } });
    for (let count = 0; count < 2; count += 1) await open(server);
    const scraping = await open(server);
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    expect(await ended(await open(server))).toBe('');
    expect(await refused).toMatchObject({ status: 503, code: 'busy' });
    scraping.end('GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const answer = await ended(scraping);
    expect(answer).toContain('\nflagcast_connections_unauthenticated 3\n');
    expect(answer).toContain('\nflagcast_connections_refused_total{code="busy"} 1\n');
  });

  it('does not count connections that have authenticated, by a WebSocket or a request', async () => {
    const server = await start({ limits: { unauthenticatedConnections: 1 } });
    const clients: V1Client[] = [];
    for (let count = 0; count < 3; count += 1) {
      const client = await V1Client.connect(server.wsUrl, { token });
      await client.control('hello');
      clients.push(client);
      const socket = await open(server);
      const answer = once(socket, 'data');
      socket.write(`GET /api/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
      expect(String((await answer)[0])).toMatch(/^HTTP\/1\.1 200 /);
    }
  });

  it('counts handshakes through a trusted proxy by the address of the client', async () => {
    const server = await start({
      limits: { connectionsPerAddress: 2 },
      network: { trustedProxies: ['127.0.0.1'] },
    });
    // The connections of the proxy itself are not counted.
    for (let count = 0; count < 4; count += 1) await open(server);
    const through = async (address: string): Promise<unknown> =>
      await V1Client.connect(server.wsUrl, { headers: { 'X-Forwarded-For': address } }).catch(
        (error: unknown) => error,
      );
    const client = await database.pool.connect();
    await client.query('BEGIN; LOCK TABLE users');
    const waiting = [1, 2].map(async () => {
      return await V1Client.connect(server.wsUrl, { token, headers: { 'X-Forwarded-For': '192.0.2.1' } });
    });
    await Promise.all(waiting);
    const third = await through('192.0.2.1');
    expect(third).toBeInstanceOf(Refused);
    expect((third as Refused).status).toBe(429);
    expect((third as Refused).body.code).toBe('too_many_address');
    expect(await through('192.0.2.2')).toBeInstanceOf(V1Client);
    await client.query('ROLLBACK');
    client.release();
  });

  it("applies only to upgrades on a host's own server", async () => {
    const server = await start({ limits: { unauthenticatedConnections: 1 } });
    const host = createServer((_request, response) => response.end('host'));
    server.flagcast.attach(host);
    host.listen(0, '127.0.0.1');
    await once(host, 'listening');
    onTestFinished(() => {
      host.closeAllConnections();
      host.close();
    });
    const { port } = host.address() as AddressInfo;
    for (let count = 0; count < 3; count += 1) {
      const socket = connect(port, '127.0.0.1');
      const answer = once(socket, 'data');
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      expect(String((await answer)[0])).toContain('host');
      socket.destroy();
    }
    const client = await database.pool.connect();
    await client.query('BEGIN; LOCK TABLE users');
    const waiting = await V1Client.connect(`ws://127.0.0.1:${port}/api/ws`, { token });
    const { status } = await handshake(`ws://127.0.0.1:${port}/api/ws`, '');
    expect(status).toBe(503);
    await client.query('ROLLBACK');
    client.release();
    await waiting.control('hello');
    await waiting.close();
  });
});

import type { Server } from 'node:http';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { handshake, PlainClient } from './plain-client.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';

/** Resolves when the server has received an upgrade, which it keeps from other listeners. */
async function nextUpgrade(http: Server): Promise<void> {
  const emit = http.emit.bind(http);
  await new Promise<void>((resolve) => {
    http.emit = (name: string, ...values: unknown[]) => {
      if (name === 'upgrade') {
        http.emit = emit;
        resolve();
      }
      return emit(name, ...values);
    };
  });
}

// PostgreSQL deletes no database while a process is stopped: other test files must not wait for this one.
let cluster: TestCluster;
let database: TestDatabase;
let server: TestServer;
let token: string;
let channel: { projectId: string; environmentId: string };
let query: string;

beforeAll(async () => {
  cluster = await createTestCluster();
});

afterAll(async () => await cluster.remove());

beforeEach(async () => {
  database = await cluster.createDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
  query = `project_id=${projectId}&env=prod`;
});

afterEach(async () => {
  await server.close();
  await database.drop();
});

async function start(): Promise<void> {
  server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
}

async function connect(as = token): Promise<PlainClient> {
  const wanted = { project_id: channel.projectId, env: 'prod' };
  return await PlainClient.connect(server.wsUrl, wanted, { token: as });
}

async function expectDraining(): Promise<void> {
  const { status, headers, body } = await handshake(server.wsUrl, query, {
    Authorization: `Bearer ${token}`,
  });
  expect(status).toBe(503);
  expect(headers['retry-after']).toBe('1');
  expect(JSON.parse(body)).toStrictEqual({
    code: 'draining',
    message: 'The server is shutting down: connect again shortly',
  });
}

async function openSockets(): Promise<number> {
  return await new Promise((resolve, reject) => {
    server.http.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}

/** What keeps this process alive. */
function sockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length;
}

describe('close()', () => {
  it('closes connections with 4000, refuses new ones, and leaves nothing open', async () => {
    const before = sockets();
    await start();
    const clients = [await connect(), await connect(), await connect()];
    const all = Promise.all(clients.map(async (client) => await client.closed));
    const closing = server.flagcast.close();
    await expectDraining();
    for (const closed of await all) {
      expect(closed).toStrictEqual({ code: 4000, reason: 'draining' });
    }
    await closing;
    await expectDraining();
    await expect.poll(openSockets).toBe(0);
    await expect.poll(sockets).toBeLessThanOrEqual(before);
    const { rows } = await database.pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'flagcast%'`,
    );
    expect(rows).toHaveLength(0);
    // Closing a closed server resolves immediately.
    await server.flagcast.close();
  });

  it('delivers earlier events to the clients that it closes', async () => {
    await start();
    const client = await connect();
    const sent = nextEvent(server.flagcast.lifecycle, 'batch:broadcast');
    const { entityId } = await insertAudit(database.pool, channel);
    await sent;
    await server.flagcast.close();
    expect((await client.closed).code).toBe(4000);
    expect(client.messages.map(({ entity_id: id }) => id)).toStrictEqual([entityId]);
  });

  it('does not wait for a client that never answers, and logs these clients', async () => {
    await start();
    const { socket } = await handshake(server.wsUrl, query, { Authorization: `Bearer ${token}` });
    const client = await connect();
    const left: unknown[] = [];
    server.flagcast.lifecycle.on('connection:closed', ({ code, reason }) => left.push({ code, reason }));
    const closing = server.flagcast.close();
    // Long before the time-out of the other one.
    await client.closed;
    expect(left.length).toBeLessThanOrEqual(1);
    await expectDraining();
    await closing;
    const shutDown = { code: 4000, reason: 'draining' };
    expect(left).toStrictEqual([shutDown, shutDown]);
    await expect.poll(openSockets).toBe(0);
    socket?.destroy();
  });

  it('does not wait for a database that never answers, or for the clients that wait for it', async () => {
    const people = await Promise.all(
      ['ann', 'ben', 'cleo'].map(
        async (name) => await createUser(database.pool, name, { superuser: true, ttlMs: 600_000 }),
      ),
    );
    const before = sockets();
    await start();
    // Connect concurrently, so that more than one lookup of rights is in progress.
    await Promise.all(
      people.map(async (person) => {
        const headers = { Authorization: `Bearer ${person.token}`, Connection: 'close' };
        await (await fetch(`${server.httpUrl}/api/projects`, { headers })).json();
      }),
    );
    const client = await connect();
    const { rows } = await database.pool.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'flagcast%'`,
    );
    // The reader, and two that look up rights.
    expect(rows.length).toBeGreaterThanOrEqual(3);
    for (const { pid } of rows) process.kill(pid, 'SIGSTOP');
    try {
      const asked = nextUpgrade(server.http);
      const refusal = handshake(server.wsUrl, query, { Authorization: `Bearer ${token}` });
      await asked;
      await server.flagcast.close();
      expect((await client.closed).code).toBe(4000);
      const { status, body } = await refusal;
      expect(status).toBe(503);
      expect(JSON.parse(body)).toMatchObject({ code: 'draining' });
      await expect.poll(openSockets).toBe(0);
      await expect.poll(sockets).toBeLessThanOrEqual(before);
    } finally {
      for (const { pid } of rows) process.kill(pid, 'SIGCONT');
    }
  });

  it('refuses a client whose authorization was in progress', async () => {
    await start();
    await withClient(database.url, async (client) => {
      await client.query('BEGIN; LOCK TABLE users');
      const asked = nextUpgrade(server.http);
      const refusal = handshake(server.wsUrl, query, { Authorization: `Bearer ${token}` });
      await asked;
      const closing = server.flagcast.close();
      await client.query('COMMIT');
      const { status, body } = await refusal;
      expect(status).toBe(503);
      expect(JSON.parse(body)).toMatchObject({ code: 'draining' });
      await closing;
    });
  });
});

describe('an upgrade on another path', () => {
  it('is left to another listener of the server', async () => {
    await start();
    const others = new WebSocketServer({ noServer: true });
    server.http.on('upgrade', (request, socket, head) => {
      if (request.url !== '/other') return;
      others.handleUpgrade(request, socket, head, (webSocket) => {
        webSocket.on('message', (data: Buffer) => webSocket.send(`other: ${data.toString('utf8')}`));
      });
    });
    const { port } = new URL(server.wsUrl);
    const socket = new WebSocket(`ws://127.0.0.1:${port}/other`);
    await once(socket, 'open');
    socket.send('hello');
    const [answer] = (await once(socket, 'message')) as [Buffer];
    expect(answer.toString('utf8')).toBe('other: hello');

    const client = await connect();
    const { entityId } = await insertAudit(database.pool, channel);
    await client.received(({ entity_id: id }) => id === entityId);
    await server.flagcast.close();
    expect((await client.closed).code).toBe(4000);

    // It belongs to a server that is not shutting down.
    socket.send('again');
    const [later] = (await once(socket, 'message')) as [Buffer];
    expect(later.toString('utf8')).toBe('other: again');
    socket.terminate();
  });
});

import { IncomingMessage } from 'node:http';
import { queryObjects } from 'node:v8';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, seedProject, type TestDatabase, withClient } from './database.js';
import { handshake, PlainClient, Refused } from './plain-client.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestUser } from './server.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let projectId: string;
let query: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ projectId } = await seedProject(database.pool));
  query = `project_id=${projectId}&env=prod`;
  root = await createUser(database.pool, 'root', { superuser: true });
  server = await startTestServer(database.url, {
    limits: { connectionsPerUser: 2 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function connect(at = server): Promise<PlainClient> {
  return await PlainClient.connect(at.wsUrl, { project_id: projectId, env: 'prod' }, { token: root.token });
}

/** Waits until the server has noticed that they closed, so that their slots are free. */
async function leave(clients: PlainClient[], at = server): Promise<void> {
  for (const client of clients) {
    const closed = nextEvent(at.flagcast.lifecycle, 'connection:closed');
    await client.close();
    await closed;
  }
}

describe('handshakes', () => {
  it.each([
    { 'Sec-WebSocket-Key': null },
    { 'Sec-WebSocket-Key': 'too short' },
    { 'Sec-WebSocket-Version': null },
    { 'Sec-WebSocket-Version': '7' },
    { 'Sec-WebSocket-Protocol': 'a,,b' },
    { Upgrade: 'websocket/13' },
    // node:http looks for it in other requests only.
    { Host: null },
  ])('with %j are refused with the usual error response', async (headers) => {
    const refused = nextEvent(server.flagcast.lifecycle, 'connection:refused');
    const answer = await handshake(server.wsUrl, query, {
      Authorization: `Bearer ${root.token}`,
      ...headers,
    });
    expect(answer.status).toBe(400);
    const problem = {
      code: 'bad_handshake',
      message: expect.stringMatching(/^This is not a WebSocket handshake: .*header$/) as string,
    };
    expect(JSON.parse(answer.body)).toStrictEqual(problem);
    expect(answer.headers['sec-websocket-version']).toBe('13');
    expect(await refused).toStrictEqual({ ...problem, status: 400, address: '127.0.0.1' });
  });

  it('on another path get a response with the right path', async () => {
    const { status, body } = await handshake(`${server.wsUrl}/more`, query);
    expect(status).toBe(404);
    expect(JSON.parse(body)).toStrictEqual({
      code: 'not_found',
      message: 'WebSockets are served on /api/ws',
    });
  });

  it('are answered after a time-out, and then release their slot', async () => {
    const hasty = await startTestServer(database.url, {
      limits: { connectionsPerUser: 2 },
      // The lookup itself is never given up.
      timeouts: { handshakeTimeoutMs: 300, queryTimeoutMs: 600_000 },
    });
    const answers = await withClient(database.url, async (client) => {
      await client.query('BEGIN; LOCK TABLE users');
      const headers = { Authorization: `Bearer ${root.token}` };
      const asked = [1, 2, 3].map(async () => await handshake(hasty.wsUrl, query, headers));
      return await Promise.all(asked);
    });
    for (const { status, headers, body } of answers) {
      expect(status).toBe(503);
      expect(headers['retry-after']).toBe('2');
      expect(JSON.parse(body)).toMatchObject({ code: 'unavailable' });
    }
    await leave([await connect(hasty), await connect(hasty)], hasty);
    await hasty.close();
  });

  it('beyond the limit of a user are refused until a connection closes, and failed ones do not count', async () => {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const headers = { Authorization: `Bearer ${root.token}`, 'Sec-WebSocket-Key': 'bad' };
      expect((await handshake(server.wsUrl, query, headers)).status).toBe(400);
    }
    const clients = [await connect(), await connect()];
    const refusal: unknown = await connect().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Refused);
    const { status, body, headers } = refusal as Refused;
    expect(status).toBe(429);
    expect(body).toStrictEqual({
      code: 'too_many_user',
      message: expect.stringContaining('FLAGCAST_MAX_CONNECTIONS_PER_USER') as string,
    });
    expect(headers['retry-after']).toBe('5');
    await leave(clients.splice(0, 1));
    clients.push(await connect());
    await leave(clients);
  });

  it('leave no headers and no token in memory while the connection is open', async () => {
    const plain = await connect();
    const channel = { project_id: projectId, env: 'prod' };
    const session = await V1Client.connect(server.wsUrl, { token: root.token, query: channel });
    await session.control('caught_up');
    const requests = queryObjects(IncomingMessage, { format: 'summary' });
    expect(requests.filter((request) => request.includes(query))).toStrictEqual([]);
    await session.close();
    await leave([plain]);
  });
});

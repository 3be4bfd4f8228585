import { once } from 'node:events';
import { IncomingMessage, request as httpRequest, ServerResponse } from 'node:http';
import { connect, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ResponseMemory } from '../src/api/request-limits.js';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  testSecret,
  type TestUser,
  type TestServerOptions,
} from './server.js';
import { createRestFixture } from './rest-fixture.js';
import type { TestChannel } from './v1-client.js';

/** A snapshot of this many features has 8 MB, more than the buffers of a connection. */
const features = 20_000;

let database: TestDatabase;
let channel: TestChannel;
const viewers: TestUser[] = [];
const open: IncomingMessage[] = [];

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
  await database.pool.query(
    `INSERT INTO features (id, project_id, key, name, description, kind)
     SELECT gen_random_uuid(), $1, 'feature-' || n, 'Feature ' || n, repeat(md5(n::text), 3), 'simple'
     FROM generate_series(1, $2) AS n`,
    [projectId, features],
  );
  for (let number = 0; number < 31; number += 1) {
    const user = await createUser(database.pool, `viewer ${number}`, { ttlMs: 600_000 });
    await addMember(database.pool, projectId, user.id, 'project_viewer');
    viewers.push(user);
  }
});

afterAll(async () => await database.drop());

afterEach(() => {
  for (const response of open.splice(0)) response.destroy();
});

const snapshotPath = (): string =>
  `/api/snapshot?project_id=${channel.projectId}&env_id=${channel.environmentId}`;

/** Asks, and reads no more than the head of the answer. */
async function askUnread(
  httpUrl: string,
  { token }: TestUser,
  path = snapshotPath(),
): Promise<IncomingMessage> {
  const asked = httpRequest(`${httpUrl}${path}`, {
    agent: false,
    headers: { Authorization: `Bearer ${token}` },
  });
  asked.on('error', () => undefined);
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  open.push(response);
  return response;
}

async function get(httpUrl: string, { token }: TestUser, path: string): Promise<Response> {
  return await fetch(`${httpUrl}${path}`, { headers: { Authorization: `Bearer ${token}` } });
}

async function start(options: TestServerOptions = {}): Promise<TestServer> {
  // These snapshots take longer on a busy machine.
  const timeouts = { queryTimeoutMs: 60_000 };
  const server = await startTestServer(database.url, { timeouts, ...options });
  onTestFinished(async () => await server.close());
  return server;
}

const [first, second] = [0, 1].map((index) => (): TestUser => viewers[index] as TestUser) as [
  () => TestUser,
  () => TestUser,
];

describe('case 23: unread snapshots', () => {
  it('do not exhaust a small heap, and other users are served', async () => {
    const serve = new RunningCommand(['serve', '--port', '0'], {
      env: {
        DATABASE_URL: database.url,
        FLAGCAST_JWT_SECRET: testSecret,
        NODE_OPTIONS: '--max-old-space-size=160',
      },
    });
    onTestFinished(async () => await serve.end());
    const { url } = await serve.logged('server_listening');
    await serve.logged('reader_started');
    const httpUrl = String(url);
    for (let count = 0; count < 2; count += 1) {
      await Promise.all(
        viewers.slice(1).map(async (viewer, index) => {
          // Between the requests something is committed, so that few of them can share a snapshot.
          if (index % 3 === 0) await insertAudit(database.pool, channel);
          await askUnread(httpUrl, viewer);
        }),
      );
    }
    const other = await get(httpUrl, first(), snapshotPath());
    expect(other.status).toBe(200);
    expect(((await other.json()) as Snapshot).features).toHaveLength(features);
    expect((await get(httpUrl, first(), '/api/projects')).status).toBe(200);
    expect(serve.process.exitCode).toBe(null);
  });

  it('are bounded for one user, and the limit of one user leaves room for others', async () => {
    const { httpUrl } = await start({ limits: { responseBytes: 18_000_000 } });
    await askUnread(httpUrl, first());
    await insertAudit(database.pool, channel);
    let isAnswered = false;
    const waiting = askUnread(httpUrl, first()).then((response) => {
      isAnswered = true;
      return response;
    });
    const other = await get(httpUrl, second(), snapshotPath().replace('snapshot', 'audit'));
    expect(other.status).toBe(200);
    await other.arrayBuffer();
    expect(isAnswered).toBe(false);
    open[0]?.destroy();
    expect((await waiting).statusCode).toBe(200);
  });

  it('that wait for memory keep the slots of their user, so that no more of them are created', async () => {
    const { httpUrl } = await start({ limits: { responseBytes: 18_000_000 } });
    const audit = snapshotPath().replace('snapshot', 'audit');
    const held = await askUnread(httpUrl, first());
    const waiting: Promise<unknown>[] = [];
    for (let count = 0; count < 2; count += 1) {
      await insertAudit(database.pool, channel);
      waiting.push(askUnread(httpUrl, first()).catch(() => undefined));
    }
    // Snapshots of a channel are taken one after another, so those of the first user are complete, too.
    await (await get(httpUrl, second(), snapshotPath())).arrayBuffer();
    let isCreated = false;
    // On a busy machine it may be refused meanwhile, because it waits too long for a slot, or get that of the unread
    // response, which ends when nothing was read of it for five seconds.
    const own = askUnread(httpUrl, first(), audit).then(async ({ statusCode }) => {
      await new Promise(setImmediate);
      isCreated = statusCode === 200 && !held.destroyed;
    });
    for (let count = 0; count < 2; count += 1) {
      expect((await get(httpUrl, second(), audit)).status).toBe(200);
    }
    expect(isCreated).toBe(false);
    held.destroy();
    await Promise.all([own, Promise.race(waiting)]);
  });
});

describe('pipelined requests', () => {
  it('take neither memory nor a connection while they wait', async () => {
    const { httpUrl, flagcast } = await start({
      limits: { responseBytes: 9_000_000, connectionsPerUser: 1 },
    });
    const head = (path: string): string =>
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${first().token}\r\n\r\n`;
    const events = snapshotPath().replace('snapshot', 'events');
    const opened = nextEvent(flagcast.lifecycle, 'connection:opened');
    const closed = nextEvent(flagcast.lifecycle, 'connection:closed');
    const socket = connect(Number(new URL(httpUrl).port), '127.0.0.1');
    socket.resume().write(head(events) + head(snapshotPath()) + head(events));
    await opened;
    await (await get(httpUrl, second(), snapshotPath())).arrayBuffer();
    socket.destroy();
    await closed;
    expect((await get(httpUrl, second(), snapshotPath())).status).toBe(200);
    const stream = await askUnread(httpUrl, first(), events);
    expect(stream.statusCode).toBe(200);
  });

  it('are answered in turn', async () => {
    const { httpUrl } = await start();
    const socket = connect(Number(new URL(httpUrl).port), '127.0.0.1');
    const target = (path: string, rest = ''): string =>
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${first().token}\r\n${rest}\r\n`;
    socket.write(target(snapshotPath()) + target('/healthz') + target('/readyz', 'Connection: close\r\n'));
    const answer = await text(socket);
    expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(3);
    expect(answer.endsWith('{"status":"ready"}')).toBe(true);
  });
});

describe('the memory of responses', () => {
  /** Requests this number of bytes for a connected client. */
  const ask = (
    memory: ResponseMemory,
    userId: string,
    bytes: number,
  ): { response: ServerResponse; body: Promise<ReadableStream> } => {
    const socket = new Socket();
    const response = new ServerResponse(new IncomingMessage(socket));
    response.assignSocket(socket);
    return { response, body: memory.body(Buffer.alloc(bytes), userId, response) };
  };

  it('ends the response of a slow reader while another user waits', async () => {
    const bytes = 32_000_000;
    const memory = new ResponseMemory({ maxBytes: 2 * bytes, stallTimeoutMs: 200 });
    const slow = [ask(memory, 'first', bytes), ask(memory, 'second', bytes)];
    for (const { body } of slow) {
      const reader = (await body).getReader();
      const timer = setInterval(() => void reader.read(), 20);
      onTestFinished(() => clearInterval(timer));
    }
    await ask(memory, 'third', bytes).body;
    expect(slow.map(({ response }) => response.destroyed)).toStrictEqual([true, false]);
  });

  it('lets no more bytes wait than it holds', async () => {
    const memory = new ResponseMemory({ maxBytes: 200 });
    const held = [ask(memory, 'first', 100), ask(memory, 'second', 100)];
    const waiting = [ask(memory, 'third', 100), ask(memory, 'fourth', 100)];
    await expect(ask(memory, 'fifth', 100).body).rejects.toMatchObject({
      status: 503,
      code: 'busy',
    });
    for (const { response } of held) response.destroy();
    await Promise.all([...held, ...waiting].map(async ({ body }) => await body));
    expect(memory.heldBytes).toBe(200);
  });
});

describe('a snapshot', () => {
  it('is compressed for clients that accept it', async () => {
    const { httpUrl } = await start();
    const headers = { Authorization: `Bearer ${first().token}` };
    const read = async (encoding: string): Promise<{ response: IncomingMessage; body: Buffer }> => {
      const asked = httpRequest(`${httpUrl}${snapshotPath()}`, {
        agent: false,
        headers: { ...headers, 'Accept-Encoding': encoding },
      }).end();
      const [response] = (await once(asked, 'response')) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      return { response, body: Buffer.concat(chunks) };
    };
    const [zipped, plain] = [await read('br, gzip'), await read('gzip;q=0')];
    expect(zipped.response.headers['content-encoding']).toBe('gzip');
    expect(zipped.response.headers['vary']).toContain('Accept-Encoding');
    expect(plain.response.headers['content-encoding']).toBe(undefined);
    // The cursors differ where a transaction has ended meanwhile, in whatever database of the cluster.
    const features = (body: Buffer): unknown => (JSON.parse(body.toString()) as Snapshot).features;
    expect(features(gunzipSync(zipped.body))).toStrictEqual(features(plain.body));
    expect(zipped.body.length).toBeLessThan(plain.body.length / 3);
  });
});

it('runs two expensive requests of a user at a time, lets more wait, and refuses the rest', async () => {
  // The two that run must not give up while the others arrive.
  const rest = await createRestFixture({ timeouts: { queryTimeoutMs: 60_000 } });
  const { shop, pool } = rest;
  const feature = await rest.addFeature();
  const lock = await pool.connect();
  try {
    const audit = `/api/audit?project_id=${shop.projectId}&env=prod`;
    const snapshot = `/api/snapshot?project_id=${shop.projectId}&env=prod`;
    await lock.query('BEGIN');
    await lock.query('LOCK TABLE pending_changes IN ACCESS EXCLUSIVE MODE');
    const answers: ReturnType<typeof rest.ask>[] = [];
    // Two snapshots of a channel would wait for one statement.
    for (const path of [audit, snapshot]) {
      answers.push(rest.ask('carol', 'GET', path));
      await expect
        .poll(async () => {
          const { rows } = await pool.query<{ waiting: number }>(
            `SELECT count(*)::int AS waiting FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return rows[0]?.waiting;
        })
        .toBe(answers.length);
    }
    // They arrive in any order.
    const refused: Awaited<ReturnType<typeof rest.ask>>[] = [];
    for (let count = 0; count < 64 + 6; count += 1) {
      const answer = rest.ask('carol', 'GET', count % 2 === 0 ? audit : snapshot);
      void answer.then((refusal) => refusal.status === 429 && refused.push(refusal));
      answers.push(answer);
    }
    await expect.poll(() => refused.length).toBe(6);
    expect(refused[0]).toMatchObject({ status: 429, body: { code: 'too_many_requests' } });
    expect(refused[0]?.headers.get('retry-after')).toBe('2');
    expect((await rest.ask('carol', 'GET', `/api/features/${feature.id}?env=prod`)).status).toBe(429);
    expect((await rest.ask('alice', 'GET', '/api/auth/me')).status).toBe(200);
    await lock.query('COMMIT');
    const answered = (await Promise.all(answers)).filter(({ status }) => status === 200);
    expect(answered).toHaveLength(2 + 64);
    expect((await rest.ask('carol', 'GET', audit)).status).toBe(200);
  } finally {
    lock.release(true);
    await rest.close();
  }
});

import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import type { Snapshot } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { FlagcastOptions } from '../src/flagcast-options.js';
import { RunningCommand } from './command.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import {
  addMember,
  createUser,
  startTestServer,
  type TestServer,
  testSecret,
  type TestUser,
} from './server.js';
import type { TestChannel } from './v1-client.js';

/** A snapshot of so many is 8 MB: more than the buffers of a connection take. */
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
}, 60_000);

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

async function start(options: Partial<FlagcastOptions> = {}): Promise<TestServer> {
  const server = await startTestServer(database.url, options);
  onTestFinished(async () => await server.close());
  return server;
}

const [first, second] = [0, 1].map((index) => (): TestUser => viewers[index] as TestUser) as [
  () => TestUser,
  () => TestUser,
];

describe('case 23: snapshots that nobody reads', () => {
  it('leave a server with a small heap alive, and others are served', async () => {
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
  }, 120_000);

  it('end when their client has taken nothing for the time-out', async () => {
    const { http, httpUrl } = await start({ timing: { answerStallTimeoutMs: 400 } });
    const accepted = once(http, 'connection');
    const unread = await askUnread(httpUrl, first());
    const [line] = (await accepted) as [Socket];
    if (!line.destroyed) await once(line, 'close');
    const read = await get(httpUrl, second(), snapshotPath());
    expect(((await read.json()) as Snapshot).features).toHaveLength(features);
    unread.resume();
    await expect(once(unread, 'end')).rejects.toThrow('aborted');
  });

  it('are bounded for one user, and the limit of one user leaves room for others', async () => {
    const { httpUrl } = await start({ answerMemoryBytes: 18_000_000 });
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

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createFlagcast } from '../src/flagcast.js';
import { signToken } from '../src/auth/sign-token.js';
import {
  allowLargeEvents,
  createTestDatabase,
  insertAudit,
  largeEntity,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { Refused } from './plain-client.js';
import {
  addMember,
  burst,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  testSecret,
  type TestUser,
  type TestServerOptions,
} from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

const highWaterBytes = 1_048_576;

let database: TestDatabase;
let server: TestServer;
let root: TestUser;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  await withClient(database.url, async (client) => {
    await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    await allowLargeEvents(client);
  });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function freshServer(options: TestServerOptions): Promise<TestServer> {
  const fresh = await startTestServer(database.url, options);
  onTestFinished(async () => await fresh.close());
  return fresh;
}

async function freshChannel(): Promise<TestChannel> {
  const { projectId, environments } = await seedProject(database.pool);
  return { projectId, environmentId: environments.prod };
}

async function open(
  { projectId, environmentId }: TestChannel,
  options: { at?: TestServer; token?: string; query?: Record<string, string>; lastEventId?: string } = {},
): Promise<EventStreamClient> {
  const { at = server, token = root.token, query = {}, lastEventId } = options;
  const stream = await EventStreamClient.open(
    at.httpUrl,
    { project_id: projectId, env_id: environmentId, ...query },
    {
      Authorization: `Bearer ${token}`,
      ...(lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId }),
    },
  );
  onTestFinished(() => void stream.response.destroy());
  return stream;
}

function received({ events }: { readonly events: { readonly entity_id: string }[] }): string[] {
  return events.map((event) => event.entity_id);
}

it('HEAD opens no stream of events', async () => {
  const { projectId, environmentId } = await freshChannel();
  const query = new URLSearchParams({ project_id: projectId, env_id: environmentId }).toString();
  const answer = await fetch(`${server.httpUrl}/api/events?${query}`, {
    method: 'HEAD',
    headers: { Authorization: `Bearer ${root.token}` },
  });
  expect(answer.status).toBe(405);
});

describe('a stream of server-sent events', () => {
  it('has the messages of a WebSocket in the same order, with the cursors as ids', async () => {
    const channel = await freshChannel();
    const socket = await V1Client.connect(server.wsUrl, {
      token: root.token,
      query: { project_id: channel.projectId, env_id: channel.environmentId },
    });
    await socket.control('caught_up');
    const stream = await open(channel);
    expect(stream.response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    });
    await stream.control('caught_up');
    expect(stream.retryMs).toBe(1_000);
    for (let batch = 1; batch <= 3; batch += 1) await burst(server, database.pool, channel, batch);
    const { entityId } = await insertAudit(database.pool, channel);
    await stream.event(entityId);
    await socket.event(entityId);
    expect(stream.withoutHeartbeats.map(({ type }) => type)).toStrictEqual([
      'hello',
      'caught_up',
      ...Array<string>(7).fill('feature_updated'),
    ]);
    expect(stream.messages[0]).toStrictEqual(socket.messages[0]);
    expect(stream.events).toStrictEqual(socket.events);
    for (const { id, message } of stream.blocks) {
      expect(id).toBe('cursor' in message ? message.cursor : null);
    }
    await socket.close();
  });

  it('has heartbeats with a cursor', async () => {
    const channel = await freshChannel();
    const at = await freshServer({ timeouts: { heartbeatIntervalMs: 20 } });
    const stream = await open(channel, { at });
    const { cursor } = await stream.control('heartbeat');
    expect(stream.blocks.map(({ id }) => id)).toContain(cursor);
    stream.response.destroy();
    const missed = await insertAudit(database.pool, channel);
    const back = await open(channel, { at, lastEventId: cursor });
    await back.event(missed.entityId);
    expect(received(back)).toStrictEqual([missed.entityId]);
  });

  it('resumes at Last-Event-ID, else at the cursor in the query string', async () => {
    const channel = await freshChannel();
    const first = await open(channel);
    await first.control('caught_up');
    const ids: string[] = [];
    const cursors: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      const { entityId } = await insertAudit(database.pool, channel);
      cursors.push((await first.event(entityId)).cursor ?? '');
      ids.push(entityId);
    }
    first.response.destroy();
    const [one = '', two = ''] = cursors;
    for (const [options, expected] of [
      [{ lastEventId: two }, ids.slice(2)],
      [{ query: { cursor: one } }, ids.slice(1)],
      [{ lastEventId: two, query: { cursor: one } }, ids.slice(2)],
    ] as const) {
      const stream = await open(channel, options);
      await stream.control('caught_up');
      // A cursor may lag (PROTOCOL.md), so the events before it may be repeated first.
      expect(received(stream).slice(-expected.length)).toStrictEqual(expected);
      stream.response.destroy();
    }
  });

  it('ends after a resync', async () => {
    const stream = await open(await freshChannel(), { lastEventId: 'junk' });
    expect(await stream.ended).toBe(true);
    expect(stream.withoutHeartbeats).toMatchObject([
      { type: 'hello' },
      { type: 'resync', environment: 'prod', reason: 'cursor_malformed' },
    ]);
  });

  it('is refused like other requests', async () => {
    const channel = await freshChannel();
    const at = await freshServer({ limits: { connectionsPerUser: 1 } });
    const stranger = await createUser(database.pool, 'stranger', { ttlMs: 600_000 });
    const good = { project_id: channel.projectId, env: 'prod' };
    await open(channel, { at });
    const rows: [
      query: Record<string, string> | string,
      headers: Record<string, string>,
      expected: string,
    ][] = [
      [good, {}, '401 token_missing'],
      [good, { Authorization: `Bearer ${stranger.token}` }, '403 forbidden'],
      [{ ...good, env: 'qa' }, { Authorization: `Bearer ${root.token}` }, '404 unknown_environment'],
      [{ env: 'prod' }, { Authorization: `Bearer ${root.token}` }, '400 missing_parameter'],
      [
        'project_id=a&env=b&cursor=c&cursor=d',
        { Authorization: `Bearer ${root.token}` },
        '400 repeated_parameter',
      ],
      [good, { Authorization: `Bearer ${root.token}` }, '429 too_many_user'],
      [
        good,
        { Authorization: `Bearer ${stranger.token}`, Origin: 'https://evil.example' },
        '403 origin_forbidden',
      ],
    ];
    for (const [query, headers, expected] of rows) {
      const refusal: unknown = await EventStreamClient.open(at.httpUrl, query, headers).catch(
        (error: unknown) => error,
      );
      if (!(refusal instanceof Refused)) throw new Error('not refused');
      expect(`${refusal.status} ${refusal.body.code ?? ''}`).toBe(expected);
    }
  });
});

describe('the last message of a stream that the server closes', () => {
  it('G9: reports that the token has expired', async () => {
    const at = await freshServer({ timeouts: { checkIntervalMs: 20 } });
    const options = { secret: testSecret, userId: root.id, username: 'root', ttlMs: 3_000 };
    const stream = await open(await freshChannel(), { at, token: await signToken(options) });
    expect(await stream.ended).toBe(true);
    expect(stream.messages.at(-1)).toStrictEqual({
      type: 'close',
      code: 4001,
      reason: 'token_expired',
    });
  });

  it('G9: is followed by the end of the stream even if the client does not read it', async () => {
    const at = await freshServer({
      timeouts: { checkIntervalMs: 20, slowTimeoutMs: 100, recheckIntervalMs: 20 },
    });
    const channel = await freshChannel();
    const member = await createUser(database.pool, 'late', { ttlMs: 600_000 });
    await addMember(database.pool, channel.projectId, member.id, 'project_viewer');
    const accepted = once(at.http, 'connection');
    const stream = await open(channel, { at, token: member.token });
    const [line] = (await accepted) as [Socket];
    await stream.control('caught_up');
    stream.response.pause();
    // Far too little for a connection to count as slow.
    while (line.writableLength < 500_000) {
      await burst(at, database.pool, channel, 100, largeEntity);
      // The network buffers as much as it can meanwhile.
      for (let time = 0; time < 5; time += 1) await database.pool.query('SELECT');
    }
    const closed = nextEvent(at.flagcast.lifecycle, 'connection:closed');
    await database.pool.query('DELETE FROM memberships WHERE user_id = $1', [member.id]);
    expect(await closed).toMatchObject({ code: 4503, dialect: 'sse' });
  });

  it('G9: reports that the right was revoked', async () => {
    const at = await freshServer({ timeouts: { recheckIntervalMs: 20 } });
    const channel = await freshChannel();
    const member = await createUser(database.pool, 'member', { ttlMs: 600_000 });
    await addMember(database.pool, channel.projectId, member.id, 'project_viewer');
    const stream = await open(channel, { at, token: member.token });
    await stream.control('caught_up');
    await database.pool.query('DELETE FROM memberships WHERE user_id = $1', [member.id]);
    expect(await stream.ended).toBe(true);
    expect(stream.messages.at(-1)).toMatchObject({ type: 'close', code: 4503 });
  });

  it('reports that the server drains, which refuses new streams then', async () => {
    const at = await freshServer({});
    const channel = await freshChannel();
    const closed = nextEvent(at.flagcast.lifecycle, 'connection:closed');
    const stream = await open(channel, { at });
    const late = await withClient(database.url, async (client) => {
      await client.query('BEGIN; LOCK TABLE users');
      // The lookup of this one is in progress when the others are closed.
      const asked = open(channel, { at }).catch((error: unknown) => error);
      await expect
        .poll(async () => {
          const { rowCount } = await client.query(
            `SELECT FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass`,
          );
          return rowCount;
        })
        .toBe(1);
      const closing = at.flagcast.close();
      expect(await stream.ended).toBe(true);
      await client.query('COMMIT');
      await closing;
      return await asked;
    });
    expect(stream.messages.at(-1)).toMatchObject({ type: 'close', code: 4000 });
    expect(await closed).toMatchObject({ dialect: 'sse', code: 4000 });
    if (!(late instanceof Refused)) throw new Error('not refused');
    expect([late.status, late.body.code]).toStrictEqual([503, 'draining']);
  });

  it('is refused before the first read of the database, and takes no slot', async () => {
    const flagcast = createFlagcast({
      database: { url: database.url },
      auth: { secret: testSecret },
      limits: { connectionsPerUser: 1 },
    });
    const http = createServer(flagcast.requestListener).listen(0, '127.0.0.1');
    await once(http, 'listening');
    const httpUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const { projectId } = await freshChannel();
    const headers = { Authorization: `Bearer ${root.token}` };
    for (let time = 0; time < 2; time += 1) {
      const opening = EventStreamClient.open(httpUrl, { project_id: projectId, env: 'prod' }, headers);
      await expect(opening).rejects.toMatchObject({ status: 503, body: { code: 'unavailable' } });
    }
    await flagcast.close();
    http.close();
  });
});

describe('G8: a stream whose client does not read', () => {
  async function openPaused(
    channel: TestChannel,
    at: TestServer,
  ): Promise<{ stream: EventStreamClient; line: Socket }> {
    const accepted = once(at.http, 'connection');
    const stream = await open(channel, { at });
    const [line] = (await accepted) as [Socket];
    await stream.control('caught_up');
    stream.response.pause();
    while (!line.destroyed && line.writableLength <= highWaterBytes)
      await burst(at, database.pool, channel, 200, largeEntity);
    return { stream, line };
  }

  it('has no events buffered by the server, and gets each event once when the client reads again', async () => {
    const channel = await freshChannel();
    const { stream, line } = await openPaused(channel, server);
    const buffered = line.writableLength;
    expect(buffered).toBeLessThan(4 * highWaterBytes);
    for (let more = 0; more < 4; more += 1) await burst(server, database.pool, channel, 500);
    expect(line.writableLength).toBe(buffered);
    stream.response.resume();
    const { entityId } = await insertAudit(database.pool, channel);
    await stream.event(entityId);
    const { rows } = await database.pool.query<{ id: string }>(
      'SELECT entity_id AS id FROM audit_log WHERE project_id = $1 ORDER BY audit_log.id',
      [channel.projectId],
    );
    expect(received(stream)).toStrictEqual(rows.map(({ id }) => id));
  });

  it('ends with a resync if it falls too far behind', async () => {
    const channel = await freshChannel();
    const at = await freshServer({ limits: { replayEvents: 100 } });
    const { stream } = await openPaused(channel, at);
    for (let more = 0; more < 4; more += 1) await burst(at, database.pool, channel, 500);
    stream.response.resume();
    expect(await stream.ended).toBe(true);
    expect(stream.messages.at(-1)).toMatchObject({ type: 'resync', reason: 'too_many_missed' });
  });

  it('is terminated after the time-out', async () => {
    const channel = await freshChannel();
    const at = await freshServer({ timeouts: { checkIntervalMs: 20, slowTimeoutMs: 100 } });
    const closed = nextEvent(at.flagcast.lifecycle, 'connection:closed');
    const { line } = await openPaused(channel, at);
    expect(await closed).toMatchObject({ code: 4002, dialect: 'sse' });
    expect(line.destroyed).toBe(true);
  });
});

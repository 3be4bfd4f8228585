import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
  withClient,
} from './database.js';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  type TestUser,
} from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;
let prod: TestChannel;
let stage: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { name, url } = database;
  await withClient(url, async (client) => {
    await client.query(`ALTER DATABASE ${name} SET flagcast.notify = 'on'`);
    await client.query(`ALTER DATABASE ${name} SET lock_timeout = '300ms'`);
  });
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  const { projectId, environments } = await seedProject(database.pool);
  prod = { projectId, environmentId: environments.prod };
  stage = { projectId, environmentId: environments.stage };
  server = await startTestServer(database.url, {
    timeouts: { heartbeatIntervalMs: 50, recheckIntervalMs: 50 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function connect(at = server, token = root.token): Promise<V1Client> {
  return await V1Client.connect(at.wsUrl, { token });
}

describe('channels of a connection', () => {
  it('G3: deliver their own events while subscribed, by any of their names', async () => {
    const client = await connect();
    const { projectId } = prod;
    const expected = { project_id: projectId, environment: 'prod', environment_id: prod.environmentId };
    const byKey = await client.ask({ type: 'subscribe', project_id: projectId, env: 'prod' }, 'caught_up');
    expect(byKey).toStrictEqual({ type: 'caught_up', ...expected, cursor: byKey.cursor });
    const other = await seedProject(database.pool);
    const byNumber = await client.ask(
      { type: 'subscribe', project_id: other.projectId, env_id: Number(other.environments.dev) },
      'caught_up',
    );
    expect(byNumber).toMatchObject({ project_id: other.projectId, environment: 'dev' });

    const one = await insertAudit(database.pool, prod);
    const foreign = await insertAudit(database.pool, stage);
    const two = await insertAudit(database.pool, {
      projectId: other.projectId,
      environmentId: other.environments.dev,
    });
    await client.event(one.entityId);
    await client.event(two.entityId);
    const ended = await client.ask(
      { type: 'unsubscribe', project_id: projectId, env_id: prod.environmentId },
      'unsubscribed',
    );
    expect(ended).toStrictEqual({ type: 'unsubscribed', ...expected });
    const unsubscribedEvent = await insertAudit(database.pool, prod);
    const three = await insertAudit(database.pool, {
      projectId: other.projectId,
      environmentId: other.environments.dev,
    });
    await client.event(three.entityId);
    const got = client.events.map((event) => event.entity_id);
    expect(got).toStrictEqual([one.entityId, two.entityId, three.entityId]);
    expect(got).not.toContain(foreign.entityId);

    // It continues at its cursor.
    await client.caughtUp(prod, byKey.cursor);
    await client.event(unsubscribedEvent.entityId);
    await client.close();
  });

  it.each([
    ['in capitals', (channel: TestChannel) => ({ project_id: channel.projectId.toUpperCase(), env: 'prod' })],
    [
      'with leading zeros',
      (channel: TestChannel) => ({ project_id: channel.projectId, env_id: `00${channel.environmentId}` }),
    ],
  ])('can be unsubscribed by the name of the subscription, also %s', async (_, nameOf) => {
    const client = await connect();
    await client.ask({ type: 'subscribe', ...nameOf(prod) }, 'caught_up');
    const answer = await client.ask({ type: 'unsubscribe', ...nameOf(prod) }, 'unsubscribed', 'error');
    expect(answer).toMatchObject({ type: 'unsubscribed', environment: 'prod' });
    await client.close();
  });

  it('are at most 32, and an unsubscribed one makes room', async () => {
    const client = await connect();
    const channels: TestChannel[] = [];
    while (channels.length < 33) {
      const { projectId, environments } = await seedProject(database.pool);
      channels.push(...Object.values(environments).map((environmentId) => ({ projectId, environmentId })));
    }
    const [last = prod, ...most] = channels.slice(0, 33);
    for (const channel of most) await client.caughtUp(channel);
    const refused = await client.subscribe(last);
    expect(refused).toStrictEqual({
      type: 'error',
      code: 'too_many_channels',
      message: expect.stringContaining('32') as string,
      project_id: last.projectId,
      environment: last.environmentId,
      environment_id: last.environmentId,
    });
    const [first = prod] = most;
    await client.ask(
      { type: 'unsubscribe', project_id: first.projectId, env_id: first.environmentId },
      'unsubscribed',
    );
    await client.caughtUp(last);
    await client.close();
  });

  it('are refused one by one, and the others continue', async () => {
    const { projectId } = prod;
    const guest = await createUser(database.pool, 'guest', { ttlMs: 600_000 });
    await addMember(database.pool, projectId, guest.id, 'project_viewer');
    const other = await seedProject(database.pool);
    const client = await connect(server, guest.token);
    await client.caughtUp(prod);
    const unknown = randomUUID();
    for (const [message, code] of [
      [{ type: 'subscribe', project_id: projectId, env: 'prod' }, 'already_subscribed'],
      [{ type: 'subscribe', project_id: projectId, env_id: prod.environmentId }, 'already_subscribed'],
      [{ type: 'subscribe', project_id: other.projectId, env: 'prod' }, 'forbidden'],
      [{ type: 'subscribe', project_id: unknown, env: 'prod' }, 'unknown_project'],
      [{ type: 'subscribe', project_id: projectId, env: 'qa' }, 'unknown_environment'],
      [{ type: 'unsubscribe', project_id: projectId, env: 'stage' }, 'not_subscribed'],
      [{ type: 'unsubscribe', project_id: unknown, env: 'stage' }, 'not_subscribed'],
    ] as const) {
      const error = await client.ask(message, 'error');
      expect(error).toStrictEqual({
        type: 'error',
        code,
        message: expect.stringMatching(/^[A-Z][^\n]{10,}$/) as string,
        project_id: message.project_id,
        environment: 'env' in message ? message.env : message.env_id,
        ...('env_id' in message ? { environment_id: message.env_id } : {}),
      });
    }
    const { entityId } = await insertAudit(database.pool, prod);
    await client.event(entityId);
    expect(client.events).toHaveLength(1);
    await client.close();
  });

  it('are refused while the database does not answer, and can be subscribed later', async () => {
    const client = await connect();
    const error = await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE memberships');
      return await client.subscribe(stage);
    });
    expect(error).toMatchObject({ type: 'error', code: 'unavailable', project_id: stage.projectId });
    await client.caughtUp(stage);
    await client.close();
  });

  it('in the query string are subscribed after hello', async () => {
    const query = { project_id: prod.projectId, env: 'prod' };
    const client = await V1Client.connect(server.wsUrl, { token: root.token, query });
    await client.control('caught_up');
    expect(client.withoutHeartbeats.slice(0, 2)).toMatchObject([{ type: 'hello' }, { type: 'caught_up' }]);
    // An earlier cursor may not cover events of earlier tests, which would be repeated.
    const cursor = await client.settled(database.pool);
    const { entityId } = await insertAudit(database.pool, prod);
    await client.event(entityId);
    await client.caughtUp(stage);
    await client.close();
    const back = await V1Client.connect(server.wsUrl, { token: root.token, query: { ...query, cursor } });
    await back.control('caught_up');
    expect(back.withoutHeartbeats.slice(0, 3)).toMatchObject([
      { type: 'hello' },
      { entity_id: entityId },
      { type: 'caught_up' },
    ]);
    await back.close();
    const lost = await V1Client.connect(server.wsUrl, {
      token: root.token,
      query: { ...query, cursor: 'x' },
    });
    expect(await lost.control('resync')).toMatchObject({ environment: 'prod', reason: 'cursor_malformed' });
    await lost.caughtUp(prod);
    await lost.close();
  });
});

describe('a revoked right', () => {
  it('G9: ends its channel with an error, or the connection if no channel remains', async () => {
    const member = await createUser(database.pool, 'member', { ttlMs: 600_000 });
    const one = await seedProject(database.pool);
    const two = await seedProject(database.pool);
    for (const { projectId } of [one, two]) {
      await addMember(database.pool, projectId, member.id, 'project_viewer');
    }
    const channelOf = ({ projectId, environments }: SeededProject): TestChannel => ({
      projectId,
      environmentId: environments.prod,
    });
    const client = await connect(server, member.token);
    await client.caughtUp(channelOf(one));
    await client.caughtUp(channelOf(two));
    const leave = async ({ projectId }: SeededProject): Promise<void> => {
      await database.pool.query('DELETE FROM memberships WHERE project_id = $1', [projectId]);
    };
    await leave(one);
    expect(await client.control('error')).toStrictEqual({
      type: 'error',
      code: 'forbidden',
      message: 'You may no longer see this project',
      project_id: one.projectId,
      environment: 'prod',
      environment_id: one.environments.prod,
    });
    const secret = await insertAudit(database.pool, channelOf(one));
    const open = await insertAudit(database.pool, channelOf(two));
    await client.event(open.entityId);
    expect(client.events.map((event) => event.entity_id)).not.toContain(secret.entityId);
    await leave(two);
    expect(await client.closed).toStrictEqual({ code: 4503, reason: 'forbidden' });
  });
});

describe('G10: a subscription', () => {
  it('is not checked after the client has disconnected', async () => {
    const small = await startTestServer(database.url);
    const { lifecycle } = small.flagcast;
    const client = await connect(small);
    await client.control('hello');
    const failures: Error[] = [];
    lifecycle.on('access:failed', ({ error }) => failures.push(error));
    await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE memberships');
      for (let count = 0; count < 50; count += 1) {
        client.send({ type: 'subscribe', project_id: prod.projectId, env: 'prod' });
      }
      // Each of them fails after a while; the first one is in progress when the client disconnects.
      await nextEvent(lifecycle, 'access:failed');
      const closed = nextEvent(lifecycle, 'connection:closed');
      client.socket.terminate();
      await closed;
      await nextEvent(lifecycle, 'access:failed');
      expect(failures).toHaveLength(2);
      // A new subscription fails, too, and no other with it.
      const other = await connect(small);
      for (let count = 0; count < 2; count += 1) {
        expect(await other.subscribe(prod)).toMatchObject({ code: 'unavailable' });
      }
      expect(failures).toHaveLength(4);
      await other.close();
    });
    await small.close();
  });
});

describe('a heartbeat', () => {
  it('is not sent to all connections at the same moment', async () => {
    const spread = await startTestServer(database.url, {
      limits: { connectionsPerUser: 100 },
      timeouts: { heartbeatIntervalMs: 1_000 },
    });
    const clients = await Promise.all(Array.from({ length: 40 }, async () => await connect(spread)));
    await Promise.all(clients.map(async (client) => await client.caughtUp(prod)));
    const beats = await Promise.all(
      clients.map(async (client) => await client.control('heartbeat', client.messages.length)),
    );
    // Heartbeats of the same moment share one message.
    expect(new Set(beats.map(({ timestamp }) => timestamp)).size).toBeGreaterThan(1);
    await Promise.all(clients.map(async (client) => await client.close()));
    await spread.close();
  });

  it('has a cursor with which every channel of the connection resumes', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await client.caughtUp(stage);
    const first = await insertAudit(database.pool, prod);
    await client.event(first.entityId);
    const beforeMs = Date.now();
    const beat = await client.control('heartbeat', client.messages.length);
    expect(Object.keys(beat)).toStrictEqual(['type', 'cursor', 'timestamp', 'as_of']);
    // It may have been sent before, but not before the server received the message above.
    expect(Date.parse(beat.timestamp)).toBeLessThanOrEqual(Date.now());
    expect(Date.parse(beat.timestamp)).toBeGreaterThan(beforeMs - 60_000);
    const cursor = await client.settled(database.pool);
    await client.close();
    const missed = {
      prod: await insertAudit(database.pool, prod),
      stage: await insertAudit(database.pool, stage),
    };
    const back = await connect();
    await back.caughtUp(prod, cursor);
    await back.caughtUp(stage, cursor);
    expect(back.events.map((event) => event.entity_id)).toStrictEqual([
      missed.prod.entityId,
      missed.stage.entityId,
    ]);
    await back.close();
  });
});

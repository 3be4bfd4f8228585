import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { NOW_S, sign } from './access-tokens.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { handshake, PlainClient, Refused } from './plain-client.js';
import { createUser, startTestServer, type TestServer, testSecret } from './server.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
/** As the guide for operators of Togglr has it. */
let server: TestServer;
let projectId: string;
let environmentId: string;
let token: string;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { id } = await createUser(database.pool, 'root', { superuser: true });
  token = await togglrToken({ userId: Number(id) });
  const project = await seedProject(database.pool);
  projectId = project.projectId;
  environmentId = project.environments.prod;
  server = await startTestServer(database.url, {
    eventTypes: 'togglr',
    auth: { secret: testSecret, allowQueryToken: true },
    database: { pollIntervalMs: 50 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

/** A token with the claims that Togglr's server writes, and no other. */
async function togglrToken(claims: { userId: number; type?: string; exp?: number }): Promise<string> {
  const all = { username: 'root', isSuperuser: true, type: 'access', iat: NOW_S, exp: NOW_S + 10_800 };
  return await sign({ ...all, jti: randomUUID(), ...claims }, Buffer.from(testSecret));
}

async function connect(query: Record<string, string> = {}): Promise<PlainClient> {
  const client = await PlainClient.connect(server.wsUrl, {
    project_id: projectId,
    env_id: environmentId,
    token,
    ...query,
  });
  onTestFinished(async () => await client.close());
  return client;
}

describe("Togglr's web client", () => {
  it('connects with project_id, env_id and token in the query string', async () => {
    const client = await connect();
    const { entityId } = await insertAudit(database.pool, { projectId, environmentId });
    const message = await client.received(({ entity_id: id }) => id === entityId);
    expect(message).toMatchObject({ project_id: projectId, environment: 'prod' });
  });

  it('receives no events of another environment', async () => {
    const stage = (await seedProject(database.pool)).environments.stage;
    await expect(connect({ env_id: stage })).rejects.toMatchObject({ status: 404 });
    await expect(connect({ env_id: '0' })).rejects.toMatchObject({ status: 404 });
  });

  it.each(['refresh', 'reset_password', ''])('is refused with a token of type %j', async (type) => {
    const other = await togglrToken({ userId: 1, type });
    const refusal: unknown = await connect({ token: other }).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Refused);
    expect(refusal).toMatchObject({ status: 401, body: { code: 'token_wrong_type' } });
  });

  it('gets pongs with the time in seconds', async () => {
    const client = await connect();
    const beforeS = Math.floor(Date.now() / 1_000);
    client.socket.send('{"type":"ping"}');
    const pong = await client.received(({ type }) => type === 'pong');
    expect(pong).toStrictEqual({ type: 'pong', timestamp: expect.any(Number) as number });
    expect(Number(pong.timestamp)).toBeGreaterThanOrEqual(beforeS);
    expect(Number(pong.timestamp)).toBeLessThanOrEqual(Date.now() / 1_000);
  });
});

describe('a token among the subprotocols', () => {
  it.each([
    ['token alone', (jwt: string) => `token.${jwt}`, undefined],
    ['token after flagcast.plain', (jwt: string) => `flagcast.plain, token.${jwt}`, 'flagcast.plain'],
    ['token before flagcast.plain', (jwt: string) => `token.${jwt},flagcast.plain`, 'flagcast.plain'],
    ['token with an unknown subprotocol', (jwt: string) => `chat, token.${jwt}`, undefined],
  ])('of the form %s is accepted, and never selected', async (_, offer, chosen) => {
    const { status, headers, socket } = await handshake(
      server.wsUrl,
      `project_id=${projectId}&environment_id=${environmentId}`,
      { 'Sec-WebSocket-Protocol': offer(token) },
    );
    socket?.destroy();
    expect({ status, chosen: headers['sec-websocket-protocol'] }).toStrictEqual({ status: 101, chosen });
  });
});

describe('the names of events in the plain dialect', () => {
  const featureId = randomUUID();
  const ruleId = randomUUID();

  /** The messages of a plain client, without the fields that both kinds of names share. */
  const distinctFields = ({ messages }: PlainClient): unknown[] =>
    messages.map(({ source, type, entity, entity_id: id, action }) => [source, type, entity, id, action]);

  async function audit(entity: string, entityId: string, action: string): Promise<void> {
    await insertAudit(database.pool, { projectId, environmentId, featureId, entity, entityId, action });
  }

  async function request(entity: string, entityId: string): Promise<string> {
    const changeId = randomUUID();
    await database.pool.query(
      `WITH change AS (
         INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
         VALUES ($1, $2, $3, 'bob', '{"entities":[]}') RETURNING id
       )
       INSERT INTO pending_change_entities (pending_change_id, entity, entity_id) SELECT id, $4, $5 FROM change`,
      [changeId, projectId, environmentId, entity, entityId],
    );
    return changeId;
  }

  it("equal those of Togglr's view for changes, and of Togglr's client for deletions", async () => {
    const client = await connect();
    for (const action of ['create', 'update', 'delete']) {
      await audit('feature', featureId, action);
      await audit('rule', ruleId, action);
    }
    const last = randomUUID();
    await audit('feature', last, 'update');
    await client.received(({ entity_id: id }) => id === last);
    expect(distinctFields(client).slice(0, -1)).toStrictEqual([
      ['audit', 'feature_create', 'feature', featureId, 'create'],
      ['audit', 'feature_update', 'feature', featureId, 'update'],
      ['audit', 'feature_update', 'feature', featureId, 'update'],
      ['audit', 'feature_update', 'feature', featureId, 'update'],
      ['audit', 'feature_deleted', 'feature', featureId, 'delete'],
      ['audit', 'feature_update', 'feature', featureId, 'update'],
    ]);
  });

  it.each([
    ['feature', featureId, 'approved', `approved_by = 'alice', approved_at = now()`],
    ['feature', featureId, 'rejected', `rejected_by = 'alice', rejected_at = now()`],
    ['rule', ruleId, 'cancelled', `rejection_reason = 'no'`],
  ])('exist for a request for a %s, and for its end', async (entity, entityId, status, columns) => {
    const client = await connect();
    const changeId = await request(entity, entityId);
    await client.received(({ action }) => action === 'pending');
    await database.pool.query(`UPDATE pending_changes SET status = $2, ${columns} WHERE id = $1`, [
      changeId,
      status,
    ]);
    await client.received(({ action }) => action === status);
    expect(distinctFields(client)).toStrictEqual([
      ['pending', `${entity}_pending`, entity, entityId, 'pending'],
      ['pending', 'feature_updated', entity, entityId, status],
    ]);
  });

  it('are not used in flagcast.v1 and server-sent events', async () => {
    const channel = { project_id: projectId, env_id: environmentId };
    const v1 = await V1Client.connect(server.wsUrl, { query: channel, token });
    const stream = await EventStreamClient.open(server.httpUrl, channel, {
      Authorization: `Bearer ${token}`,
    });
    await v1.control('caught_up');
    await stream.control('caught_up');
    const entityId = randomUUID();
    await audit('rule', entityId, 'create');
    for (const client of [v1, stream]) {
      expect(await client.event(entityId)).toMatchObject({
        type: 'rule_created',
        entity: 'rule',
        action: 'created',
      });
    }
    await v1.close();
    stream.response.destroy();
  });
});

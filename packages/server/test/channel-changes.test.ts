import type { ServerMessage } from '@flagcast/protocol';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestDatabase,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { PlainClient, Refused } from './plain-client.js';
import { addMember, createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let token: string;
let project: SeededProject;
let prod: TestChannel;
let stage: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  // Nothing but the entries of the log makes the server check rights.
  server = await startTestServer(database.url, {
    database: { pollIntervalMs: 200 },
    timeouts: { recheckIntervalMs: 3_600_000 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

beforeEach(async () => {
  project = await seedProject(database.pool);
  prod = { projectId: project.projectId, environmentId: project.environments.prod };
  stage = { projectId: project.projectId, environmentId: project.environments.stage };
});

async function connect(as = token): Promise<V1Client> {
  return await V1Client.connect(server.wsUrl, { token: as });
}

async function connectPlain(env = 'prod', as = token): Promise<PlainClient> {
  return await PlainClient.connect(server.wsUrl, { project_id: project.projectId, env }, { token: as });
}

async function openStream(env = 'prod'): Promise<EventStreamClient> {
  return await EventStreamClient.open(
    server.httpUrl,
    { project_id: project.projectId, env },
    { Authorization: `Bearer ${token}` },
  );
}

function named(channel: TestChannel, environment: string): object {
  return {
    project_id: channel.projectId,
    environment,
    environment_id: channel.environmentId,
  };
}

function changesIn(messages: readonly ServerMessage[]): ServerMessage[] {
  return messages.filter(({ type }) => type === 'channel_changed');
}

async function rename(environmentId: string, key: string): Promise<void> {
  await database.pool.query('UPDATE environments SET key = $2 WHERE id = $1', [environmentId, key]);
}

describe('a channel whose environment is renamed', () => {
  it('G13: sends the new key and continues under its id', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const stream = await openStream();
    await stream.control('caught_up');
    const before = await insertAudit(database.pool, prod);
    expect(await client.event(before.entityId)).toMatchObject(named(prod, 'prod'));
    await rename(prod.environmentId, 'production');
    const expected = { type: 'channel_changed', ...named(prod, 'production'), previous_environment: 'prod' };
    expect(await client.control('channel_changed')).toStrictEqual(expected);
    expect(await stream.control('channel_changed')).toStrictEqual(expected);
    const after = await insertAudit(database.pool, prod);
    expect(await client.event(after.entityId)).toMatchObject(named(prod, 'production'));
    expect(await stream.event(after.entityId)).toMatchObject(named(prod, 'production'));
    expect(client.events).toHaveLength(2);
    await client.close();
    stream.response.destroy();
  });

  it('keeps a plain client, whose messages carry the new key', async () => {
    const plain = await connectPlain();
    await rename(prod.environmentId, 'production');
    const { entityId } = await insertAudit(database.pool, prod);
    const event = await plain.received(({ entity_id: id }) => id === entityId);
    expect(event.environment).toBe('production');
    await plain.close();
  });

  it('is found only by its new key, from the moment when the change was sent', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await rename(prod.environmentId, 'production');
    await client.control('channel_changed');
    const other = await connect();
    const subscribe = { type: 'subscribe', project_id: prod.projectId } as const;
    expect(await other.ask({ ...subscribe, env: 'prod' }, 'error', 'caught_up')).toMatchObject({
      code: 'unknown_environment',
    });
    expect(await other.ask({ ...subscribe, env: 'production' }, 'error', 'caught_up')).toMatchObject(
      named(prod, 'production'),
    );
    expect(await client.subscribe(prod)).toMatchObject({ code: 'already_subscribed' });
    await client.close();
    await other.close();
  });
});

describe('two channels whose environments swap their keys', () => {
  it('G13: stay apart on a connection that has both', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await client.caughtUp(stage);
    const writer = await database.pool.connect();
    await writer.query(`
      BEGIN;
      UPDATE environments SET key = 'swap' WHERE id = ${prod.environmentId};
      UPDATE environments SET key = 'prod' WHERE id = ${stage.environmentId};
      UPDATE environments SET key = 'stage' WHERE id = ${prod.environmentId}`);
    const inProd = await insertAudit(writer, prod);
    await writer.query('COMMIT');
    writer.release();
    const inStage = await insertAudit(database.pool, stage);
    expect(await client.event(inProd.entityId)).toMatchObject(named(prod, 'stage'));
    expect(await client.event(inStage.entityId)).toMatchObject(named(stage, 'prod'));
    const changes = changesIn(client.messages);
    for (const expected of [named(prod, 'stage'), named(stage, 'prod')]) {
      expect(changes).toContainEqual(expect.objectContaining(expected));
    }
    // Unsubscribes by its current key, not by the key with which the other channel was subscribed.
    const left = await client.ask(
      { type: 'unsubscribe', project_id: prod.projectId, env: 'prod' },
      'unsubscribed',
      'error',
    );
    expect(left).toMatchObject(named(stage, 'prod'));
    const again = await client.ask(
      { type: 'subscribe', project_id: prod.projectId, env: 'prod' },
      'caught_up',
      'error',
    );
    expect(again).toMatchObject(named(stage, 'prod'));
    await client.close();
  });
});

const ends = [
  [
    'environment is deleted',
    'environment_deleted',
    'The environment was deleted',
    async () => {
      await database.pool.query('DELETE FROM environments WHERE id = $1', [prod.environmentId]);
    },
    'unknown_environment',
  ],
  [
    'project is archived',
    'project_archived',
    'The project was archived',
    async () => {
      await database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [prod.projectId]);
    },
    'unknown_project',
  ],
  [
    'project is deleted',
    'project_deleted',
    'The project was deleted',
    async () => {
      await database.pool.query('DELETE FROM projects WHERE id = $1', [prod.projectId]);
    },
    'unknown_project',
  ],
] as const;

describe.each(ends)('a channel whose %s', (_, code, message, end, refusal) => {
  it('G13: ends with the reason, and the other channels of the connection continue', async () => {
    const other = await seedProject(database.pool);
    const kept = { projectId: other.projectId, environmentId: other.environments.prod };
    const client = await connect();
    await client.caughtUp(kept);
    await client.caughtUp(prod);
    const { entityId: last } = await insertAudit(database.pool, prod);
    await client.event(last);
    await end();
    expect(await client.control('error')).toStrictEqual({
      type: 'error',
      code,
      message,
      ...named(prod, 'prod'),
    });
    expect(await client.subscribe(prod)).toMatchObject({ code: refusal });
    const { entityId } = await insertAudit(database.pool, kept);
    await client.event(entityId);
    await client.close();
  });

  it('G13: closes the connection that has no other channel with 4504, in each dialect', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const plain = await connectPlain();
    const stream = await openStream();
    await stream.control('caught_up');
    await end();
    expect(await client.closed).toStrictEqual({ code: 4504, reason: code });
    expect(await plain.closed).toStrictEqual({ code: 4504, reason: code });
    expect(await stream.control('close')).toStrictEqual({ type: 'close', code: 4504, reason: code });
    expect(await stream.ended).toBe(true);
    const refused = await connectPlain().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Refused);
    expect((refused as Refused).body.code).toBe(refusal);
  });
});

it('an environment of an archived project stays closed, and opens again with the project', async () => {
  const archived = nextEvent(server.flagcast.lifecycle, 'channels:changed');
  await database.pool.query('UPDATE projects SET archived_at = now() WHERE id = $1', [prod.projectId]);
  // Otherwise it would end the channel that is opened later.
  await archived;
  const client = await connect();
  expect(await client.subscribe(prod)).toMatchObject({ code: 'unknown_project' });
  await database.pool.query('UPDATE projects SET archived_at = NULL WHERE id = $1', [prod.projectId]);
  await client.caughtUp(prod);
  const { entityId } = await insertAudit(database.pool, prod);
  await client.event(entityId);
  await client.close();
});

describe('a right that is revoked', () => {
  it.each([
    ['a membership is deleted', 'DELETE FROM memberships WHERE user_id = $1'],
    [
      'a membership gets another role',
      `UPDATE memberships SET role_id = (SELECT id FROM roles WHERE key = 'without a right') WHERE user_id = $1`,
    ],
    ['a user is deactivated', 'UPDATE users SET is_active = false WHERE id = $1'],
    ['a user is deleted', 'DELETE FROM users WHERE id = $1'],
    [
      'a role loses project.view',
      `DELETE FROM role_permissions WHERE role_id IN (SELECT role_id FROM memberships WHERE user_id = $1)
       AND permission_id = (SELECT id FROM permissions WHERE key = 'project.view')`,
    ],
    ['a superuser becomes an ordinary user', 'UPDATE users SET is_superuser = false WHERE id = $1'],
  ])('G14: ends the channel without waiting for the periodic check: %s', async (name, sql) => {
    const superuser = name.includes('superuser');
    const role = `role of ${name}`;
    await database.pool.query(
      `INSERT INTO roles (key, name) VALUES ($1, $1), ('without a right', 'without a right') ON CONFLICT DO NOTHING`,
      [role],
    );
    await database.pool.query(
      `INSERT INTO role_permissions (role_id, permission_id)
       SELECT r.id, p.id FROM roles r, permissions p WHERE r.key = $1 AND p.key = 'project.view'`,
      [role],
    );
    const user = await createUser(database.pool, name, { superuser, ttlMs: 600_000 });
    if (!superuser) await addMember(database.pool, project.projectId, user.id, role);
    const client = await connect(user.token);
    await client.caughtUp(prod);
    const plain = await connectPlain('stage', user.token);
    const others = await connect();
    await others.caughtUp(prod);
    await database.pool.query(sql, [user.id]);
    const closed = { code: 4503, reason: 'forbidden' };
    expect(await client.closed).toStrictEqual(closed);
    expect(await plain.closed).toStrictEqual(closed);
    const { entityId } = await insertAudit(database.pool, prod);
    await others.event(entityId);
    await others.close();
  });

  it('G14: ends the channels of that project alone', async () => {
    const other = await seedProject(database.pool);
    const kept = { projectId: other.projectId, environmentId: other.environments.prod };
    const member = await createUser(database.pool, 'member of two', { ttlMs: 600_000 });
    for (const { projectId } of [project, other]) {
      await addMember(database.pool, projectId, member.id, 'project_viewer');
    }
    const client = await connect(member.token);
    await client.caughtUp(kept);
    await client.caughtUp(prod);
    await client.caughtUp(stage);
    await database.pool.query('DELETE FROM memberships WHERE user_id = $1 AND project_id = $2', [
      member.id,
      project.projectId,
    ]);
    const first = await client.control('error');
    const second = await client.control('error', client.messages.indexOf(first) + 1);
    for (const [error, channel, key] of [
      [first, prod, 'prod'],
      [second, stage, 'stage'],
    ] as const) {
      expect(error).toMatchObject({ code: 'forbidden', ...named(channel, key) });
    }
    const { entityId } = await insertAudit(database.pool, kept);
    await client.event(entityId);
    await client.close();
  });
});

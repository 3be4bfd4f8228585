import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { addMember, createUser, startTestServer, type TestServer, type TestUser } from './server.js';
import type { TestChannel } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let root: TestUser;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  root = await createUser(database.pool, 'root', { superuser: true });
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function freshChannel(): Promise<TestChannel> {
  const { projectId, environments } = await seedProject(database.pool);
  return { projectId, environmentId: environments.prod };
}

describe('a stream of several channels', () => {
  async function openAll(
    subscribe: readonly object[],
    { user = root }: { user?: TestUser } = {},
  ): Promise<EventStreamClient> {
    const headers = { Authorization: `Bearer ${user.token}` };
    const stream = await EventStreamClient.openAll(server.httpUrl, subscribe, headers);
    onTestFinished(() => void stream.response.destroy());
    return stream;
  }

  const placeOf = ({ projectId, environmentId }: TestChannel, cursor?: string): object => ({
    project_id: projectId,
    env_id: environmentId,
    ...(cursor === undefined ? {} : { cursor }),
  });
  const caughtUp = (stream: EventStreamClient, { environmentId }: TestChannel) =>
    stream.message(
      (message) =>
        'type' in message &&
        message.type === 'caught_up' &&
        'environment_id' in message &&
        message.environment_id === environmentId,
    );

  it('carries them and the approvals feed, each from its cursor', async () => {
    const [one, other] = [await freshChannel(), await freshChannel()];
    const first = await openAll([placeOf(one)]);
    const { cursor } = await first.control('caught_up');
    await first.close();
    const missed = await insertAudit(database.pool, one);
    const stream = await openAll([placeOf(one, cursor), placeOf(other), { feed: 'approvals' }]);
    await caughtUp(stream, one);
    await caughtUp(stream, other);
    await stream.message((message) => 'feed' in message && message.type === 'caught_up');
    const live = await insertAudit(database.pool, other);
    await stream.event(live.entityId);
    expect(stream.events.map(({ entity_id: id }) => id)).toEqual([missed.entityId, live.entityId]);
    expect(stream.messages[0]).toMatchObject({ type: 'hello' });
  });

  it('answers each as a WebSocket does: a refusal or a resync does not end the others', async () => {
    const [one, foreign] = [await freshChannel(), await freshChannel()];
    const member = await createUser(database.pool, 'of one project', { ttlMs: 600_000 });
    await addMember(database.pool, one.projectId, member.id, 'project_viewer');
    const stream = await openAll(
      [placeOf(foreign), placeOf(one, 'nonsense'), placeOf(one), { project_id: 'no environment' }],
      { user: member },
    );
    await caughtUp(stream, one);
    expect(await stream.control('error')).toMatchObject({
      code: 'forbidden',
      environment_id: foreign.environmentId,
    });
    expect(await stream.control('resync')).toMatchObject({ reason: 'cursor_malformed' });
    await stream.message((message) => 'code' in message && message.code === 'bad_message');
    const { entityId } = await insertAudit(database.pool, one);
    await stream.event(entityId);
  });

  it.each([
    ['no list', {}],
    ['an empty list', { subscribe: [] }],
    ['an unknown key', { subscribe: [{ feed: 'approvals', colour: 'red' }] }],
    ['more than any client has', { subscribe: Array.from({ length: 101 }, () => ({ feed: 'approvals' })) }],
  ])('is refused with %s', async (_case, body) => {
    const response = await fetch(`${server.httpUrl}/api/events`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${root.token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([400, 'invalid']);
  });

  it('is refused without a token, from a foreign page, and with a large body', async () => {
    const post = async (headers: Record<string, string>, body = '{"subscribe":[{"feed":"approvals"}]}') => {
      const response = await fetch(`${server.httpUrl}/api/events`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers },
        body,
      });
      return [response.status, ((await response.json()) as { code: string }).code];
    };
    const Authorization = `Bearer ${root.token}`;
    expect(await post({})).toEqual([401, 'token_missing']);
    expect(await post({ Authorization, Origin: 'https://evil.example' })).toEqual([403, 'origin_forbidden']);
    expect(await post({ Authorization }, ' '.repeat(65_537))).toEqual([413, 'body_too_large']);
  });
});

import type { AnnounceMessage } from '@flagcast/protocol';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase } from './database.js';
import { sees } from './presence-messages.js';
import {
  addMember,
  createUser,
  startTestServer,
  type TestServer,
  type TestServerOptions,
  type TestUser,
} from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let ada: TestUser;
let bob: TestUser;
let prod: TestChannel;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  ada = await createUser(database.pool, 'ada', { superuser: true });
  bob = await createUser(database.pool, 'bob');
  const { projectId, environments } = await seedProject(database.pool);
  prod = { projectId, environmentId: environments.prod };
  await addMember(database.pool, projectId, bob.id, 'project_viewer');
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

/** A client with the channel; `at` is its feature. */
async function connect(user: TestUser, channel: TestChannel | null = prod, at = server): Promise<V1Client> {
  const client = await V1Client.connect(at.wsUrl, { token: user.token });
  onTestFinished(() => client.socket.terminate());
  await client.control('hello');
  if (channel !== null) await client.caughtUp(channel);
  return client;
}

function view(keys: Partial<AnnounceMessage> = {}): AnnounceMessage {
  const { projectId, environmentId } = prod;
  return { type: 'announce', view: 'v', project_id: projectId, env_id: environmentId, ...keys };
}

describe('presence over sockets', () => {
  it('names the users who have a feature open, with the field that they edit, until they leave', async () => {
    const [first, second] = [await connect(ada), await connect(bob)];
    first.send(view({ feature_id: 'f1' }));
    second.send(view({ feature_id: 'f1', field: 'default_value' }));
    expect(await sees(first, 'bob:default_value', 'ada')).toStrictEqual({
      type: 'presence',
      project_id: prod.projectId,
      environment_id: prod.environmentId,
      feature_id: 'f1',
      users: [
        { user_id: bob.id, username: 'bob', field: 'default_value' },
        { user_id: ada.id, username: 'ada', field: null },
      ],
      count: 2,
    });
    second.send({ type: 'announce', view: 'v' });
    await sees(first, 'ada');
    second.send(view({ feature_id: 'f1', view: 'w' }));
    await sees(first, 'ada', 'bob');
    second.socket.terminate();
    await sees(first, 'ada');
  });

  it('is sent to those who have announced a view of it only', async () => {
    const [first, other, silent] = [await connect(ada), await connect(bob), await connect(bob)];
    first.send(view({ feature_id: 'f2' }));
    other.send(view({ feature_id: 'f3' }));
    await Promise.all([sees(first, 'ada'), sees(other, 'bob')]);
    // A later message, so that an earlier one would have arrived.
    const { entityId } = await insertAudit(database.pool, prod);
    await Promise.all([first, other, silent].map(async (client) => await client.event(entityId)));
    expect(
      [first, other, silent].map(({ messages }) => messages.filter(({ type }) => type === 'presence').length),
    ).toStrictEqual([1, 1, 0]);
  });

  it('ends with the permission: the others are told, and the user is told nothing more', async () => {
    const { projectId, environments } = await seedProject(database.pool);
    const channel = { projectId, environmentId: environments.prod };
    await addMember(database.pool, projectId, bob.id, 'project_viewer');
    const [first, second] = [await connect(ada, channel), await connect(bob, channel)];
    await second.caughtUp(prod);
    const place = { project_id: projectId, env_id: channel.environmentId, feature_id: 'f' };
    first.send(view(place));
    second.send(view(place));
    await sees(first, 'ada', 'bob');
    await database.pool.query('DELETE FROM memberships WHERE project_id = $1', [projectId]);
    await sees(first, 'ada');
    expect(await second.control('error')).toMatchObject({ code: 'forbidden', project_id: projectId });
    const asked = second.messages.length;
    expect(await second.ask(view(place), 'error')).toMatchObject({ code: 'not_subscribed' });
    expect(second.messages.slice(asked).filter(({ type }) => type === 'presence')).toStrictEqual([]);
  });

  it('of a request needs only the approvals feed, which contains its channel', async () => {
    const [first, second] = [await connect(ada), await connect(bob, null)];
    await second.caughtUpFeed();
    const request = view({ pending_change_id: 'r1' });
    first.send(request);
    second.send(request);
    expect(await sees(second, 'ada', 'bob')).toMatchObject({ pending_change_id: 'r1' });
    const foreign = await seedProject(database.pool);
    const elsewhere = { project_id: foreign.projectId, env_id: foreign.environments.prod };
    const refused = await second.ask({ ...request, ...elsewhere }, 'error');
    expect(refused).toMatchObject({ code: 'not_subscribed' });
  });

  it.each([
    ['another name', { username: 'ada' }, 'announce has a key that it must not have'],
    ['no subject', {}, 'announce needs project_id, env_id, and feature_id or pending_change_id'],
    [
      'two subjects',
      { feature_id: 'f', pending_change_id: 'r' },
      'give feature_id or pending_change_id, not both',
    ],
    [
      'a long id',
      { feature_id: 'f'.repeat(201) },
      'announce needs project_id, env_id, and feature_id or pending_change_id',
    ],
    ['a long view', { view: 'v'.repeat(65) }, 'announce needs a view: 1 to 64 characters'],
    [
      'a field with markup',
      { feature_id: 'f', field: '<b>' },
      'field is not a name: 1 to 64 letters, digits, _, . and -',
    ],
  ])('refuses an announcement with %s', async (_, keys, message) => {
    const client = await connect(bob);
    const answer = await client.ask(view(keys as Partial<AnnounceMessage>), 'error');
    expect(answer).toStrictEqual({ type: 'error', code: 'bad_message', message });
  });

  it('has at most 16 views of a connection', async () => {
    const client = await connect(bob);
    for (let index = 0; index < 16; index += 1) client.send(view({ feature_id: 'f', view: `${index}` }));
    const refused = await client.ask(view({ feature_id: 'f', view: '16' }), 'error');
    expect(refused).toMatchObject({ code: 'too_many_views' });
  });

  it('can be switched off', async () => {
    const options: TestServerOptions = { presence: false };
    const off = await startTestServer(database.url, options);
    onTestFinished(async () => await off.close());
    const client = await connect(bob, prod, off);
    expect(await client.control('hello')).toMatchObject({ presence: false });
    expect((await connect(bob)).messages[0]).toMatchObject({ type: 'hello', presence: true });
    expect(await client.ask(view({ feature_id: 'f' }), 'error')).toMatchObject({ code: 'not_available' });
  });
});

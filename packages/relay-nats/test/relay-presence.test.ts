import type { AnnounceMessage } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RunningCommand } from '../../server/test/command.js';
import { createTestDatabase, seedProject, type TestDatabase } from '../../server/test/database.js';
import { sees } from '../../server/test/presence-messages.js';
import {
  addMember,
  createUser,
  nextEvent,
  type TestServer,
  type TestServerOptions,
  testSecret,
  type TestUser,
} from '../../server/test/server.js';
import { type TestChannel, V1Client } from '../../server/test/v1-client.js';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { connectNats, type NatsSession } from '../src/nats-connection.js';
import { startRelayed } from './relay-fleet.js';

describe.skipIf(!hasNatsServer)('presence of servers with a relay', () => {
  let nats: TestNats;
  let database: TestDatabase;
  let channel: TestChannel;
  let ada: TestUser;
  let bob: TestUser;
  const announced = new WeakMap<V1Client, AnnounceMessage>();
  const cleanUps: (() => Promise<void> | void)[] = [];
  beforeAll(async () => {
    nats = await startNats();
  });
  afterAll(async () => {
    await nats.remove();
  });
  beforeEach(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    ada = await createUser(database.pool, 'ada', { superuser: true });
    bob = await createUser(database.pool, 'bob');
    const { projectId, environments } = await seedProject(database.pool);
    channel = { projectId, environmentId: environments.prod };
    await addMember(database.pool, projectId, bob.id, 'project_viewer');
  });
  afterEach(async () => {
    for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
    await database.drop();
  });

  async function start(options: TestServerOptions = {}): Promise<TestServer> {
    const server = await startRelayed(database, nats.url, options);
    cleanUps.push(async () => await server.close());
    return server;
  }

  async function connect(user: TestUser, wsUrl: string): Promise<V1Client> {
    const client = await V1Client.connect(wsUrl, { token: user.token });
    cleanUps.push(() => client.socket.terminate());
    await client.caughtUp(channel);
    return client;
  }

  /** A client that has the feature open, on a server. */
  async function join(
    user: TestUser,
    { wsUrl }: Pick<TestServer, 'wsUrl'>,
    field?: string,
  ): Promise<V1Client> {
    const client = await connect(user, wsUrl);
    edit(client, field);
    // As clients do.
    const timer = setInterval(() => client.send(announced.get(client) ?? { type: 'ping' }), 2_000);
    cleanUps.push(() => clearInterval(timer));
    return client;
  }

  function edit(client: V1Client, field?: string): void {
    const message = { ...view(), ...(field === undefined ? {} : { field }) };
    announced.set(client, message);
    client.send(message);
  }

  function view(): AnnounceMessage {
    const { projectId, environmentId } = channel;
    return { type: 'announce', view: 'v', project_id: projectId, env_id: environmentId, feature_id: 'f' };
  }

  async function connectSession(): Promise<NatsSession> {
    const session = await connectNats(nats.url);
    cleanUps.push(async () => await session.connection.close());
    return session;
  }

  it('names the users of all servers, with the field that they edit, until they leave or their connection ends', async () => {
    const [one, two, three] = [await start(), await start(), await start()];
    const first = await join(ada, one);
    await sees(first, 'ada');
    const second = await join(bob, two);
    const third = await join(ada, three, 'name');
    for (const client of [first, second, third]) {
      expect(await sees(client, 'ada:name', 'bob')).toMatchObject({ count: 2, feature_id: 'f' });
    }
    edit(second, 'default_value');
    await sees(third, 'ada:name', 'bob:default_value');
    third.socket.terminate();
    for (const client of [first, second]) await sees(client, 'bob:default_value', 'ada');
    announced.delete(second);
    second.send({ type: 'announce', view: 'v' });
    await sees(first, 'ada');
  });

  it('names 20 users of all servers, and counts all', async () => {
    const [one, two] = [await start(), await start()];
    const watching = await join(ada, one);
    for (let index = 0; index < 24; index += 1) {
      const user = await createUser(database.pool, `user ${index}`, { superuser: true });
      await join(user, index % 2 === 0 ? one : two, index === 23 ? 'name' : undefined);
    }
    await watching.message(
      (message) =>
        message.type === 'presence' &&
        'users' in message &&
        message.count === 25 &&
        message.users.length === 20 &&
        message.users[0]?.username === 'user 23',
    );
  });

  it('ends with the permission on every server', async () => {
    const [one, two] = [await start(), await start()];
    const other = await seedProject(database.pool);
    await addMember(database.pool, other.projectId, bob.id, 'project_viewer');
    const [first, second] = [await join(ada, one), await join(bob, two)];
    await second.caughtUp({ projectId: other.projectId, environmentId: other.environments.prod });
    await sees(first, 'ada', 'bob');
    await database.pool.query('DELETE FROM memberships WHERE project_id = $1', [channel.projectId]);
    await sees(first, 'ada');
    announced.delete(second);
    const asked = second.messages.length;
    expect(await second.ask(view(), 'error')).toMatchObject({ code: 'not_subscribed' });
    edit(first, 'name');
    await sees(first, 'ada:name');
    await second.ask({ type: 'ping' }, 'pong');
    expect(second.messages.slice(asked).filter(({ type }) => type === 'presence')).toEqual([]);
  });

  it('loses the users of a server that is killed within ten seconds', async () => {
    const one = await start();
    const command = new RunningCommand(['serve', '--port', '0', '--poll-interval', '100ms'], {
      env: { DATABASE_URL: database.url, FLAGCAST_JWT_SECRET: testSecret, FLAGCAST_RELAY_URL: nats.url },
    });
    cleanUps.push(async () => await command.end());
    const { url } = await command.logged('server_listening');
    await command.logged('relay_following');
    const first = await join(ada, one);
    await join(bob, { wsUrl: `${String(url).replace('http', 'ws')}/api/ws` });
    await sees(first, 'ada', 'bob');
    command.signal('SIGKILL');
    await sees(first, 'ada');
  });

  it('continues after NATS was restarted, with what has changed meanwhile', async () => {
    const lifecycles = [new Lifecycle(), new Lifecycle()] as const;
    const one = await start({ lifecycle: lifecycles[0] });
    const two = await start({ lifecycle: lifecycles[1] });
    const [first, second] = [await join(ada, one), await join(bob, two)];
    await sees(first, 'ada', 'bob');
    await sees(second, 'bob', 'ada');
    const lost = lifecycles.map(async (lifecycle) => await nextEvent(lifecycle, 'relay:lost'));
    await nats.stop();
    await Promise.all(lost);
    edit(second, 'name');
    await sees(second, 'bob:name', 'ada');
    await nats.start();
    await sees(first, 'bob:name', 'ada');
  });

  it('is shared with a server that has not yet noticed that triggers were changed', async () => {
    const one = await start({ database: { pollIntervalMs: 600_000 } });
    const first = await join(ada, one);
    await sees(first, 'ada');
    await database.pool.query('ALTER TABLE public.audit_log DISABLE TRIGGER flagcast_log');
    await join(bob, await start());
    await sees(first, 'ada', 'bob');
  });

  it('is neither sent nor shown by a server without presence', async () => {
    const [one, off] = [await start(), await start({ presence: false })];
    const { connection } = await connectSession();
    const subscription = connection.subscribe('flagcast.v1.*.presence.>');
    await connection.flush();
    const [first, second] = [await join(ada, one), await connect(bob, off.wsUrl)];
    expect(await second.ask(view(), 'error')).toMatchObject({ code: 'not_available' });
    expect(await sees(first, 'ada')).toMatchObject({ count: 1 });
    await connection.flush();
    // The one message of the other server.
    expect(subscription.getReceived()).toBe(1);
    expect(second.messages.filter(({ type }) => type === 'presence')).toEqual([]);
  });

  it('ignores messages that cannot be decoded, and reports the first one', async () => {
    const lifecycle = new Lifecycle();
    const [one, two] = [await start({ lifecycle }), await start()];
    const { connection } = await connectSession();
    let ignored = 0;
    lifecycle.on('presence:message-ignored', () => (ignored += 1));
    const reported = nextEvent(lifecycle, 'presence:message-ignored');
    connection.subscribe('flagcast.v1.*.presence.>', {
      max: 1,
      callback: (_, { subject }) => {
        const stranger = subject.replace(/[^.]+$/, 'stranger');
        for (const text of ['{', '{"asks":false}']) connection.publish(stranger, text);
      },
    });
    await connection.flush();
    const first = await join(ada, one);
    await reported;
    await join(bob, two);
    await sees(first, 'ada', 'bob');
    expect(ignored).toBe(1);
  });

  it('is not stored, and its messages have names and ids of users only', async () => {
    const [one, two] = [await start(), await start()];
    const session = await connectSession();
    const texts: string[] = [];
    session.connection.subscribe('flagcast.v1.*.presence.>', {
      callback: (_, message) => void texts.push(`${message.subject} ${message.string()}`),
    });
    await session.connection.flush();
    const first = await join(ada, one);
    await join(bob, two, 'name');
    await sees(first, 'bob:name', 'ada');
    const users = [{ user_id: bob.id, username: 'bob', field: 'name' }];
    expect(texts.map((text) => text.split(' ')[1])).toContain(
      JSON.stringify({ asks: true, users, ids: [], count: 1 }),
    );
    expect(texts.join()).not.toContain(channel.projectId);
    for await (const stream of session.jetstream.streams.list()) {
      const { state } = await session.jetstream.streams.info(stream.config.name, { subjects_filter: '>' });
      expect(Object.keys(state.subjects ?? {}).filter((subject) => subject.includes('presence'))).toEqual([]);
    }
  });
});

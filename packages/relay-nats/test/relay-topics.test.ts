import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { nextEvent } from '../../server/test/server.js';
import { connectNats, NatsConnection, type NatsSession } from '../src/nats-connection.js';
import type { RelayTopic } from '../../server/src/broadcast/relay.js';
import { TopicExchange } from '../src/topic-exchange.js';

/** A server with one topic, and what it receives. */
class Member {
  readonly exchange = new TopicExchange();
  readonly received: string[] = [];
  readonly senders = new Set<string>();
  connects = 0;
  readonly topic: RelayTopic;

  constructor(name = 'topic with spaces, * and >') {
    this.topic = this.exchange.open(name, {
      onConnected: () => (this.connects += 1),
      onMessage: (sender, message) => {
        this.received.push(Buffer.from(message).toString());
        this.senders.add(sender);
      },
    });
  }

  publish(text: string): void {
    this.topic.publish(Buffer.from(text));
  }
}

describe.skipIf(!hasNatsServer)('topics', () => {
  let nats: TestNats;
  const sessions: NatsSession[] = [];
  beforeAll(async () => {
    nats = await startNats({ maxPayload: 4_096 });
  });
  afterAll(async () => {
    await nats.remove();
  });
  afterEach(async () => {
    await Promise.all(sessions.splice(0).map(async ({ connection }) => await connection.close()));
  });

  async function connect(member: Member, database: string): Promise<NatsSession> {
    const session = await connectNats(nats.url);
    sessions.push(session);
    member.exchange.connect(session.connection, database);
    await session.connection.flush();
    return session;
  }

  /** Resolves when every message that was published before has arrived. */
  async function settled(): Promise<void> {
    for (let round = 0; round < 2; round += 1) {
      await Promise.all(sessions.map(async ({ connection }) => await connection.flush()));
    }
  }

  it('reach the servers of the same database that have opened them, except the sender', async () => {
    const [one, two, foreign, other] = [new Member(), new Member(), new Member(), new Member('another')];
    await connect(one, 'd1');
    await connect(two, 'd1');
    await connect(foreign, 'd2');
    await connect(other, 'd1');
    one.publish('a');
    two.publish('b');
    foreign.publish('c');
    other.publish('d');
    await settled();
    expect([one, two, foreign, other].map(({ received }) => received)).toEqual([['b'], ['a'], [], []]);
    expect([...one.senders, ...two.senders].filter((sender) => /^[\w-]{36}$/.test(sender))).toHaveLength(2);
    expect([one.connects, one.topic.maxBytes]).toEqual([1, 4_096]);
  });

  it('follow the server to another database, and end with the topic', async () => {
    const [one, two] = [new Member(), new Member()];
    const session = await connect(one, 'd1');
    await connect(two, 'd2');
    one.exchange.connect(session.connection, 'd1');
    expect(one.connects).toBe(1);
    one.exchange.connect(session.connection, 'd2');
    await settled();
    two.publish('a');
    one.publish('b');
    await settled();
    expect([one.received, two.received, one.connects]).toEqual([['a'], ['b'], 2]);
    one.exchange.disconnect();
    expect(one.topic.maxBytes).toBe(0);
    one.publish('is not sent');
    one.exchange.connect(session.connection, 'd2');
    await settled();
    one.publish('c');
    await settled();
    expect(two.received).toEqual(['b', 'c']);
    one.topic.close();
    await settled();
    two.publish('d');
    await settled();
    expect(one.received).toEqual(['a']);
  });

  it('send nothing over a connection that was closed', async () => {
    const one = new Member();
    const { connection } = await connect(one, 'd1');
    await connection.close();
    one.publish('is not sent');
    expect(() => one.topic.close()).not.toThrow();
    expect(() => one.exchange.disconnect()).not.toThrow();
  });

  it('whose messages NATS refuses are reported once, not for each message', async () => {
    const strict = await startNats({ denies: ['flagcast.v1.*.presence.>'] });
    const lifecycle = new Lifecycle();
    const failures: string[] = [];
    lifecycle.on('relay:failed', ({ error }) => failures.push(error.message));
    const members = [new Member('one'), new Member('another')];
    const connected = new Promise<NatsSession>((resolve) => {
      const relay = new NatsConnection({
        ...{ url: strict.url, lifecycle },
        onConnected: resolve,
        onDisconnected: () => undefined,
      });
      onTestFinished(async () => {
        await relay.close();
        await strict.remove();
      });
      relay.start();
    });
    const { connection } = await connected;
    const failed = nextEvent(lifecycle, 'relay:failed');
    for (let count = 0; count < 10; count += 1) {
      for (const member of members) {
        member.exchange.connect(connection, 'd1');
        member.publish(`${count}`);
      }
    }
    await failed;
    // The answers to all of them have arrived.
    await connection.flush();
    expect(failures).toEqual([expect.stringContaining('Permissions Violation for Publish')]);
  });
});

describe.skipIf(!hasNatsServer)('the connection to NATS', () => {
  it('returns after an outage in which the clock was set back', async () => {
    const nats = await startNats();
    const lifecycle = new Lifecycle();
    const relay = new NatsConnection({
      ...{ url: nats.url, lifecycle },
      onConnected: () => undefined,
      onDisconnected: () => undefined,
    });
    onTestFinished(async () => {
      vi.restoreAllMocks();
      await relay.close();
      await nats.remove();
    });
    const connected = nextEvent(lifecycle, 'relay:connected');
    relay.start();
    await connected;
    const trueNow = Date.now.bind(Date);
    vi.spyOn(Date, 'now').mockImplementation(() => trueNow() + 3_600_000);
    const lost = nextEvent(lifecycle, 'relay:lost');
    await nats.stop();
    await lost;
    // An attempt by the wrong clock: something else accepts it.
    const other = createServer().listen(Number(nats.address.split(':')[1]), '127.0.0.1');
    const [socket] = (await once(other, 'connection')) as [Socket];
    socket.destroy();
    await promisify(other.close.bind(other))();
    vi.restoreAllMocks();
    const again = nextEvent(lifecycle, 'relay:connected');
    await nats.start();
    await again;
  });
});

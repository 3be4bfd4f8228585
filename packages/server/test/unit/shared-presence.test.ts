import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Relay, RelayTopic, TopicReceiver } from '../../src/broadcast/relay.js';
import { Presence } from '../../src/connections/presence.js';
import { announce, shown, TestConnection } from './presence-fixture.js';

/** What servers exchange, without NATS: messages arrive after 5 ms. */
class Network {
  readonly topics = new Map<TopicReceiver, { readonly name: string; readonly server: Server }>();
  maxBytes = 1_000_000;
  readonly sent: Buffer[] = [];

  publish(name: string, from: Server, message: Buffer): void {
    this.sent.push(message);
    setTimeout(() => {
      for (const [receiver, topic] of this.topics) {
        if (topic.name === name && topic.server !== from && topic.server.isConnected) {
          receiver.onMessage(from.id, message);
        }
      }
    }, 5);
  }
}

class Server {
  readonly id = randomUUID();
  readonly ignored: Error[] = [];
  readonly #network: Network;
  readonly #presence: Presence;
  readonly #connections: TestConnection[] = [];
  #isConnected = true;

  constructor(network: Network) {
    this.#network = network;
    this.#presence = new Presence({
      cork: (work) => work(),
      isBusy: () => false,
      openTopic: this.#openTopic,
      onIgnored: (error) => this.ignored.push(error),
    });
    // As clients do.
    setInterval(() => this.renew(), 4_000);
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  set isConnected(value: boolean) {
    this.#isConnected = value;
    if (!value) return;
    for (const [receiver, { server }] of this.#network.topics) if (server === this) receiver.onConnected();
  }

  readonly fields = new Map<TestConnection, string | null>();

  renew(): void {
    for (const connection of this.#connections) this.edit(connection, this.fields.get(connection) ?? null);
  }

  join(userId: string, field: string | null = null): TestConnection {
    const connection = new TestConnection(userId);
    this.#connections.push(connection);
    this.edit(connection, field);
    return connection;
  }

  edit(connection: TestConnection, field: string | null): void {
    this.fields.set(connection, field);
    announce(this.#presence, connection, { field });
  }

  /** The client no longer announces its view. */
  silence(connection: TestConnection): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
  }

  leave(connection: TestConnection): void {
    this.silence(connection);
    this.#presence.leave(connection, 'v');
  }

  /** Another server sends this. */
  receive(text: string): void {
    for (const { server, receiver } of this.#receivers()) {
      if (server === this) receiver.onMessage('other', Buffer.from(text));
    }
  }

  #receivers(): { server: Server; receiver: TopicReceiver }[] {
    return [...this.#network.topics].map(([receiver, { server }]) => ({ receiver, server }));
  }

  readonly #openTopic: Relay['openTopic'] = (name, receiver): RelayTopic => {
    const network = this.#network;
    network.topics.set(receiver, { name, server: this });
    const isConnected = (): boolean => this.#isConnected;
    if (isConnected()) receiver.onConnected();
    return {
      get maxBytes() {
        return isConnected() ? network.maxBytes : 0;
      },
      publish: (message) => {
        if (isConnected()) network.publish(name, this, Buffer.from(message));
      },
      close: () => void network.topics.delete(receiver),
    };
  };
}

let network: Network;
let one: Server;
let two: Server;

beforeEach(() => {
  vi.useFakeTimers();
  network = new Network();
  [one, two] = [new Server(network), new Server(network)];
});
afterEach(() => void vi.useRealTimers());

const last = ({ messages }: TestConnection): string[] => {
  const message = messages.at(-1);
  return message === undefined ? [] : shown(message);
};

/** Names the users of many connections. */
function joinMany(server: Server, first: number, count: number): TestConnection[] {
  return Array.from({ length: count }, (_, index) => server.join(String(first + index)));
}

describe('presence of several servers', () => {
  it('shows the users of the others in the first message, and they see the new one within 500 ms', () => {
    const ada = one.join('ada');
    vi.advanceTimersByTime(20_000);
    const bob = two.join('bob', 'name');
    vi.advanceTimersByTime(250);
    expect(bob.messages.map(shown)).toStrictEqual([['bob:name', 'ada']]);
    vi.advanceTimersByTime(250);
    expect(ada.messages.map(shown)).toStrictEqual([['ada'], ['bob:name', 'ada']]);
    expect(ada.messages.at(-1)).toMatchObject({ count: 2 });
  });

  it('shows the users of a server that answers after the first message without a further pause', () => {
    one.isConnected = false;
    one.join('ada');
    const bob = two.join('bob');
    vi.advanceTimersByTime(250);
    expect(bob.messages.map(shown)).toStrictEqual([['bob']]);
    one.isConnected = true;
    vi.advanceTimersByTime(500);
    expect(bob.messages.map(shown)).toStrictEqual([['bob'], ['bob', 'ada']]);
  });

  it('follows the field and the end of a view within a second, also if it is the last one of its server', () => {
    const ada = one.join('ada');
    const [bob, cyd] = [two.join('bob'), two.join('cyd')];
    vi.advanceTimersByTime(5_000);
    for (const field of ['name', 'default_value', null]) {
      two.edit(bob, field);
      vi.advanceTimersByTime(1_000);
      expect(last(ada)).toStrictEqual(
        field === null ? ['ada', 'bob', 'cyd'] : [`bob:${field}`, 'ada', 'cyd'],
      );
    }
    two.leave(bob);
    vi.advanceTimersByTime(1_000);
    expect(last(ada)).toStrictEqual(['ada', 'cyd']);
    two.leave(cyd);
    vi.advanceTimersByTime(1_000);
    expect(last(ada)).toStrictEqual(['ada']);
  });

  it('forgets the users of a server that is gone within ten seconds, and never those of one that is there', () => {
    const ada = one.join('ada');
    two.join('bob');
    vi.advanceTimersByTime(60_000);
    expect(ada.messages.map(shown)).toStrictEqual([['ada', 'bob']]);
    two.isConnected = false;
    vi.advanceTimersByTime(10_000);
    expect(last(ada)).toStrictEqual(['ada']);
  });

  it('forgets a user of another server whose connection is broken within ten seconds', () => {
    const ada = one.join('ada');
    const bob = two.join('bob');
    vi.advanceTimersByTime(20_000);
    two.silence(bob);
    vi.advanceTimersByTime(10_000);
    expect(last(ada)).toStrictEqual(['ada']);
  });

  it('keeps its own users while the network is lost, and shows the others within a second afterwards', () => {
    const [ada, bob] = [one.join('ada'), two.join('bob')];
    vi.advanceTimersByTime(5_000);
    for (const server of [one, two]) server.isConnected = false;
    vi.advanceTimersByTime(9_500);
    expect([last(ada), last(bob)]).toStrictEqual([['ada'], ['bob']]);
    // The first one that is back finds no other.
    one.isConnected = true;
    vi.advanceTimersByTime(500);
    two.isConnected = true;
    vi.advanceTimersByTime(1_000);
    expect([last(ada), last(bob)]).toStrictEqual([
      ['ada', 'bob'],
      ['bob', 'ada'],
    ]);
  });

  it('counts a user on several servers once, with the field of any of them', () => {
    const ada = one.join('ada');
    one.join('bob');
    const bob = two.join('bob', 'name');
    vi.advanceTimersByTime(1_500);
    expect(ada.messages.at(-1)).toMatchObject({ count: 2 });
    expect(last(ada)).toStrictEqual(['bob:name', 'ada']);
    expect(last(bob)).toStrictEqual(['bob:name', 'ada']);
    two.edit(bob, null);
    vi.advanceTimersByTime(1_500);
    expect(last(ada)).toStrictEqual(['ada', 'bob']);
  });

  it('names 20 users of all servers, and counts up to 520 of each server exactly', () => {
    const [ada] = joinMany(one, 0, 400);
    joinMany(two, 300, 519);
    two.join('editor', 'name');
    vi.advanceTimersByTime(2_000);
    const message = ada?.messages.at(-1);
    expect(message).toMatchObject({ count: 820 });
    expect(message?.users).toHaveLength(20);
    expect(message?.users[0]).toMatchObject({ user_id: 'editor', field: 'name' });
    // Two more of that server, who have the subject open here, too.
    two.join('1');
    two.join('2');
    vi.advanceTimersByTime(2_000);
    expect(ada?.messages.at(-1)).toMatchObject({ count: 822 });
  });

  it('counts users that do not fit into a message of the network', () => {
    network.maxBytes = 1_024;
    const ada = one.join('ada');
    two.join('x'.repeat(5_000), 'name');
    joinMany(two, 0, 100);
    vi.advanceTimersByTime(2_000);
    expect(ada.messages.at(-1)).toMatchObject({ count: 102 });
    expect(last(ada).slice(0, 3)).toStrictEqual(['ada', '0', '1']);
    expect(Math.max(...network.sent.map(({ length }) => length))).toBeLessThanOrEqual(1_024);
  });

  it.each([
    ['no JSON', '{'],
    ['no object', null],
    ['no users', { asks: false }],
    ['a user without a name', { asks: false, users: [{ user_id: 'u', field: null }], ids: [], count: 1 }],
    [
      'a field that is no name',
      { asks: false, users: [{ user_id: 'u', username: 'u', field: '<b>' }], ids: [], count: 1 },
    ],
    ['fewer users than it names', { asks: false, users: [], ids: ['u'], count: 0 }],
    ['too many ids', { asks: false, users: [], ids: Array.from({ length: 501 }, String), count: 501 }],
    ['too many bytes', { asks: false, users: [], ids: ['u'.repeat(40_000)], count: 1 }],
  ])('ignores a message with %s, and reports the first one', (_, message) => {
    const ada = one.join('ada');
    vi.advanceTimersByTime(1_000);
    for (let time = 0; time < 2; time += 1)
      one.receive(typeof message === 'string' ? message : JSON.stringify(message));
    vi.advanceTimersByTime(1_000);
    expect(one.ignored).toHaveLength(1);
    expect(ada.messages.map(shown)).toStrictEqual([['ada']]);
  });

  it('ignores keys of a later version', () => {
    const ada = one.join('ada');
    const user = { user_id: 'u', username: 'u', field: null, color: 'red' };
    one.receive(JSON.stringify({ asks: false, users: [user], ids: [], count: 1, later: true }));
    vi.advanceTimersByTime(1_000);
    expect(ada.messages.at(-1)?.users.at(-1)).toStrictEqual({ user_id: 'u', username: 'u', field: null });
    expect(one.ignored).toStrictEqual([]);
  });

  it('sends a message in 15 s while no other server has the subject open, even if its users change fields', () => {
    const ada = one.join('ada');
    for (let time = 0; time < 600; time += 1) {
      one.edit(ada, `field_${time}`);
      vi.advanceTimersByTime(100);
    }
    expect(network.sent).toHaveLength(5);
  });

  it('answers servers that ask at the same time together', () => {
    one.join('ada');
    vi.advanceTimersByTime(1_000);
    const before = network.sent.length;
    for (let time = 0; time < 10; time += 1) {
      one.receive(JSON.stringify({ asks: true, users: [], ids: ['u'], count: 1 }));
    }
    vi.advanceTimersByTime(1_000);
    expect(network.sent.length - before).toBe(2);
  });

  it('sends four messages of a server in a second at most, and one in 3 s without changes', () => {
    const [ada] = [one.join('ada'), two.join('bob')];
    vi.advanceTimersByTime(2_000);
    let before = network.sent.length;
    for (let time = 0; time < 200; time += 1) {
      one.edit(ada, `field_${time}`);
      vi.advanceTimersByTime(50);
    }
    expect(network.sent.length - before).toBeLessThanOrEqual(40 + 4);
    vi.advanceTimersByTime(2_000);
    before = network.sent.length;
    vi.advanceTimersByTime(30_000);
    expect(network.sent.length - before).toBeLessThanOrEqual(2 * 11);
  });

  it('costs 5,000 people on three servers small messages, and each of them few', () => {
    const three = new Server(network);
    const all = [one, two, three].flatMap((server, index) => joinMany(server, index * 1_667, 1_667));
    vi.advanceTimersByTime(5_000);
    expect(all[0]?.messages.at(-1)?.count).toBe(5_001);
    const frames = all.map((connection) => connection.frames.length);
    const before = network.sent.length;
    for (let time = 0; time < 10; time += 1) {
      for (const [index, connection] of all.entries()) {
        if (index % 100 === 0) [one, two, three][Math.floor(index / 1_667)]?.edit(connection, `f_${time}`);
      }
      vi.advanceTimersByTime(1_000);
    }
    expect(network.sent.length - before).toBeLessThanOrEqual(3 * 4 * 10);
    expect(Math.max(...network.sent.map(({ length }) => length))).toBeLessThan(8_192);
    const received = all.map((connection, index) => connection.frames.length - (frames[index] ?? 0));
    expect(Math.max(...received)).toBeLessThanOrEqual(7);
  });
});

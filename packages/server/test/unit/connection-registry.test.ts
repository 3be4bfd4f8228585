import { beforeEach, expect, it } from 'vitest';
import { Connection, type Session } from '../../src/connections/connection.js';
import { ConnectionRegistry, partitionCount } from '../../src/connections/connection-registry.js';
import { Lifecycle } from '../../src/lifecycle.js';

const user = { id: 'u', username: 'user', active: true, superuser: false };
let registry: ConnectionRegistry;

class TestConnection extends Connection {
  override readonly session = { dialect: { name: 'plain' }, end: () => undefined } as unknown as Session;
  protected override readonly bufferedAmount = 2 ** 21;

  protected override write(): boolean {
    return false;
  }

  protected override closeTransport(): void {
    return;
  }

  override terminate(): void {
    return;
  }
}

beforeEach(() => {
  registry = new ConnectionRegistry(new Lifecycle());
});

function open(expiresAtMs: number): TestConnection {
  const connection = new TestConnection({ user, expiresAtMs }, registry);
  registry.add(connection);
  return connection;
}

it('a registry finds each expired token, in whichever order they expire', () => {
  const times = Array.from({ length: 3 * partitionCount }, (_, index) => 1_000 + ((index * 37) % 100));
  const connections = times.map((expiresAtMs) => open(expiresAtMs));
  for (const nowMs of [999, 1_000, 1_050, 1_099]) {
    const due = connections.filter((_, index) => (times[index] ?? NaN) <= nowMs);
    expect(new Set(registry.expired(nowMs))).toStrictEqual(new Set(due));
  }
});

it('a token of an open connection stays expired until the connection has ended', () => {
  const connection = open(1_000);
  expect(registry.expired(1_000)).toStrictEqual([connection]);
  expect(registry.expired(1_001)).toStrictEqual([connection]);
  connection.ended(1_000, '');
  expect(registry.expired(1_002)).toStrictEqual([]);
});

it('a renewed token counts from then on, whether it expires later or earlier', () => {
  const [later, earlier] = [open(1_000), open(1_000)];
  later.renew({ user, expiresAtMs: 5_000 });
  earlier.renew({ user, expiresAtMs: 500 });
  expect(registry.expired(500)).toStrictEqual([earlier]);
  earlier.ended(1_000, '');
  expect(registry.expired(1_000)).toStrictEqual([]);
  expect(registry.expired(5_000)).toStrictEqual([later]);
});

it('a connection that does not drain is paused once, until it drains or ends', () => {
  const pauses: unknown[] = [];
  registry.lifecycle.on('connection:paused', (event) => pauses.push(event));
  const connection = open(Infinity);
  const paused = () => [...registry.paused.keys()];
  connection.send(Buffer.alloc(1));
  connection.send(Buffer.alloc(1));
  expect(pauses).toHaveLength(1);
  expect(paused()).toStrictEqual([connection]);
  connection.drained();
  expect(paused()).toStrictEqual([]);
  connection.send(Buffer.alloc(1));
  connection.ended(1_000, '');
  expect(paused()).toStrictEqual([]);
  connection.send(Buffer.alloc(1));
  expect(paused()).toStrictEqual([]);
});

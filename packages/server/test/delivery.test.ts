import { queryObjects } from 'node:v8';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { Broadcaster, type ChannelChange } from '../src/broadcast/broadcaster.js';
import type { RequestAuthorizer } from '../src/auth/request-authorizer.js';
import { ChannelBatch } from '../src/broadcast/replay-buffer.js';
import { Heartbeat } from '../src/connections/codecs/v1.js';
import { Connection, type Session } from '../src/connections/connection.js';
import { ConnectionRegistry } from '../src/connections/connection-registry.js';
import { Subscription } from '../src/connections/subscription.js';
import { V1Session } from '../src/connections/v1-session.js';
import type { Dialect } from '../src/events/dialect.js';
import { channelKey, type ControlEntry, type FlagEvent } from '../src/events/event.js';
import type { Coverage } from '../src/events/position.js';
import { MissedEventsSource } from '../src/replay/missed-events.js';
import { Lifecycle } from '../src/lifecycle.js';
import { Freshness } from '../src/reader/freshness.js';
import { nextEvent } from './server.js';

/** Each event is its id and a space, so that the received text is readable. */
const dialect: Dialect = {
  name: 'ids',
  encode: ({ events }) => Buffer.from(events.map(({ id }) => `${id} `).join('')),
};

const environmentId = '1';
const large = channelKey('large', environmentId);
const small = channelKey('small', environmentId);

/** Accepts everything that is sent, and keeps the process busy for `busyMs` each time. */
class TestConnection extends Connection {
  override readonly session = expect.unreachable as unknown as Session;
  readonly writes: string[] = [];
  readonly #busyMs: number;
  readonly #onWrite: () => void;

  constructor(busyMs = 0, onWrite = (): void => undefined) {
    const user = { id: '1', username: 'alice', active: true, superuser: false };
    super({ user, expiresAtMs: Infinity }, new ConnectionRegistry(new Lifecycle()));
    this.#busyMs = busyMs;
    this.#onWrite = onWrite;
  }

  protected override get bufferedAmount(): number {
    return 0;
  }

  protected override write(bytes: Buffer): boolean {
    this.writes.push(bytes.toString());
    const untilMs = performance.now() + this.#busyMs;
    while (performance.now() < untilMs);
    this.#onWrite();
    return true;
  }

  protected override closeTransport(): void {
    this.writes.push('closed');
  }

  override terminate(): void {
    this.writes.push('terminated');
  }
}

/** Writes the messages of the broadcaster to its connection. */
class TestSubscription extends Subscription {
  readonly #writes: string[];

  constructor(key: string, broadcaster: Broadcaster, connection: TestConnection) {
    super({ key, broadcaster, connection, dialect });
    this.#writes = connection.writes;
  }

  override changed({ type, ...change }: ChannelChange): void {
    this.#writes.push([type, ...Object.values<string>(change)].join(' '));
  }
}

function event(projectId: string, id: string): FlagEvent {
  return {
    id,
    xid: 1n,
    source: 'audit',
    rowId: id,
    projectId,
    environmentId,
    environmentKey: 'prod',
    entity: 'feature',
    entityId: id,
    action: 'updated',
    createdAt: '2026-01-01T00:00:00.000000Z',
    featureId: id,
    pendingChangeId: null,
    actor: null,
    committedAt: null,
    featureJson: undefined,
    featureUnreadable: false,
    pendingChangeJson: undefined,
    pendingChangeUnreadable: false,
  };
}

interface BroadcastFixture {
  readonly broadcaster: Broadcaster;
  readonly lifecycle: Lifecycle;
  /** Reads a batch of these events, given as `project:id`. */
  readonly read: (...events: string[]) => void;
  readonly control: (...controls: ControlEntry[]) => void;
  readonly join: (channel: string, connection: TestConnection) => Subscription;
}

function createBroadcast(
  lifecycle = new Lifecycle(),
  broadcaster = new Broadcaster({ lifecycle, requestBatch: () => undefined }),
): BroadcastFixture {
  let xmax = 1n;
  const broadcast = (events: FlagEvent[], controls: readonly ControlEntry[]): void => {
    xmax += 1n;
    const coverage: Coverage = { xmin: xmax, xmax, listed: 'open', xids: [] };
    broadcaster.broadcast({
      events,
      controls,
      seenAtMs: 0,
      beganAtMs: 0,
      read: { coverage, durable: coverage, partial: [], durablePartial: [] },
      snapshotXmax: xmax,
      isComplete: true,
      position: { history: 'h', ...coverage },
      connection: 1,
    });
  };
  const read = (...events: string[]): void => {
    broadcast(
      events.map((each) => event(each.split(':')[0] ?? '', each.split(':')[1] ?? '')),
      [],
    );
  };
  const control = (...controls: ControlEntry[]): void => broadcast([], controls);
  read();
  const join = (channel: string, connection: TestConnection): Subscription => {
    const subscription = new TestSubscription(channel, broadcaster, connection);
    subscription.catchUp();
    return subscription;
  };
  return { broadcaster, lifecycle, read, control, join };
}

describe('delivery to a channel with thousands of clients', () => {
  it('is done in slices, so that a small channel and other work do not wait', async () => {
    const { lifecycle, read, join } = createBroadcast();
    let served = 0;
    // 400 ms of work, more or less.
    for (let count = 0; count < 2_000; count += 1) join(large, new TestConnection(0.2, () => (served += 1)));
    let servedBefore = -1;
    join(small, new TestConnection(0, () => (servedBefore = served)));
    const sent = nextEvent(lifecycle, 'batch:broadcast', ({ deliveries }) => deliveries === 2_000);
    read('large:a');
    expect(served).toBeLessThan(1_000);
    await new Promise(setImmediate);
    expect(served).toBeLessThan(1_000);
    read('small:b');
    expect(servedBefore).toBeGreaterThan(0);
    expect(servedBefore).toBeLessThan(1_000);
    await sent;
    expect(served).toBe(2_000);
  });

  it('makes the server unready while it takes too long', async () => {
    const { broadcaster, lifecycle, read, join } = createBroadcast();
    const readiness = new Freshness({
      lifecycle,
      broadcaster,
      sessions: { hasEndedPool: false },
      staleAfterMs: 60_000,
      lagLimitMs: 20,
    });
    lifecycle.emit('reader:started', { guarantee: 'exact', reason: '', source: '', startedAtMs: 0 });
    // 100 ms of work, more or less.
    for (let count = 0; count < 500; count += 1) join(large, new TestConnection(0.2));
    const sent = nextEvent(lifecycle, 'batch:broadcast');
    expect(readiness.notReady()).toBe(null);
    read('large:a');
    while (readiness.notReady() === null && broadcaster.lagMs > 0) await new Promise(setImmediate);
    expect(readiness.notReady()).toMatch(/^lagging: /);
    await sent;
    expect(readiness.notReady()).toBe(null);
    read('large:b');
    broadcaster.forget();
    expect(broadcaster.lagMs).toBe(0);
  });

  it('sends batches that arrive meanwhile in one write, each event once and in order', async () => {
    const { lifecycle, read, join } = createBroadcast();
    const connections = Array.from({ length: 1_000 }, () => new TestConnection(0.05));
    for (const connection of connections) join(large, connection);
    read('large:a');
    // The last one has not been served yet.
    expect(connections.at(-1)?.writes).toEqual([]);
    read('large:b');
    read('large:c', 'small:x');
    const late = new TestConnection();
    join(large, late);
    const sent = nextEvent(lifecycle, 'batch:broadcast', ({ channels }) => channels === 2);
    await sent;
    read('large:d');
    await nextEvent(lifecycle, 'batch:broadcast');
    for (const { writes } of connections) expect(writes).toEqual(['a ', 'b c ', 'd ']);
    expect(late.writes).toEqual(['d ']);
  });

  it('can be flushed for one client, which gets each event once', async () => {
    const { lifecycle, read, join } = createBroadcast();
    for (let count = 0; count < 1_000; count += 1) join(large, new TestConnection(0.05));
    const last = new TestConnection();
    const subscription = join(large, last);
    const sent = nextEvent(lifecycle, 'batch:broadcast');
    read('large:a');
    expect(last.writes).toEqual([]);
    expect(subscription.flush()).toBe(true);
    expect(last.writes).toEqual(['a ']);
    await sent;
    expect(last.writes).toEqual(['a ']);
  });

  it('sends a heartbeat only after the events before its cursor, also between slices', async () => {
    const { broadcaster, lifecycle, read, join } = createBroadcast();
    for (let count = 0; count < 1_000; count += 1) join(large, new TestConnection(0.05));
    const connection = new TestConnection();
    const sent = connection.writes;
    const pool = new pg.Pool();
    const missedEvents = new MissedEventsSource({
      pool,
      source: () => expect.unreachable('nothing was missed'),
      broadcaster,
      willBeRead: () => false,
    });
    const sources = {
      ...{ broadcaster, missedEvents, lifecycle, stale: () => null, presence: null },
      authorizer: expect.unreachable as unknown as RequestAuthorizer,
      hello: () => ({
        server: 's',
        user_id: '1',
        username: 'alice',
        token_expires_at: '',
        heartbeat_interval_ms: 0,
        guarantee: 'exact' as const,
        guarantee_reason: 'event_log' as const,
        overlap_ms: null,
        embedded_state: false,
        presence: false,
      }),
    };
    const wire = {
      dialect,
      feedDialect: dialect,
      control: ({ type }: { type: string }) => Buffer.from(type),
    };
    const session = new V1Session(sources, connection, wire);
    const channel = { projectId: 'large', environmentId, environmentKey: 'prod' };
    await session.open({ channel, request: { projectId: 'large', environmentId } }, null);
    read('large:a');
    expect(sent).toEqual(['caught_up']);
    if (broadcaster.position !== null) session.sendHeartbeat(new Heartbeat(broadcaster.position, null));
    expect(sent).toEqual(['caught_up', 'a ', 'heartbeat']);
    session.end();
    broadcaster.finishDeliveries();
    await pool.end();
  });

  it('is completed when the server closes, and dropped when the history of the database is lost', async () => {
    const { broadcaster, read, join } = createBroadcast();
    const connections = Array.from({ length: 1_000 }, () => new TestConnection(0.02));
    for (const connection of connections) join(large, connection);
    read('large:a');
    read('large:b');
    broadcaster.finishDeliveries();
    for (const { writes } of connections) expect(writes).toEqual(['a ', 'b ']);
    read('large:c');
    broadcaster.forget();
    await new Promise(setImmediate);
    expect(connections.at(-1)?.writes).toEqual(['a ', 'b ', 'history_lost']);
  });

  it('sends the events of a batch before a rename or the end of the channel, to its subscribers only', async () => {
    const { lifecycle, read, control, join } = createBroadcast();
    const [connection, other] = [new TestConnection(), new TestConnection()];
    join(large, connection);
    join(small, other);
    const sent = nextEvent(lifecycle, 'batch:broadcast');
    read('large:a', 'small:x');
    await sent;
    control(
      { type: 'environment_renamed', projectId: 'large', environmentId, environmentKey: 'live' },
      { type: 'environment_deleted', projectId: 'large', environmentId },
    );
    control({ type: 'project_archived', projectId: 'small' });
    expect(connection.writes).toEqual(['a ', 'renamed live', 'ended environment_deleted']);
    expect(other.writes).toEqual(['x ', 'ended project_archived']);
  });

  it('frees batches that the replay buffer has dropped', () => {
    const lifecycle = new Lifecycle();
    const broadcaster = new Broadcaster({
      lifecycle,
      requestBatch: () => undefined,
      replayBufferEvents: 200,
    });
    const before = queryObjects(ChannelBatch, { format: 'count' });
    const fixture = createBroadcast(lifecycle, broadcaster);
    for (let batch = 0; batch < 390; batch += 1) fixture.read(`kept:${batch}`);
    expect(broadcaster.buffer.after(0, channelKey('kept', environmentId))).toBeNull();
    // The newest one may not have arrived yet.
    expect(queryObjects(ChannelBatch, { format: 'count' }) - before).toBeLessThanOrEqual(201);
  });
});

import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Batch, RelayedRead } from '../../server/src/events/event.js';
import { Session } from '../../server/src/postgres/session.js';
import type { Coverage } from '../../server/src/events/position.js';
import { Lifecycle } from '../../server/src/lifecycle.js';
import { EventLog } from '../src/event-log.js';
import { Follower, type LogPlace } from '../src/follower.js';
import { RelayNode } from '../src/relay-node.js';
import { decodeHeartbeat, type Heartbeat } from '../src/messages.js';
import { connectNats, type NatsSession } from '../src/nats-connection.js';
import { Publisher } from '../src/publisher.js';
import { createTestDatabase, type TestDatabase } from '../../server/test/database.js';
import { hasNatsServer, startNats, type TestNats } from '../../../testing/testkit/nats-server.ts';
import { auditEvent } from '../../server/test/audit-event.js';
import { nextEvent } from '../../server/test/server.js';

const channel = 'project/1';

/** A read in a snapshot of this xmax, with an event of this transaction, or without events. */
function batch(xmax: bigint, xid: bigint | null = null): Batch {
  const event = auditEvent({
    id: String(xid),
    xid: xid ?? 0n,
    rowId: String(xid),
    entityId: `feature ${xid}`,
  });
  const coverage: Coverage = { xmin: xmax, xmax, listed: 'open', xids: [] };
  return {
    events: xid === null ? [] : [event],
    controls: [],
    seenAtMs: Date.now(),
    beganAtMs: performance.now(),
    read: { coverage, durable: coverage, partial: [], durablePartial: [] },
    snapshotXmax: xmax,
    isComplete: true,
    connection: 1,
    position: { history: 'h', ...coverage },
  };
}

describe.skipIf(!hasNatsServer)('the roles of a relay', () => {
  let nats: TestNats;
  let session: NatsSession;
  let log: EventLog;
  const cleanUps: (() => void)[] = [];
  beforeAll(async () => {
    nats = await startNats();
    session = await connectNats(nats.url);
  });
  afterAll(async () => {
    await session.connection.close();
    await nats.remove();
  });
  beforeEach(async () => {
    log = await EventLog.open(session, { id: randomUUID(), retentionMs: 60_000 });
  });
  afterEach(() => {
    for (const cleanUp of cleanUps.splice(0)) cleanUp();
  });

  /** A publisher after its first commit. `publish` resolves when the read is in the log. */
  async function openPublisher(
    options: Partial<ConstructorParameters<typeof Publisher>[0]> = {},
  ): Promise<{ publisher: Publisher; publish: (read: Batch) => Promise<unknown> }> {
    const lifecycle = new Lifecycle();
    const publisher = new Publisher({
      log,
      logName: 'log',
      reader: randomUUID(),
      newest: batch(10n),
      previous: 0,
      unbrokenSince: null,
      triggerProblem: () => null,
      lifecycle,
      onFailed: () => undefined,
      ...options,
    });
    cleanUps.push(() => publisher.end({ leaves: false }));
    await publisher.open();
    const publish = async (read: Batch): Promise<unknown> => {
      const published = nextEvent(lifecycle, 'relay:published');
      publisher.add(read);
      return await published;
    };
    return { publisher, publish };
  }

  /** A follower, the transactions of the events that it delivers, and where it stops. */
  async function follow(lifecycle = new Lifecycle()): Promise<{
    follower: Follower;
    xids: (bigint | undefined)[];
    next: (xid: bigint) => Promise<void>;
    gap: Promise<LogPlace | null>;
  }> {
    const xids: (bigint | undefined)[] = [];
    let resolveGap: (newest: LogPlace | null) => void = () => undefined;
    const gap = new Promise<LogPlace | null>((resolve) => (resolveGap = resolve));
    const follower = new Follower({
      log,
      watched: new Set([channel]),
      lifecycle,
      onHeartbeat: () => undefined,
      onRead: ({ events }: RelayedRead) => xids.push(...events.map(({ xid }) => xid)),
      onGap: (_reason, newest) => resolveGap(newest),
    });
    cleanUps.push(() => follower.end());
    await follower.listen();
    const next = async (xid: bigint): Promise<void> => {
      while (!xids.includes(xid)) await nextEvent(lifecycle, 'relay:applied');
    };
    return { follower, xids, next, gap };
  }

  const lastPlace = async (): Promise<number> => (await log.lastCommit())?.sequence ?? 0;

  it('the leader never reports progress beyond its log, even while it waits for NATS', async () => {
    const heartbeats: Heartbeat[] = [];
    let resolveHeartbeat: () => void = () => undefined;
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let commits = 0;
    const { publish } = await openPublisher({
      log: {
        maxBytes: log.maxBytes,
        publishEvents: async (...of) => await log.publishEvents(...of),
        publishCommit: async (...of) => {
          commits += 1;
          if (commits > 1) await held;
          return await log.publishCommit(...of);
        },
        publish: (what, data) => {
          heartbeats.push(decodeHeartbeat(data));
          resolveHeartbeat();
          log.publish(what, data);
        },
      },
    });
    const opened = await lastPlace();
    const published = publish(batch(20n, 15n));
    await new Promise<void>((resolve) => (resolveHeartbeat = resolve));
    expect(heartbeats.at(-1)).toMatchObject({ commit: opened, progress: { xmax: 10n } });
    release();
    await published;
    await new Promise<void>((resolve) => (resolveHeartbeat = resolve));
    expect(heartbeats.at(-1)).toMatchObject({ commit: await lastPlace(), progress: { xmax: 20n } });
  });

  it('a follower fetches messages that it has not received, and delivers all in order', async () => {
    const { publish } = await openPublisher();
    const opened = await lastPlace();
    await publish(batch(20n, 15n));
    await publish(batch(30n, 25n));
    const { follower, xids, next } = await follow();
    await publish(batch(40n, 35n));
    follower.begin({ log: 'log', commit: opened, xmax: 10n });
    await next(35n);
    expect(xids).toEqual([15n, 25n, 35n]);
  });

  it('a follower keeps few bytes of events while it does not follow, and fetches the others later', async () => {
    const lifecycle = new Lifecycle();
    const { xids, next, follower } = await follow(lifecycle);
    const { publish } = await openPublisher();
    const place = { log: 'log', commit: await lastPlace(), xmax: 10n };
    const large = JSON.stringify('x'.repeat(900_000));
    for (let xid = 10n; xid < 50n; xid += 1n) {
      const read = batch(xid + 1n, xid);
      await publish({ ...read, events: read.events.map((event) => ({ ...event, featureJson: large })) });
    }
    await session.connection.flush();
    const fetched = nextEvent(lifecycle, 'relay:fetched');
    follower.begin(place);
    await next(49n);
    expect(xids).toEqual(Array.from({ length: 40 }, (_, index) => BigInt(10 + index)));
    expect((await fetched).messages).toBe(1);
  });

  it('a follower does not continue across a gap of the log', async () => {
    const { publisher, publish } = await openPublisher();
    const { follower, xids, next, gap } = await follow();
    follower.begin({ log: 'log', commit: await lastPlace(), xmax: 10n });
    await publish(batch(20n, 15n));
    await next(15n);
    publisher.end({ leaves: false });
    const second = await openPublisher({ newest: batch(30n), previous: await lastPlace() });
    const opened = await lastPlace();
    await second.publish(batch(40n, 35n));
    expect(await gap).toEqual({ log: 'log', commit: opened, xmax: 30n });
    expect(xids).toEqual([15n]);
  });

  it('a follower notices that the log was replaced while NATS stayed connected', async () => {
    const { publisher } = await openPublisher();
    const { follower, gap } = await follow();
    follower.begin({ log: 'log', commit: await lastPlace(), xmax: 10n });
    publisher.end({ leaves: false });
    await openPublisher({ logName: 'another log', previous: await lastPlace() });
    expect(await gap).toEqual({ log: 'another log', commit: await lastPlace(), xmax: 10n });
  });

  /** A server that has received a heartbeat; `done` lists the calls of its reader. */
  async function join(
    url = 'postgresql://127.0.0.1:1/nowhere',
  ): Promise<{ relayNode: RelayNode; done: string[]; lifecycle: Lifecycle }> {
    const lifecycle = new Lifecycle();
    const done: string[] = [];
    const relayNode = new RelayNode({
      log,
      id: randomUUID(),
      openSession: async () => {
        return await Session.open({
          database: { url },
          applicationName: 'flagcast relay',
          queryTimeoutMs: 5_000,
        });
      },
      triggerProblem: () => null,
      reader: {
        canFollow: true,
        requestBatch: () => void done.push('read'),
        pause: () => void done.push('pause'),
        resume: () => void done.push('resume'),
        follow: () => undefined,
      },
      watched: new Set([channel]),
      lifecycle,
      newest: () => batch(10n),
      onFailed: () => undefined,
    });
    cleanUps.push(() => void relayNode.end({ reason: 'the test ends', leaves: false, isLast: true }));
    const heartbeat = nextEvent(lifecycle, 'relay:heartbeat');
    await relayNode.start();
    await heartbeat;
    return { relayNode, done, lifecycle };
  }

  it('a server follows only after it has itself completed a read that started after a heartbeat of the leader', async () => {
    const { publish } = await openPublisher();
    await publish(batch(20n, 15n));
    const early = batch(10n);
    const { relayNode, done } = await join();
    relayNode.delivered(early);
    expect(done).toEqual(['read']);
    relayNode.delivered(batch(20n, 15n));
    expect(done).toEqual(['read', 'pause']);
    expect(relayNode.isFollowing).toBe(true);
  });

  it('G1: a follower takes missed events from the log only once the log has what this server read itself', async () => {
    const { publish } = await openPublisher();
    const { relayNode, lifecycle } = await join();
    relayNode.delivered(batch(20n, 15n));
    expect(relayNode.isFollowing).toBe(true);
    expect(relayNode.applied).toBeNull();
    const apply = async (read: Batch): Promise<void> => {
      const applied = nextEvent(lifecycle, 'relay:applied');
      await publish(read);
      await applied;
    };
    // A later snapshot, but a full page: the leader has not come to transaction 15.
    await apply({ ...batch(21n, 12n), isComplete: false });
    expect(relayNode.applied).toBeNull();
    await apply(batch(21n, 15n));
    expect(relayNode.applied).toBe(await lastPlace());
  });

  it('a server does not follow a leader that is ahead of the database', async () => {
    await openPublisher({ newest: batch(20n) });
    const { relayNode, done } = await join();
    relayNode.delivered(batch(19n));
    relayNode.delivered(batch(20n));
    expect(done).toEqual(['read']);
    expect(relayNode.isFollowing).toBe(false);
  });

  describe('a new leader', () => {
    let database: TestDatabase;
    beforeAll(async () => {
      database = await createTestDatabase({ schema: 'none' });
    });
    afterAll(async () => {
      await database.drop();
    });

    it.each([
      { case: 'has read more before it followed than the log has', xmax: 20n, continues: false },
      { case: 'has read no more than the log has', xmax: 10n, continues: true },
    ])('continues the log or starts a new one: it $case', async ({ xmax, continues }) => {
      const { publisher } = await openPublisher();
      const { relayNode, lifecycle } = await join(database.url);
      relayNode.delivered(batch(xmax, 9n));
      expect(relayNode.isFollowing).toBe(true);
      // The next heartbeat has the leader's progress.
      await nextEvent(lifecycle, 'relay:heartbeat');
      const elected = nextEvent(lifecycle, 'relay:elected');
      publisher.end({ leaves: true });
      expect(await elected).toEqual({ continues });
    });
  });
});

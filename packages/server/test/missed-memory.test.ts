import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Channel } from '../src/auth/authorization.js';
import type { Position } from '../src/events/position.js';
import { type EventSource, findEventSource } from '../src/reader/event-source.js';
import { Broadcaster } from '../src/broadcast/broadcaster.js';
import { Lifecycle } from '../src/lifecycle.js';
import { MissedEventsSource } from '../src/replay/missed-events.js';
import {
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestDatabase,
  withClient,
  insertAudits,
} from './database.js';

let database: TestDatabase;
let channel: Channel;
let eventSource: EventSource;
/** A position before all events. */
let start: Position;

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod, environmentKey: 'prod' };
  eventSource = await withClient(database.url, async (client) => await findEventSource(client, null));
  start = await positionNow();
});

afterAll(async () => await database.drop());

async function positionNow(): Promise<Position> {
  const { rows } = await database.pool.query<{ xmax: string }>(
    'SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax',
  );
  const xmax = BigInt(rows[0]?.xmax ?? 0);
  return { history: 'h', xmin: xmax, xmax, listed: 'open', xids: [] };
}

function source(
  keepMs: number,
  current = (): EventSource => eventSource,
  broadcaster = new Broadcaster({ lifecycle: new Lifecycle(), requestBatch: () => undefined }),
): MissedEventsSource {
  return new MissedEventsSource({
    pool: database.pool,
    source: current,
    broadcaster,
    willBeRead: () => false,
    keepMs,
  });
}

/** Different positions that have missed the same events. */
function place(number: number): Position {
  return { ...start, xmin: start.xmin - BigInt(number + 1) };
}

describe('G8: a shared answer to missed events', () => {
  it('is freed when its time is over', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    await insertAudit(database.pool, channel);
    const missedEvents = source(50);
    const ask = async (): Promise<WeakRef<object>> => {
      const { events: missed } = await missedEvents.find(channel, start);
      expect(missed?.events.length).toBe(1);
      return new WeakRef(missed ?? {});
    };
    const answer = await ask();
    await expect
      .poll(() => {
        collect();
        return answer.deref() === undefined;
      })
      .toBe(true);
  });

  it('is bounded in total for any number of positions', async () => {
    await insertAudits(database.pool, channel, 900);
    const missedEvents = source(600_000);
    const ask = async (number: number): Promise<unknown> =>
      (await missedEvents.find(channel, place(number))).events;
    const first = await ask(0);
    for (let number = 1; number < 20; number += 1) await ask(number);
    expect(await ask(0)).toBe(first);
    for (let number = 20; number < 25; number += 1) await ask(number);
    // The limit of 20,000 events is exceeded, so the oldest answer is dropped.
    expect(await ask(0)).not.toBe(first);
  });

  it('is not reused after the reader has found that it may read other tables', async () => {
    let current: EventSource = { ...eventSource, hasState: false };
    const missedEvents = source(600_000, () => current);
    const ask = async (): Promise<unknown> => (await missedEvents.find(channel, start)).events;
    const withoutStates = await ask();
    expect(await ask()).toBe(withoutStates);
    current = eventSource;
    expect(await ask()).not.toBe(withoutStates);
  });

  it('G5: is not reused after the history was lost, because the replay buffer begins later', async () => {
    const broadcaster = new Broadcaster({ lifecycle: new Lifecycle(), requestBatch: () => undefined });
    const missedEvents = source(600_000, () => eventSource, broadcaster);
    const from = await positionNow();
    expect((await missedEvents.find(channel, from)).events?.events).toHaveLength(0);
    await insertAudit(database.pool, channel);
    broadcaster.forget();
    expect((await missedEvents.find(channel, from)).events?.events).toHaveLength(1);
  });

  it('is a resync if the states of features are too large', async () => {
    const { pool } = database;
    await pool.query('ALTER TABLE features ALTER COLUMN description TYPE text');
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO features (id, project_id, key, name, kind, description)
       VALUES (gen_random_uuid(), $1, 'large', 'Large', 'simple', repeat('x', 60000)) RETURNING id`,
      [channel.projectId],
    );
    const featureId = rows[0]?.id ?? '';
    const from = await positionNow();
    for (let count = 0; count < 20; count += 1) await insertAudit(pool, { ...channel, featureId });
    expect((await source(50).find(channel, from)).events?.events).toHaveLength(20);
    for (let count = 0; count < 20; count += 1) await insertAudit(pool, { ...channel, featureId });
    expect((await source(50).find(channel, from)).events).toBe(null);
  });
});

it('G1: an answer to missed events waits until it is known which of them the reader will deliver', async () => {
  const from = await positionNow();
  const { entityId } = await insertAudit(database.pool, channel);
  const coverage = { ...from, xmin: from.xmin + 1_000n, xmax: from.xmin + 1_000n };
  let batches = 0;
  const broadcaster: Broadcaster = new Broadcaster({
    lifecycle: new Lifecycle(),
    requestBatch: () => {
      batches += 1;
      setImmediate(() => {
        broadcaster.broadcast({
          events: [],
          controls: [],
          seenAtMs: Date.now(),
          beganAtMs: performance.now(),
          read: { coverage, durable: coverage, partial: [], durablePartial: [] },
          snapshotXmax: coverage.xmax,
          isComplete: true,
          position: coverage,
          connection: 1,
        });
      });
    },
  });
  const missedEvents = new MissedEventsSource({
    pool: database.pool,
    source: () => eventSource,
    broadcaster,
    willBeRead: () => (batches < 3 ? null : false),
  });
  const missed = await missedEvents.since(channel, from);
  expect(missed).toHaveProperty('events.events', [expect.objectContaining({ entityId })]);
  expect(batches).toBe(3);
});

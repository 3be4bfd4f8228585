import { describe, expect, it, onTestFinished } from 'vitest';
import type { Channel } from '../src/auth/authorization.js';
import { covers } from '../src/events/position.js';
import { Broadcaster } from '../src/broadcast/broadcaster.js';
import { Lifecycle } from '../src/lifecycle.js';
import { MissedEventsSource } from '../src/replay/missed-events.js';
import { pageRows } from '../src/reader/log-statements.js';
import { createTestDatabase, insertAudit, seedProject, type TestDatabase, insertAudits } from './database.js';
import { startTestReader } from './reader.js';
import { createUser, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

/** More than three pages. */
const largeRows = 3 * pageRows + 200;

async function createDatabase(): Promise<{ database: TestDatabase; large: Channel; other: Channel }> {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { projectId, environments } = await seedProject(database.pool);
  return {
    database,
    large: { projectId, environmentId: environments.prod, environmentKey: 'prod' },
    other: { projectId, environmentId: environments.stage, environmentKey: 'stage' },
  };
}

/** Writes `rows` events in one transaction; returns their entities in the order of the log. */
async function writeLarge(
  database: TestDatabase,
  { projectId, environmentId }: Channel,
  rows = largeRows,
): Promise<string[]> {
  await insertAudits(database.pool, { projectId, environmentId }, rows);
  const { rows: logged } = await database.pool.query<{ id: string }>(
    'SELECT entity_id AS id FROM flagcast.event_log WHERE environment_id = $1 ORDER BY seq',
    [environmentId],
  );
  return logged.map(({ id }) => id);
}

describe('a transaction with more rows than a page', () => {
  it('is delivered completely, in order and once, and events of other channels arrive in between', async () => {
    const { database, large, other } = await createDatabase();
    let hasRoom = false;
    const { reader, events, arrival, read } = await startTestReader(database, { hasRoom: () => hasRoom });
    const written = await writeLarge(database, large);
    await read();
    const early = await insertAudit(database.pool, other);
    reader.requestBatch();
    await arrival(early.entityId);
    const ofLarge = (): string[] =>
      events
        .filter(({ environmentId }) => environmentId === large.environmentId)
        .map(({ entityId }) => entityId);
    expect(ofLarge()).toEqual(written.slice(0, pageRows));
    hasRoom = true;
    await arrival(written.at(-1) ?? '');
    expect(ofLarge()).toEqual(written);
    expect(events).toHaveLength(written.length + 1);
  });

  it('that was open for a long time repeats no event that was committed before it', async () => {
    const { database, large, other } = await createDatabase();
    const { delivered, arrival, read } = await startTestReader(database);
    const open = await database.pool.connect();
    await open.query('BEGIN');
    await insertAudits(open, large, largeRows);
    for (let count = 0; count < 3; count += 1) {
      await insertAudit(database.pool, other);
      await read();
    }
    const last = await insertAudit(open, large);
    await open.query('COMMIT');
    open.release();
    await read();
    await arrival(last.entityId);
    await read();
    expect(delivered()).toHaveLength(largeRows + 1 + 3);
    expect(new Set(delivered()).size).toBe(largeRows + 1 + 3);
  });

  it('holds back the cursor until it is delivered, so that a client that resumes in the middle misses and repeats no event', async () => {
    const { database, large, other } = await createDatabase();
    let hasRoom = false;
    const { reader, events, batches, arrival, read } = await startTestReader(database, {
      hasRoom: () => hasRoom,
    });
    const written = await writeLarge(database, large, pageRows + 300);
    await read();
    const early = await insertAudit(database.pool, other);
    reader.requestBatch();
    const { xid } = await arrival(early.entityId);
    const position = batches.at(-1)?.position;
    if (position === undefined || reader.source === null) throw new Error('the reader has not begun');
    const { source } = reader;
    expect(covers(position, xid)).toBe(false);
    // This is the query for the missed events of a client.
    const missedEvents = new MissedEventsSource({
      pool: database.pool,
      source: () => source,
      broadcaster: new Broadcaster({ lifecycle: new Lifecycle(), requestBatch: () => undefined }),
      willBeRead: (event) => reader.willBeRead(event),
    });
    const { events: missed } = await missedEvents.find(large, position);
    const fromDatabase = missed?.events.filter((event) => !reader.willBeRead(event)) ?? [];
    expect(fromDatabase).toHaveLength(pageRows);
    const deliveredBefore = events.length;
    hasRoom = true;
    await arrival(written.at(-1) ?? '');
    const live = events.slice(deliveredBefore);
    expect([...fromDatabase, ...live].map(({ entityId }) => entityId)).toEqual(written);
    await expect
      .poll(async () => {
        await read();
        const settled = batches.at(-1)?.position;
        return settled !== undefined && covers(settled, xid) && covers(settled, live[0]?.xid ?? 0n);
      })
      .toBe(true);
  });

  it('is continued after a reconnect in the middle, without a lost or repeated event', async () => {
    const { database, large, other } = await createDatabase();
    let hasRoom = false;
    const { delivered, batches, arrival, read } = await startTestReader(database, { hasRoom: () => hasRoom });
    const written = await writeLarge(database, large);
    await read();
    const reconnect = async (): Promise<void> => {
      const connected = batches.at(-1)?.connection ?? 0;
      await database.pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'flagcast reader'`,
      );
      await expect.poll(() => batches.at(-1)?.connection ?? 0).toBeGreaterThan(connected);
    };
    await reconnect();
    await reconnect();
    hasRoom = true;
    await arrival(written.at(-1) ?? '');
    const { entityId } = await insertAudit(database.pool, other);
    await read();
    await arrival(entityId);
    expect(delivered()).toEqual([...written, entityId]);
  });

  it('is delivered once to clients that connect and disconnect meanwhile', async () => {
    const { database, large } = await createDatabase();
    const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
    const server = await startTestServer(database.url, {
      database: { pollIntervalMs: 20 },
      timeouts: { heartbeatIntervalMs: 10 },
    });
    onTestFinished(async () => await server.close());
    const stays = await V1Client.connect(server.wsUrl, { token });
    await stays.caughtUp(large);
    const leaves = await V1Client.connect(server.wsUrl, { token });
    let cursor = await leaves.caughtUp(large);
    const written = await writeLarge(database, large, pageRows + 400);
    await leaves.event(written[pageRows - 1] ?? '');
    leaves.socket.terminate();
    for (const message of leaves.messages) if ('cursor' in message) ({ cursor = cursor } = message);
    const returns = await V1Client.connect(server.wsUrl, { token });
    await returns.caughtUp(large, cursor);
    const { entityId } = await insertAudit(database.pool, large);
    for (const client of [stays, returns]) await client.event(entityId);
    expect(stays.events.map(({ entity_id: id }) => id)).toEqual([...written, entityId]);
    const all = new Map([...leaves.events, ...returns.events].map((event) => [event.id, event.entity_id]));
    expect([...all.values()].toSorted()).toEqual([...written, entityId].toSorted());
    const afterReturn = returns.events.map(({ id }) => id);
    expect(new Set(afterReturn).size).toBe(afterReturn.length);
    await stays.close();
    await returns.close();
  });
});

describe('a feature whose state has more than 64 KiB', () => {
  it('has an event without state, and the other events of the page have theirs', async () => {
    const { database, large: channel } = await createDatabase();
    const { pool } = database;
    await pool.query('ALTER TABLE features ALTER COLUMN description TYPE text');
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO features (id, project_id, key, name, kind, description) VALUES
         (gen_random_uuid(), $1, 'huge', 'Huge', 'simple', repeat('x', 70000)),
         (gen_random_uuid(), $1, 'small', 'Small', 'simple', 'x') RETURNING id`,
      [channel.projectId],
    );
    const [huge = '', small = ''] = rows.map(({ id }) => id);
    const { events, read } = await startTestReader(database);
    for (const featureId of [huge, small]) await insertAudit(pool, { ...channel, featureId });
    await read();
    expect(
      events.map(({ entityId, featureUnreadable, featureJson }) => [
        entityId,
        featureUnreadable,
        featureJson === undefined ? undefined : (JSON.parse(featureJson ?? 'null') as { key: string }).key,
      ]),
    ).toEqual([
      [huge, true, undefined],
      [small, false, 'small'],
    ]);
  });
});

it('G10: texts of a row are cut, so that a page of large ones fits into memory, and its channel gets the event', async () => {
  const { database } = await createDatabase();
  const { arrival } = await startTestReader(database, { pollIntervalMs: 20 });
  const project = 'p'.repeat(2_000);
  await database.pool.query(
    `SELECT flagcast.record_event('audit', repeat('r', 3000000), $1, '1', 'prod', 'flag', 'large', 'updated',
       actor => repeat('é', 3000000))`,
    [project],
  );
  expect(await arrival('large')).toMatchObject({
    ...{ projectId: project, rowId: 'r'.repeat(16_384), actor: 'é'.repeat(1_000) },
  });
});

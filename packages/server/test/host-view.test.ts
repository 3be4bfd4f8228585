import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FlagEvent } from '../src/events/event.js';
import type { FlagcastOptions } from '../src/flagcast-options.js';
import { install } from '../src/database/install.js';
import { Lifecycle } from '../src/lifecycle.js';
import { EventReader, type EventReaderOptions } from '../src/reader/reader.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { createTogglrHost, type TogglrHost } from './togglr-host.js';
import { V1Client } from './v1-client.js';
import { compare, watch } from './watched.js';
import { runWriters } from './writers.js';

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

describe("attached to a Togglr's database, with nothing installed in it", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await createTestCluster({ max_prepared_transactions: '50' });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  const accessTables = 'projects, environments, users, memberships, role_permissions, permissions';
  const eventTables = 'audit_log, pending_changes, pending_change_entities';
  const stateTables = 'features, feature_params, pending_changes';

  async function createHost(): Promise<TogglrHost> {
    const host = await createTogglrHost(cluster);
    cleanUps.push(async () => await host.drop());
    return host;
  }

  /** A role that may only read, and only these. */
  async function createReader(host: TogglrHost, tables: string): Promise<string> {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    const { pool } = host.database;
    await pool.query(
      `CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT SELECT ON ${accessTables}, ${tables} TO ${role}`,
    );
    cleanUps.push(async () => {
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    });
    return role;
  }

  async function serve(
    host: TogglrHost,
    role: string,
    options: Partial<FlagcastOptions> = {},
  ): Promise<TestServer> {
    const server = await startTestServer(host.urlOf(role), { pollIntervalMs: 100, ...options });
    cleanUps.push(async () => await server.close());
    return server;
  }

  async function rootOf(host: TogglrHost): Promise<string> {
    return (await createUser(host.database.pool, 'visitor', { superuser: true, ttlMs: 600_000 })).token;
  }

  it.each([
    { read: 'its own view', tables: 'v_realtime_events', guarantee: 'overlap', reason: 'no_transaction_ids' },
    { read: 'its tables', tables: eventTables, guarantee: 'exact', reason: 'tables' },
  ])(
    'reads $read: nothing is lost or comes twice, and everybody is told that the guarantee is $guarantee',
    async ({ tables, guarantee, reason }) => {
      const host = await createHost();
      const server = await serve(host, await createReader(host, tables));
      const clients = await watch(host.database, server);
      await runWriters({
        databaseUrl: host.urlOf(host.backend),
        channels: [...clients.keys()],
        writers: 8,
        minEvents: 500,
      });
      const result = await compare(host.database, clients);
      expect(result).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
      expect(result.committed).toBeGreaterThanOrEqual(500);

      const client = await V1Client.connect(server.wsUrl, { token: await rootOf(host) });
      const expected = {
        guarantee,
        guarantee_reason: reason,
        overlap_ms: guarantee === 'overlap' ? 60_000 : null,
      };
      expect(await client.control('hello')).toMatchObject({ ...expected, embedded_state: false });
      const mode = await fetch(`${server.httpUrl}/api/auth/mode`);
      expect(await mode.json()).toMatchObject(expected);
      await client.close();
    },
  );

  it('resumes and takes snapshots by time: nothing is missing between them, and nothing is repeated', async () => {
    const host = await createHost();
    const { pool } = host.database;
    const role = await createReader(host, `v_realtime_events, ${stateTables}`);
    const token = await rootOf(host);
    const { projectId, environments } = await seedProject(pool);
    const channel = { projectId, environmentId: environments.prod };
    await pool.query(
      `INSERT INTO features (project_id, key, name, kind) VALUES ($1, 'checkout', 'Checkout', 'simple')`,
      [projectId],
    );
    const before = await insertAudit(pool, channel);
    const [first, second] = [await serve(host, role), await serve(host, role)];

    const response = await fetch(
      `${first.httpUrl}/api/snapshot?${new URLSearchParams({ project_id: projectId, env: 'prod' }).toString()}`,
      { headers: { Authorization: `Bearer ${token}` } },
    );
    const snapshot = (await response.json()) as { cursor: string; features: { key: string }[] };
    expect(snapshot).toMatchObject({ embedded_state: true, features: [{ key: 'checkout' }] });
    const one = await insertAudit(pool, channel);
    const client = await V1Client.connect(first.wsUrl, { token });
    await client.caughtUp(channel, snapshot.cursor);
    await client.event(one.entityId);
    const two = await insertAudit(pool, channel);
    const { cursor } = await client.event(two.entityId);
    expect(cursor).toBeTypeOf('string');
    await client.close();

    const missed = [await insertAudit(pool, channel), await insertAudit(pool, channel)];
    // One has them in its memory; the other one was started after that cursor, and asks the database.
    const third = await serve(host, role);
    for (const server of [second, third]) {
      const returned = await V1Client.connect(server.wsUrl, { token });
      await returned.caughtUp(channel, cursor);
      const last = await insertAudit(pool, channel);
      await returned.event(last.entityId);
      const events = returned.messages.flatMap((message) => ('source' in message ? message.entity_id : []));
      expect(events.slice(0, 2)).toEqual(missed.map(({ entityId }) => entityId));
      expect(events).not.toContain(before.entityId);
      expect(events).not.toContain(one.entityId);
      expect(events).not.toContain(two.entityId);
      expect(new Set(events).size).toBe(events.length);
      missed.push(last);
      await returned.close();
      if (server === second) missed.pop();
    }
  });

  it('an event that was committed later than the overlap comes late, and a metric and the log tell of it', async () => {
    const host = await createHost();
    const role = await createReader(host, 'v_realtime_events');
    const server = await serve(host, role, { pollIntervalMs: 50, overlapMs: 1_000 });
    const clients = await watch(host.database, server);
    const [[channel, client] = []] = clients;
    if (channel === undefined || client === undefined) throw new Error('nobody watches');
    const late = nextEvent(server.flagcast.lifecycle, 'reader:late');
    const entityId = await withClient(host.urlOf(host.backend), async (writer) => {
      await writer.query('BEGIN');
      await writer.query('SELECT now()');
      // What is new moves the floor past the start of this transaction.
      await insertAudit(host.database.pool, channel);
      await writer.query('SELECT pg_sleep(1.5)');
      const newest = await insertAudit(host.database.pool, channel);
      await client.received((message) => message.entity_id === newest.entityId);
      await nextEvent(server.flagcast.lifecycle, 'reader:observed');
      await nextEvent(server.flagcast.lifecycle, 'reader:read');
      const row = await insertAudit(writer, channel);
      await writer.query('COMMIT');
      return row.entityId;
    });
    expect(await late).toMatchObject({ events: 1, overlapMs: 1_000 });
    await client.received((message) => message.entity_id === entityId);
    const metrics = await (await fetch(`${server.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/^flagcast_late_events_total 1$/m);
    expect(await compare(host.database, clients)).toMatchObject({ lost: 0, repeated: 0 });
  });

  it('a role that sees since when others are at work waits for them, however short the overlap is', async () => {
    const host = await createHost();
    const role = await createReader(host, 'v_realtime_events');
    await host.database.pool.query(`GRANT pg_read_all_stats TO ${role}`);
    const server = await serve(host, role, { pollIntervalMs: 50, overlapMs: 1_000 });
    let lateEvents = 0;
    server.flagcast.lifecycle.on('reader:late', ({ events }) => (lateEvents += events));
    const clients = await watch(host.database, server);
    const [[channel, client] = []] = clients;
    if (channel === undefined || client === undefined) throw new Error('nobody watches');
    await withClient(host.urlOf(host.backend), async (writer) => {
      await writer.query('BEGIN');
      await writer.query('SELECT now()');
      await insertAudit(host.database.pool, channel);
      await writer.query('SELECT pg_sleep(1.5)');
      const newest = await insertAudit(host.database.pool, channel);
      await client.received((message) => message.entity_id === newest.entityId);
      await insertAudit(writer, channel);
      await writer.query('COMMIT');
    });
    expect(await compare(host.database, clients)).toMatchObject({ lost: 0, repeated: 0 });
    expect(lateEvents).toBe(0);
  });

  it('is read by its own definition as soon as that is installed and the connection is made anew', async () => {
    const host = await createHost();
    const role = await createReader(host, eventTables);
    const server = await serve(host, role);
    const { pool } = host.database;
    const { projectId, environments } = await seedProject(pool);
    const channel = { projectId, environmentId: environments.prod };
    const client = await V1Client.connect(server.wsUrl, { token: await rootOf(host) });
    await client.caughtUp(channel);
    await withClient(host.database.url, async (admin) => await install(admin, { role }));
    const started = nextEvent(server.flagcast.lifecycle, 'reader:started');
    await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flagcast reader'
       AND datname = current_database()`,
    );
    expect(await started).toMatchObject({ guarantee: 'exact', reason: 'installed' });
    expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    await client.close();
  });
});

describe('a view of somebody else', () => {
  async function createDatabase(schema: string): Promise<TestDatabase> {
    const database = await createTestDatabase({ schema: 'none' });
    cleanUps.push(async () => await database.drop());
    await database.pool.query(schema);
    return database;
  }

  /** A reader that only reads when it is told to. */
  async function startReader(
    database: TestDatabase,
    options: Partial<EventReaderOptions> = {},
  ): Promise<{ delivered: FlagEvent[]; read: () => Promise<void>; reader: EventReader }> {
    const lifecycle = new Lifecycle();
    const delivered: FlagEvent[] = [];
    const reader = new EventReader({
      databaseUrl: database.url,
      view: 'events.feed',
      lifecycle,
      pollIntervalMs: 3_600_000,
      onBatch: ({ events }) => delivered.push(...events),
      ...options,
    });
    const started = nextEvent(lifecycle, 'reader:started');
    reader.start();
    cleanUps.push(async () => await reader.stop());
    await started;
    const read = async (): Promise<void> => {
      const done = nextEvent(lifecycle, 'reader:read');
      reader.wake();
      await done;
    };
    return { delivered, read, reader };
  }

  /** The specification's nine columns, with ids as text. */
  const table = `
    CREATE SCHEMA events;
    CREATE TABLE events.log (
      source text DEFAULT 'audit', event_id text, project_id text DEFAULT 'shop', environment_id text DEFAULT 'eu-prod',
      environment_key text DEFAULT 'prod', entity text DEFAULT 'feature', entity_id text DEFAULT 'checkout',
      action text DEFAULT 'updated', created_at timestamptz DEFAULT now()
    );`;

  it('may name many events alike: each that differs in anything is delivered, once', async () => {
    const database = await createDatabase(`${table} CREATE VIEW events.feed AS SELECT * FROM events.log`);
    const { delivered, read } = await startReader(database);
    await database.pool.query(`
      INSERT INTO events.log (event_id, entity, entity_id, environment_id, project_id, action, source) VALUES
        ('r1', 'feature', 'checkout', 'eu-prod', 'shop', 'updated', 'audit'),
        ('r1', 'feature', 'search', 'eu-prod', 'shop', 'updated', 'audit'),
        ('r1', 'rule', 'checkout', 'eu-prod', 'shop', 'updated', 'audit'),
        ('r1', 'feature', 'checkout', 'us-prod', 'shop', 'updated', 'audit'),
        ('r1', 'feature', 'checkout', 'eu-prod', 'blog', 'updated', 'audit'),
        ('r1', 'feature', 'checkout', 'eu-prod', 'shop', 'created', 'audit'),
        ('r1', 'feature', 'checkout', 'eu-prod', 'shop', 'updated', 'pending')`);
    await read();
    await read();
    expect(delivered).toHaveLength(7);
    expect(delivered[0]).toMatchObject({ projectId: 'shop', environmentId: 'eu-prod', actor: null });
    expect(new Set(delivered.map(({ mark }) => mark)).size).toBe(7);
  });

  it('may put unrelated writes into one row whose time moves: it is delivered each time', async () => {
    const database = await createDatabase(`${table}
      CREATE VIEW events.feed AS
      SELECT source, event_id, project_id, environment_id, environment_key, entity, entity_id, max(action) AS action,
        max(created_at) AS created_at
      FROM events.log GROUP BY 1, 2, 3, 4, 5, 6, 7`);
    const { delivered, read } = await startReader(database);
    const unset = '00000000-0000-0000-0000-000000000000';
    for (let writes = 1; writes <= 3; writes += 1) {
      await database.pool.query('INSERT INTO events.log (event_id) VALUES ($1)', [unset]);
      await read();
      await read();
      expect(delivered).toHaveLength(writes);
    }
    expect(new Set(delivered.map(({ createdAt }) => createdAt)).size).toBe(3);
  });

  it('that tells xid is read exactly: also what was committed long after its created_at', async () => {
    const database = await createDatabase(`${table}
      CREATE VIEW events.feed AS SELECT *, xmin::text::bigint AS xid, 'ada' AS actor FROM events.log`);
    const { delivered, read, reader } = await startReader(database);
    expect(reader.view).toMatchObject({ guarantee: 'exact', reason: 'transaction_ids', hasState: false });
    const late = await database.pool.connect();
    await late.query('BEGIN');
    await late.query(
      `INSERT INTO events.log (event_id, created_at) VALUES ('late', now() - interval '50 seconds')`,
    );
    await database.pool.query(`INSERT INTO events.log (event_id) VALUES ('early')`);
    await read();
    expect(delivered.map(({ eventId }) => eventId)).toEqual(['early']);
    await late.query('COMMIT');
    late.release();
    await read();
    await read();
    expect(delivered.map(({ eventId }) => eventId)).toEqual(['early', 'late']);
    expect(delivered[1]).toMatchObject({ actor: 'ada', featureId: 'checkout' });
  });
});

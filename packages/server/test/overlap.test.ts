import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { install } from '../src/install/install.js';
import { Lifecycle } from '../src/lifecycle.js';
import type { OpenSession } from '../src/postgres/session.js';
import {
  createTestCluster,
  createTestDatabase,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { sessionOpener, startTestReader } from './reader.js';
import { createUser, nextEvent, startTestServer, type TestServer, type TestServerOptions } from './server.js';
import { createTogglrHost, type TogglrHost } from './togglr-host.js';
import { V1Client } from './v1-client.js';
import { compare, watch } from './watched.js';
import { runWriters } from './writers.js';

describe("a server on a Togglr's database without an installation", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await createTestCluster({ max_prepared_transactions: '50' });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  const accessTables = 'projects, environments, users, memberships, role_permissions, permissions';
  const eventTables = 'audit_log, pending_changes, pending_change_entities';
  const stateTables = 'features, feature_params';

  async function createHost(): Promise<TogglrHost> {
    const host = await createTogglrHost(cluster);
    onTestFinished(async () => await host.drop());
    return host;
  }

  /** A role that may only read, and only these. */
  async function createReader(host: TogglrHost, tables: string): Promise<string> {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    const { pool } = host.database;
    await pool.query(
      `CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT SELECT ON ${accessTables}, ${tables} TO ${role}`,
    );
    onTestFinished(async () => {
      await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    });
    return role;
  }

  async function serve(host: TogglrHost, role: string, options: TestServerOptions = {}): Promise<TestServer> {
    const server = await startTestServer(host.urlOf(role), {
      ...options,
      database: { pollIntervalMs: 100, ...options.database },
    });
    onTestFinished(async () => await server.close());
    return server;
  }

  async function rootOf(host: TogglrHost): Promise<string> {
    return (await createUser(host.database.pool, 'visitor', { superuser: true, ttlMs: 600_000 })).token;
  }

  it.each([
    { read: 'a view of the host', tables: 'v_realtime_events', reason: 'view' },
    { read: 'the tables of the host', tables: eventTables, reason: 'tables' },
  ])(
    'reads $read with the guarantee overlap of hello, and loses and repeats no event that is committed within it',
    async ({ tables, reason }) => {
      const host = await createHost();
      const server = await serve(host, await createReader(host, tables));
      const clients = await watch(host.database, server);
      await runWriters({
        databaseUrl: host.urlOf(host.backend),
        channels: [...clients.keys()],
        writers: 8,
        minEvents: 500,
        createdAt: 'now',
      });
      const result = await compare(host.database, clients);
      expect(result).toMatchObject({ lost: 0, repeated: 0, foreign: 0 });
      expect(result.committed).toBeGreaterThanOrEqual(500);

      const client = await V1Client.connect(server.wsUrl, { token: await rootOf(host) });
      const expected = { guarantee: 'overlap', guarantee_reason: reason, overlap_ms: 60_000 };
      expect(await client.control('hello')).toMatchObject({ ...expected, embedded_state: false });
      const mode = await fetch(`${server.httpUrl}/api/auth/mode`);
      expect(await mode.json()).toMatchObject(expected);
      await client.close();
    },
  );

  it('continues cursors of this server only, and continues a snapshot without a gap', async () => {
    const host = await createHost();
    const { pool } = host.database;
    const role = await createReader(host, `${eventTables}, ${stateTables}`);
    const token = await rootOf(host);
    const { projectId, environments } = await seedProject(pool);
    const channel = { projectId, environmentId: environments.prod };
    await pool.query(
      `INSERT INTO features (project_id, key, name, kind) VALUES ($1, 'checkout', 'Checkout', 'simple')`,
      [projectId],
    );
    const before = await insertAudit(pool, channel);
    const [server, other] = [await serve(host, role), await serve(host, role)];
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);
    // It remembers events from its first batch on.
    await client.event((await insertAudit(pool, channel)).entityId);

    const response = await fetch(
      `${server.httpUrl}/api/snapshot?${new URLSearchParams({ project_id: projectId, env: 'prod' }).toString()}`,
      { headers: { Authorization: `Bearer ${token}` } },
    );
    const snapshot = (await response.json()) as { cursor: string; features: { key: string }[] };
    expect(snapshot).toMatchObject({ embedded_state: true, features: [{ key: 'checkout' }] });
    const missed = [await insertAudit(pool, channel), await insertAudit(pool, channel)];
    await client.event(missed[1]?.entityId ?? '');

    const returned = await V1Client.connect(server.wsUrl, { token });
    await returned.caughtUp(channel, snapshot.cursor);
    const last = await insertAudit(pool, channel);
    await returned.event(last.entityId);
    const received = returned.events.map(({ entity_id: id }) => id);
    expect(received).toEqual([...missed, last].map(({ entityId }) => entityId));
    expect(received).not.toContain(before.entityId);

    const elsewhere = await V1Client.connect(other.wsUrl, { token });
    expect(await elsewhere.subscribe(channel, snapshot.cursor)).toMatchObject({
      type: 'resync',
      reason: 'history_changed',
    });
    for (const each of [client, returned, elsewhere]) await each.close();
  });

  it('misses an event that is committed later than the overlap after its created_at', async () => {
    const host = await createHost();
    const role = await createReader(host, 'v_realtime_events');
    const { delivered, arrival, read } = await startTestReader(
      { url: host.urlOf(role) },
      { overlapMs: 1_000 },
    );
    const { projectId, environments } = await seedProject(host.database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const old = await insertAudit(host.database.pool, {
      ...channel,
      createdAt: new Date(Date.now() - 3_600_000),
    });
    const within = await insertAudit(host.database.pool, channel);
    await read();
    await arrival(within.entityId);
    expect(delivered()).not.toContain(old.entityId);
  });

  it('looks back to the start of the oldest transaction that its role can see', async () => {
    const host = await createHost();
    const role = await createReader(host, 'v_realtime_events');
    await host.database.pool.query(`GRANT pg_read_all_stats TO ${role}`);
    const { projectId, environments } = await seedProject(host.database.pool);
    const channel = { projectId, environmentId: environments.prod };
    const { delivered, read } = await startTestReader({ url: host.urlOf(role) }, { overlapMs: 1 });
    const written: string[] = [];
    await withClient(host.urlOf(host.backend), async (writer) => {
      await writer.query('BEGIN');
      // created_at will be this time.
      await writer.query('SELECT now()');
      for (let reads = 0; reads < 3; reads += 1) {
        written.push((await insertAudit(host.database.pool, channel)).entityId);
        await read();
      }
      written.push((await insertAudit(writer, channel)).entityId);
      await writer.query('COMMIT');
    });
    await read();
    expect(delivered()).toEqual(written);
  });

  it('reads the event log once it is installed and the reader has connected again, and clients get a resync', async () => {
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
    expect(await started).toMatchObject({ guarantee: 'exact', reason: 'event_log' });
    expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    await client.close();
  });
});

describe('a view of another schema', () => {
  async function createDatabase(schema: string): Promise<TestDatabase> {
    const database = await createTestDatabase({ schema: 'none' });
    onTestFinished(async () => await database.drop());
    await database.pool.query(schema);
    return database;
  }

  /** The specification's nine columns, with ids as text. */
  const table = `
    CREATE SCHEMA events;
    CREATE TABLE events.log (
      source text DEFAULT 'audit', event_id text, project_id text DEFAULT 'shop', environment_id text DEFAULT 'eu-prod',
      environment_key text DEFAULT 'prod', entity text DEFAULT 'feature', entity_id text DEFAULT 'checkout',
      action text DEFAULT 'updated', created_at timestamptz DEFAULT now()
    );`;

  it('may use an event_id for many events: each that differs in another column is delivered once', async () => {
    const database = await createDatabase(`${table} CREATE VIEW events.feed AS SELECT * FROM events.log`);
    const { events: delivered, read } = await startTestReader(database, { view: 'events.feed' });
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
    expect(new Set(delivered.map(({ id }) => id)).size).toBe(7);
  });

  it('may have one row for many writes: the row is delivered each time its created_at has changed', async () => {
    const database = await createDatabase(`${table}
      CREATE VIEW events.feed AS
      SELECT source, event_id, project_id, environment_id, environment_key, entity, entity_id, max(action) AS action,
        max(created_at) AS created_at
      FROM events.log GROUP BY 1, 2, 3, 4, 5, 6, 7`);
    const { events: delivered, read } = await startTestReader(database, { view: 'events.feed' });
    const unset = '00000000-0000-0000-0000-000000000000';
    for (let writes = 1; writes <= 3; writes += 1) {
      await database.pool.query('INSERT INTO events.log (event_id) VALUES ($1)', [unset]);
      await read();
      await read();
      expect(delivered).toHaveLength(writes);
    }
    expect(new Set(delivered.map(({ createdAt }) => createdAt)).size).toBe(3);
  });

  it('is read with the guarantee overlap, also with a column xid, and may name the actor', async () => {
    const database = await createDatabase(`${table}
      CREATE VIEW events.feed AS SELECT *, xmin::text::bigint AS xid, 'ada' AS actor FROM events.log`);
    const { events, reader, read } = await startTestReader(database, { view: 'events.feed' });
    expect(reader.source).toMatchObject({ guarantee: 'overlap', reason: 'view', hasState: false });
    await database.pool.query(`INSERT INTO events.log (event_id) VALUES ('one')`);
    await read();
    expect(events).toMatchObject([{ rowId: 'one', actor: 'ada', featureId: 'checkout' }]);
  });

  it('may have rows with any future time: each is delivered once, with its time', async () => {
    const database = await createDatabase(`${table} CREATE VIEW events.feed AS SELECT * FROM events.log`);
    const { events, read } = await startTestReader(database, { view: 'events.feed' });
    await database.pool.query(
      `INSERT INTO events.log (event_id, created_at) VALUES ('far', '12026-01-02 03:04:05+00'), ('never', 'infinity')`,
    );
    for (let reads = 0; reads < 3; reads += 1) await read();
    expect(events).toMatchObject([
      { rowId: 'far', createdAt: '12026-01-02T03:04:05.000000Z' },
      { rowId: 'never', createdAt: 'infinity' },
    ]);
  });

  it('is read from the present again when the clock of the database was set back, with a resync for clients', async () => {
    const database = await createDatabase(
      `${table} CREATE VIEW events.feed AS SELECT * FROM events.log;
       CREATE SCHEMA host; CREATE TABLE host.clock (back interval); INSERT INTO host.clock VALUES ('0');
       CREATE FUNCTION host.clock_timestamp() RETURNS timestamptz LANGUAGE sql
         AS 'SELECT pg_catalog.clock_timestamp() - back FROM host.clock'`,
    );
    const openSession: OpenSession = async (options) => {
      const session = await sessionOpener(database)(options);
      // Its reads use this clock.
      await session.query('SET search_path = host, pg_catalog, public');
      return session;
    };
    const losses: string[] = [];
    const lifecycle = new Lifecycle();
    lifecycle.on('reader:history-lost', ({ reason }) => losses.push(reason));
    const { events, read } = await startTestReader(database, { openSession, view: 'events.feed', lifecycle });
    await read();
    await database.pool.query("UPDATE host.clock SET back = '2 hours'");
    const begun = nextEvent(lifecycle, 'reader:started');
    const lost = nextEvent(lifecycle, 'reader:history-lost');
    await Promise.race([lost, read()]);
    expect(losses).toEqual([
      'the clock of the database was set back, so the times of events do not show what is new',
    ]);
    await begun;
    await database.pool.query(
      `INSERT INTO events.log (event_id, created_at) VALUES ('after', now() - interval '2 hours')`,
    );
    await read();
    expect(events).toMatchObject([{ rowId: 'after' }]);
    expect(losses).toHaveLength(1);
  });

  it('is read by a server that forgets delivered events when no read can return them again', async () => {
    const database = await createDatabase(`${table} CREATE VIEW events.feed AS SELECT * FROM events.log`);
    const { events, reader, read } = await startTestReader(database, {
      view: 'events.feed',
      overlapMs: 3_000,
    });
    await database.pool.query(`INSERT INTO events.log (event_id) VALUES ('one')`);
    await expect
      .poll(async () => {
        await read();
        return events.length === 1 && reader.rememberedEvents === 0;
      })
      .toBe(true);
  });
});

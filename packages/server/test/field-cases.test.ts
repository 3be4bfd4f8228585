import { randomUUID } from 'node:crypto';
import type { EventMessage, Snapshot } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { install } from '../src/install/install.js';
import { databaseUrl } from './cluster-template.js';
import { runHere } from './command.js';
import {
  createTestCluster,
  createTestDatabase,
  createTestPool,
  decideRequest,
  insertAudit,
  insertRequest,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
  installRole,
} from './database.js';
import { createHostTables, makeChannel, makeHostTables } from './host-tables.js';
import { approvalsSnapshot, createUser, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

/** Reported by users of systems like this one. Cases 4 to 6 are in channel-changes and install tests, 7 and 16 in field-cases-size. */

const undo: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function createDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase({ schema: 'tables' });
  undo.push(async () => await database.drop());
  return database;
}

async function startServer(
  url: string,
  options: Parameters<typeof startTestServer>[1] = {},
): Promise<TestServer> {
  const server = await startTestServer(url, options);
  undo.push(async () => await server.close());
  return server;
}

async function createToken(database: Pick<TestDatabase, 'pool'>): Promise<string> {
  const { token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  return token;
}

async function createChannel(database: Pick<TestDatabase, 'pool'>): Promise<TestChannel> {
  const { projectId, environments } = await seedProject(database.pool);
  return { projectId, environmentId: environments.prod };
}

/** A feature whose state the tables' trigger makes. */
async function createFeature(database: Pick<TestDatabase, 'pool'>, projectId: string): Promise<string> {
  const id = randomUUID();
  await database.pool.query(
    `INSERT INTO features (id, project_id, key, name, kind) VALUES ($1, $2, $3, 'a flag', 'simple')`,
    [id, projectId, id],
  );
  return id;
}

/** Switches the feature and writes the audit row, in one transaction. */
async function toggle(
  database: Pick<TestDatabase, 'pool'>,
  channel: TestChannel,
  featureId: string,
  enabled: boolean,
): Promise<void> {
  const client = await database.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(
      'UPDATE feature_params SET enabled = $3 WHERE feature_id = $1 AND environment_id = $2',
      [featureId, channel.environmentId, enabled],
    );
    await insertAudit(client, { ...channel, featureId });
    await client.query('COMMIT');
  } finally {
    client.release();
  }
}

/** The nth event about the entity, counted from 1. */
async function nthEvent(client: V1Client, entityId: string, n: number): Promise<EventMessage> {
  let seen = 0;
  return (await client.message((message) => {
    if (!('source' in message) || message.entity_id !== entityId) return false;
    seen += 1;
    return seen === n;
  })) as EventMessage;
}

describe('case 1: a toggle after TRUNCATE audit_log RESTART IDENTITY', () => {
  it('is an event with another id, although the host reuses the id of its row', async () => {
    const database = await createDatabase();
    const token = await createToken(database);
    const channel = await createChannel(database);
    const featureId = await createFeature(database, channel.projectId);
    const server = await startServer(database.url);
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);

    // The table is empty, so its next id is 1.
    await database.pool.query('TRUNCATE audit_log RESTART IDENTITY');
    await toggle(database, channel, featureId, true);
    const first = await client.event(featureId);
    await database.pool.query('TRUNCATE audit_log RESTART IDENTITY');
    await toggle(database, channel, featureId, false);
    const second = await nthEvent(client, featureId, 2);

    expect(second.id).not.toBe(first.id);
    expect(first).toMatchObject({ row_id: '1', feature: { enabled: true } });
    expect(second).toMatchObject({ row_id: '1', feature: { enabled: false } });
    await client.close();
  });
});

describe('case 2: a host that replaces audit_log by a new table', () => {
  it('makes the server stale with the reason, doctor fails and names the fix, and install repairs it', async () => {
    const database = await createHostTables();
    undo.push(async () => await database.drop());
    await withClient(database.url, async (client) => await install(client));
    const token = await createToken(database);
    const channel = await makeChannel(database.pool);
    const server = await startServer(database.url, { database: { pollIntervalMs: 200 } });
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);

    await database.pool.query(
      `BEGIN; ALTER TABLE audit_log RENAME TO audit_log_old;
       CREATE TABLE audit_log (LIKE audit_log_old INCLUDING ALL); COMMIT`,
    );
    expect(await client.control('freshness')).toMatchObject({ state: 'stale', reason: 'triggers_missing' });
    expect(await client.control('resync')).toMatchObject({ reason: 'history_changed' });
    await client.caughtUp(channel);
    const readiness = await fetch(`${server.httpUrl}/readyz`);
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toContain('audit_log');
    const doctor = await runHere(['doctor'], { DATABASE_URL: database.url });
    expect(doctor.code).toBe(1);
    expect(doctor.stdout).toMatch(/audit_log[^]*flagcast install/);
    const { entityId: unlogged } = await insertAudit(database.pool, channel);

    const from = client.messages.length;
    const repair = await runHere(['install', '--yes'], { DATABASE_URL: database.url });
    expect(repair, `${repair.stdout}\n${repair.stderr}`).toMatchObject({ code: 0 });
    // Events were not logged meanwhile, so the client has to take a new snapshot.
    expect(await client.control('resync', from)).toMatchObject({ reason: 'history_changed' });
    await client.message(
      (message) => !('source' in message) && message.type === 'freshness' && message.state === 'fresh',
      from,
    );
    await client.caughtUp(channel);
    const { entityId } = await insertAudit(database.pool, channel);
    await client.event(entityId);
    expect(client.events.map((event) => event.entity_id)).not.toContain(unlogged);
    await client.close();
  });
});

describe('case 3: an audit row whose created_at is not the time of its transaction', () => {
  const ages = ['30 seconds', '2 hours', '10 days', '-1 hour'];
  let database: TestDatabase;
  let server: TestServer;
  let token: string;

  beforeAll(async () => {
    database = await createTestDatabase({ schema: 'tables' });
    // The cluster of the tests allows prepared transactions, where the triggers do not notify by default.
    await withClient(database.url, async (client) => {
      await client.query(`ALTER DATABASE ${database.name} SET flagcast.notify = 'on'`);
    });
    token = await createToken(database);
    // The server reads only after a notification.
    server = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
  });

  afterAll(async () => {
    await server.close();
    await database.drop();
  });

  async function insertAged(channel: TestChannel, age: string): Promise<string> {
    const { rows } = await database.pool.query<{ at: string }>('SELECT (now() - $1::interval)::text AS at', [
      age,
    ]);
    const { entityId } = await insertAudit(database.pool, { ...channel, createdAt: rows[0]?.at ?? '' });
    return entityId;
  }

  it.each(ages)('%s old is delivered immediately, with the time that the host wrote', async (age) => {
    const channel = await createChannel(database);
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);
    const entityId = await insertAged(channel, age);
    const { timestamp } = await client.event(entityId);
    const { rows } = await database.pool.query<{ same: boolean }>(
      'SELECT created_at = $2::timestamptz AS same FROM audit_log WHERE entity_id = $1',
      [entityId, timestamp],
    );
    expect(rows).toStrictEqual([{ same: true }]);
    await client.close();
  });

  it.each(ages)('%s old is delivered once to a client that resumes', async (age) => {
    const channel = await createChannel(database);
    const before = await V1Client.connect(server.wsUrl, { token });
    const cursor = await before.caughtUp(channel);
    await before.close();
    const entityId = await insertAged(channel, age);

    // The second server has not read the event, so it takes it from the log.
    for (const { wsUrl } of [server, await startServer(database.url)]) {
      const client = await V1Client.connect(wsUrl, { token });
      await client.caughtUp(channel, cursor);
      await client.event(entityId);
      expect(client.events.map((event) => event.entity_id)).toStrictEqual([entityId]);
      await client.close();
    }
  });
});

describe('case 3: audit_log filled by logical replication', () => {
  let cluster: TestCluster;

  beforeAll(async () => {
    cluster = await createTestCluster({ wal_level: 'logical' });
  });

  afterAll(async () => {
    await cluster.remove();
  });

  it('delivers the rows when the subscription applies them, 20 s after their created_at', async () => {
    const publisher = await cluster.createDatabase({ schema: 'none' });
    await makeHostTables(publisher.pool);
    await publisher.pool.query('CREATE PUBLICATION audit FOR TABLE audit_log');
    await publisher.pool.query(`SELECT pg_create_logical_replication_slot('audit', 'pgoutput')`);
    const database = await cluster.createDatabase({ schema: 'tables' });
    const token = await createToken(database);
    const channel = await createChannel(database);
    // A slot on the same cluster has to be made before the subscription.
    await database.pool.query(`CREATE SUBSCRIPTION audit CONNECTION '${publisher.url}' PUBLICATION audit
      WITH (create_slot = false, slot_name = 'audit', copy_data = false, enabled = false)`);
    const server = await startTestServer(database.url, { database: { pollIntervalMs: 3_600_000 } });
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);

    const { rows } = await publisher.pool.query<{ at: string }>(
      `SELECT (now() - interval '20 seconds')::text AS at`,
    );
    const entityIds = await withClient(publisher.url, async (writer) => {
      // The publisher has no such project.
      await writer.query('SET session_replication_role = replica');
      const made = [];
      for (let row = 0; row < 3; row += 1) {
        made.push((await insertAudit(writer, { ...channel, createdAt: rows[0]?.at ?? '' })).entityId);
      }
      return made;
    });
    await database.pool.query('ALTER SUBSCRIPTION audit ENABLE');
    for (const entityId of entityIds) await client.event(entityId);
    expect(client.events.map((event) => event.entity_id)).toStrictEqual(entityIds);

    await client.close();
    await server.close();
    await database.pool.query('ALTER SUBSCRIPTION audit DISABLE');
    await database.pool.query('ALTER SUBSCRIPTION audit SET (slot_name = NONE)');
    await database.pool.query('DROP SUBSCRIPTION audit');
    await vi.waitFor(
      async () => await publisher.pool.query(`SELECT pg_drop_replication_slot('audit')`),
      60_000,
    );
    await database.drop();
    await publisher.drop();
  });
});

describe('case 9: a role that lost the right to read features of the host', () => {
  it('makes the server stale with the reason until the right is granted again, then events have the state of features', async () => {
    const cluster = await createTestCluster();
    undo.push(async () => await cluster.remove());
    const database = await cluster.createDatabase({ schema: 'tables' });
    const token = await createToken(database);
    const channel = await createChannel(database);
    const featureId = await createFeature(database, channel.projectId);
    const role = 'reader';
    const url = await installRole(database, role, { tables: true });
    const server = await startTestServer(url, { database: { pollIntervalMs: 100 } });
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(channel);

    await database.pool.query(`REVOKE SELECT ON features FROM ${role}`);
    const stale = await client.control('freshness');
    expect(stale).toMatchObject({ state: 'stale', reason: 'read_failed' });
    await toggle(database, channel, featureId, true);
    const from = client.messages.length;
    await database.pool.query(`GRANT SELECT ON features TO ${role}`);
    await client.message(
      (message) => !('source' in message) && message.type === 'freshness' && message.state === 'fresh',
      from,
    );
    expect(await client.event(featureId)).toMatchObject({ feature: { id: featureId, enabled: true } });
    await client.close();
    await server.close();
    await database.drop();
  });
});

describe('case 12: a feature name that cannot be decoded, in a SQL_ASCII database', () => {
  it('is missing from the events of that feature only, whose state is null', async () => {
    const admin = inject('clusterUrl');
    const name = `test_ascii_${randomUUID().slice(0, 8)}`;
    await withClient(admin, async (client) => {
      await client.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`);
    });
    const url = databaseUrl(admin, name);
    const pool = createTestPool(url);
    undo.push(async () => {
      await pool.end();
      await withClient(admin, async (client) => await client.query(`DROP DATABASE ${name} WITH (FORCE)`));
    });
    await withClient(url, async (client) => await install(client, { tables: true }));
    const database = { pool };
    const token = await createToken(database);
    const bad = await createChannel(database);
    const good = await createChannel(database);
    const badFeature = await createFeature(database, bad.projectId);
    const goodFeature = await createFeature(database, good.projectId);
    await pool.query(String.raw`UPDATE features SET name = E'caf\xe9\xe8' WHERE id = '${badFeature}'`);
    const server = await startServer(url);
    const client = await V1Client.connect(server.wsUrl, { token });
    await client.caughtUp(bad);
    await client.caughtUp(good);

    await toggle(database, bad, badFeature, true);
    await toggle(database, good, goodFeature, true);
    const unreadable = await client.event(badFeature);
    expect(unreadable).toMatchObject({ feature_unreadable: true });
    expect(unreadable).not.toHaveProperty('feature');
    expect(await client.event(goodFeature)).toMatchObject({ feature: { id: goodFeature, enabled: true } });
    // A text is cut between two characters, which have several bytes.
    await pool.query(
      `INSERT INTO feature_schedules (project_id, feature_id, environment_id, action, cron_expr) VALUES ($1, $2, $3, 'enable', $4)`,
      [good.projectId, goodFeature, good.environmentId, 'ж'.repeat(60)],
    );
    await toggle(database, good, goodFeature, false);
    expect(await nthEvent(client, goodFeature, 2)).toMatchObject({
      feature: { enabled: false, schedules: [{ cron_expr: `${'ж'.repeat(48)}...` }] },
    });
    await pool.query('DELETE FROM feature_schedules');

    // A part that cannot be decoded costs its feature the state of events; the snapshot has the text escaped.
    const parts = 'project_id, feature_id, environment_id, action';
    const values = `'${good.projectId}', '${goodFeature}', ${good.environmentId}`;
    await pool.query(String.raw`
      INSERT INTO rules (${parts}, conditions) VALUES (${values}, 'include', E'{"a":"caf\xe9"}');
      INSERT INTO feature_schedules (${parts}, cron_expr, timezone) VALUES (${values}, 'enable', '0 9 * * *', E'Z\xfcrich')`);
    await toggle(database, good, goodFeature, true);
    expect(await nthEvent(client, goodFeature, 3)).toMatchObject({ feature_unreadable: true });
    const address = `project_id=${good.projectId}&env_id=${good.environmentId}`;
    const response = await fetch(`${server.httpUrl}/api/snapshot?${address}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    const { features } = (await response.json()) as Snapshot;
    expect(features).toMatchObject([
      {
        ...{
          rules: [{ action: 'include', condition: null }],
          schedules: [{ timezone: String.raw`Z\374rich` }],
        },
        schedule_state: { enabled: false, invalid_schedule_ids: [expect.any(String)] },
      },
    ]);
    await pool.query('DELETE FROM rules; DELETE FROM feature_schedules');

    // A request of such a feature is in the snapshot of the approvals feed, and the steps of others are whole.
    const broken = await insertRequest(pool, bad);
    await pool.query(String.raw`UPDATE features SET name = E'caf\xe9' WHERE id = '${broken.featureId}'`);
    const taken = await approvalsSnapshot(server, { token });
    expect(taken.pending_changes).toMatchObject([{ id: broken.id, status: 'pending' }]);
    await client.caughtUpFeed(taken);
    const whole = await insertRequest(pool, good);
    await decideRequest(pool, broken.id, 'rejected');
    await decideRequest(pool, whole.id, 'rejected');
    const rejected = async (id: string) =>
      await client.message(
        (message) => 'source' in message && message.pending_change_id === id && message.action === 'rejected',
      );
    expect(await rejected(broken.id)).toMatchObject({ pending_change_unreadable: true });
    expect(await rejected(whole.id)).toMatchObject({ pending_change: { status: 'rejected' } });
    await client.close();
  });
});

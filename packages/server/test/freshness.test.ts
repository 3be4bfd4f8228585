import { randomBytes } from 'node:crypto';
import type { FreshnessMessage } from '@flagcast/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { install } from '../src/install/install.js';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type TestCluster,
  type TestDatabase,
  withClient,
  insertAudits,
  installRole,
} from './database.js';
import { EventStreamClient } from '../../../testing/testkit/clients/event-stream-client.ts';
import { PlainClient } from './plain-client.js';
import { scrape } from './scrape.js';
import { createUser, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

let cluster: TestCluster;
let database: TestDatabase;
let server: TestServer;
let token: string;
let prod: TestChannel;
/** Names the channel `prod` in an address. */
let query: Record<string, string>;

beforeAll(async () => {
  cluster = await createTestCluster();
});

afterAll(async () => {
  await cluster.remove();
});

beforeEach(async () => {
  database = await cluster.createDatabase({ schema: 'tables' });
  ({ token } = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 }));
  const { projectId, environments } = await seedProject(database.pool);
  prod = { projectId, environmentId: environments.prod };
  query = { project_id: projectId, env: 'prod' };
});

afterEach(async () => {
  await server.close();
  await database.drop();
});

async function startServer(databaseUrl = database.url, staleTimeoutMs = 60_000): Promise<void> {
  server = await startTestServer(databaseUrl, {
    database: { pollIntervalMs: 50 },
    timeouts: { readinessGraceMs: 1_000, heartbeatIntervalMs: 250, checkIntervalMs: 50, staleTimeoutMs },
  });
}

async function connect(): Promise<V1Client> {
  return await V1Client.connect(server.wsUrl, { token });
}

async function openStream(): Promise<EventStreamClient> {
  return await EventStreamClient.open(server.httpUrl, query, { Authorization: `Bearer ${token}` });
}

interface Readiness {
  readonly status: number;
  readonly body: { readonly status: string; readonly reason?: string };
}

async function askReadiness(): Promise<Readiness> {
  const response = await fetch(`${server.httpUrl}/readyz`);
  return { status: response.status, body: (await response.json()) as Readiness['body'] };
}

/** The next `freshness` message of that state, from message number `from` on. */
async function freshness<State extends FreshnessMessage['state']>(
  client: V1Client | EventStreamClient,
  state: State,
  from = 0,
): Promise<Extract<FreshnessMessage, { state: State }>> {
  return (await client.message(
    (message) =>
      client.messages.indexOf(message) >= from &&
      !('source' in message) &&
      message.type === 'freshness' &&
      message.state === state,
  )) as Extract<FreshnessMessage, { state: State }>;
}

function staleReason(since: string, problem: string): Readiness {
  return { status: 503, body: { status: 'not ready', reason: `stale since ${since}: ${problem}` } };
}

describe('a server whose role lost the right to read the event log', () => {
  let role: string;

  beforeEach(async () => {
    role = `reader_${randomBytes(4).toString('hex')}`;
    await startServer(await installRole(database, role), 200);
  });

  afterEach(async () => {
    await server.close();
    await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  const revoke = async (): Promise<void> => {
    await database.pool.query(`REVOKE SELECT ON flagcast.event_log FROM ${role}`);
  };

  const grant = async (): Promise<void> => {
    await database.pool.query(`GRANT SELECT ON flagcast.event_log TO ${role}`);
  };

  it('G12: sends its clients a stale message with the reason, then a fresh message, and misses no event', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const stream = await openStream();
    await stream.control('caught_up');
    const { as_of: before } = await client.control('heartbeat');
    await revoke();
    const stale = await freshness(client, 'stale');
    expect(stale).toStrictEqual({
      type: 'freshness',
      state: 'stale',
      since: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
      reason: 'read_failed',
    });
    expect(stale.since >= (before ?? '')).toBe(true);
    expect(await freshness(stream, 'stale')).toStrictEqual(stale);
    expect(await askReadiness()).toStrictEqual(staleReason(stale.since, 'the database refuses the read'));
    const missed = await insertAudit(database.pool, prod);
    const from = client.messages.length;
    const streamFrom = stream.messages.length;
    await grant();
    expect(await freshness(client, 'fresh', from)).toStrictEqual({ type: 'freshness', state: 'fresh' });
    await freshness(stream, 'fresh', streamFrom);
    await client.event(missed.entityId);
    await stream.event(missed.entityId);
    expect(await askReadiness()).toStrictEqual({ status: 200, body: { status: 'ready' } });
    for (const each of [client, stream]) {
      expect(each.messages.filter(({ type }) => type === 'resync')).toStrictEqual([]);
      expect(each.events).toHaveLength(1);
    }
    await client.close();
    stream.response.destroy();
  });

  it('is fresh after it has read everything that was committed meanwhile', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    await revoke();
    await freshness(client, 'stale');
    // More than two pages.
    for (let transaction = 0; transaction < 12; transaction += 1) {
      await insertAudits(database.pool, prod, 100);
    }
    await grant();
    const fresh = await freshness(client, 'fresh');
    const before = client.messages.slice(0, client.messages.indexOf(fresh));
    expect(before.filter((message) => 'source' in message).length).toBeGreaterThanOrEqual(1_000);
    await client.close();
  });

  it('sends the stale message to a new connection after hello', async () => {
    const early = await connect();
    await revoke();
    const stale = await freshness(early, 'stale');
    const client = await connect();
    await client.caughtUp(prod);
    expect(client.withoutHeartbeats).toMatchObject([{ type: 'hello' }, stale, { type: 'caught_up' }]);
    const stream = await openStream();
    await stream.control('caught_up');
    expect(stream.withoutHeartbeats).toMatchObject([{ type: 'hello' }, stale, { type: 'caught_up' }]);
    const from = client.messages.length;
    await grant();
    await freshness(client, 'fresh', from);
    const { entityId } = await insertAudit(database.pool, prod);
    await client.event(entityId);
    await stream.event(entityId);
    await early.close();
    await client.close();
    stream.response.destroy();
  });

  it('closes a plain client after staleTimeoutMs, because the plain dialect has no stale message', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const plain = await PlainClient.connect(server.wsUrl, query, { token });
    await revoke();
    expect(await plain.closed).toStrictEqual({
      code: 4005,
      reason: 'unavailable',
    });
    expect(plain.messages).toStrictEqual([]);
    // A flagcast.v1 client stays connected.
    expect(client.socket.readyState).toBe(client.socket.OPEN);
    await grant();
    await freshness(client, 'fresh');
    const back = await PlainClient.connect(server.wsUrl, query, { token });
    const { entityId } = await insertAudit(database.pool, prod);
    await back.received(({ entity_id: id }) => id === entityId);
    await back.close();
    await client.close();
  });

  it('shows in the metrics for how long it has been stale', async () => {
    const client = await connect();
    expect((await scrape(server.httpUrl)).get('flagcast_stale_seconds')).toBe(0);
    await revoke();
    await freshness(client, 'stale');
    const stale = await scrape(server.httpUrl);
    expect(stale.get('flagcast_ready')).toBe(0);
    expect(stale.get('flagcast_stale_seconds')).toBeGreaterThan(0);
    expect(stale.get('flagcast_read_failures_total')).toBeGreaterThan(1);
    await grant();
    await freshness(client, 'fresh');
    const fresh = await scrape(server.httpUrl);
    expect(fresh.get('flagcast_ready')).toBe(1);
    expect(fresh.get('flagcast_stale_seconds')).toBe(0);
    await client.close();
  });
});

describe('a server whose database', () => {
  beforeEach(async () => {
    await startServer();
  });

  it('G12: was stopped is stale, and fresh again after its start', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const first = await insertAudit(database.pool, prod);
    await client.event(first.entityId);
    process.kill(cluster.postgres.pid ?? 0, 'SIGINT');
    const stale = await freshness(client, 'stale');
    expect(stale.reason).toBe('database_unreachable');
    expect(await askReadiness()).toStrictEqual(staleReason(stale.since, 'the database does not answer'));
    await expect.poll(() => cluster.postgres.pid).toBe(null);
    await cluster.postgres.restart();
    await freshness(client, 'fresh');
    const second = await insertAudit(database.pool, prod);
    await client.event(second.entityId);
    expect(client.events.map(({ entity_id: id }) => id)).toStrictEqual([first.entityId, second.entityId]);
    await client.close();
  });

  it('does not answer a read is stale, and its heartbeats contain the time of the last complete read', async () => {
    const client = await connect();
    await client.caughtUp(prod);
    const { as_of: first } = await client.control('heartbeat');
    const { as_of: second } = await client.control('heartbeat', client.messages.length);
    expect(second).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    expect((second ?? '') > (first ?? '')).toBe(true);
    const from = client.messages.length;
    await withClient(database.url, async (admin) => {
      await admin.query('BEGIN; LOCK TABLE flagcast.event_log IN ACCESS EXCLUSIVE MODE');
      const stale = await freshness(client, 'stale');
      expect(stale.reason).toBe('read_overdue');
      expect(await askReadiness()).toStrictEqual(
        staleReason(stale.since, 'the database does not answer in time'),
      );
      const beat = await client.control('heartbeat', client.messages.length);
      expect(beat.as_of).toBe(stale.since);
      await admin.query('ROLLBACK');
    });
    await freshness(client, 'fresh', from);
    const last = await client.control('heartbeat', client.messages.length);
    expect((last.as_of ?? '') > (second ?? '')).toBe(true);
    await client.close();
  });
});

it('G12: a server is stale while the owner of the trigger functions may not read the requests', async () => {
  await startServer();
  const client = await connect();
  await client.caughtUp(prod);
  const owner = `owner_${database.name}`;
  await database.pool.query(`CREATE ROLE ${owner}; GRANT CREATE ON SCHEMA flagcast TO ${owner};
    GRANT INSERT ON flagcast.event_log TO ${owner}; ALTER FUNCTION flagcast.log_request OWNER TO ${owner}`);
  const stale = await freshness(client, 'stale');
  expect(await askReadiness()).toStrictEqual(
    staleReason(
      stale.since,
      `role ${owner}, which owns the trigger function of public.pending_change_entities, may not read public.pending_changes`,
    ),
  );
  await client.caughtUp(prod);
  const from = client.messages.length;
  await database.pool.query(`GRANT SELECT ON pending_changes TO ${owner}`);
  await freshness(client, 'fresh', from);
  // Requests may not have been logged.
  await client.control('resync', from);
  await client.close();
  await database.pool.query(
    `ALTER FUNCTION flagcast.log_request OWNER TO CURRENT_USER; DROP OWNED BY ${owner}; DROP ROLE ${owner}`,
  );
});

describe('a server of a database in which', () => {
  beforeEach(async () => {
    await startServer();
  });

  it.each([
    [
      'audit_log was replaced by another table',
      `BEGIN; ALTER TABLE audit_log RENAME TO audit_log_old;
       CREATE TABLE audit_log (LIKE audit_log_old INCLUDING ALL); COMMIT`,
      'the table public.audit_log does not have the trigger flagcast_log (was the table replaced?)',
    ],
    [
      'the trigger on audit_log was disabled',
      'ALTER TABLE audit_log DISABLE TRIGGER flagcast_log',
      'the trigger flagcast_log on public.audit_log is disabled',
    ],
    [
      'the trigger on pending_changes was dropped',
      'DROP TRIGGER flagcast_log ON pending_changes',
      'the table public.pending_changes does not have the trigger flagcast_log (was the table replaced?)',
    ],
    [
      'another table inherits from audit_log',
      'CREATE TABLE "Audit 2026" () INHERITS (audit_log)',
      'the table "Audit 2026", which has rows of public.audit_log, does not have the trigger flagcast_log, or it is disabled',
    ],
  ])(
    'G12: %s is stale with the reason, and fresh after install, with a resync for clients',
    async (_, damage, problem) => {
      const clients = [await connect(), await connect()];
      for (const client of clients) await client.caughtUp(prod);
      await database.pool.query(damage);
      for (const client of clients) {
        const stale = await freshness(client, 'stale');
        expect(stale.reason).toBe('triggers_missing');
        expect(await askReadiness()).toStrictEqual(staleReason(stale.since, problem));
        // Events may not have been logged.
        expect(await client.control('resync')).toMatchObject({
          environment_id: prod.environmentId,
          reason: 'history_changed',
        });
        await client.caughtUp(prod);
      }
      const from = clients.map(({ messages }) => messages.length);
      // On a busy machine the server's reads take longer than the default waits for them.
      await withClient(database.url, async (client) => await install(client, { lockTimeoutMs: 10_000 }));
      for (const [index, client] of clients.entries()) {
        await freshness(client, 'fresh', from[index]);
        expect(await client.control('resync', from[index])).toMatchObject({ reason: 'history_changed' });
        await client.caughtUp(prod);
      }
      expect((await askReadiness()).status).toBe(200);
      const { entityId } = await insertAudit(database.pool, prod);
      for (const client of clients) {
        await client.event(entityId);
        await client.close();
      }
    },
  );
});

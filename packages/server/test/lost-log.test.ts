import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { install } from '../src/install/install.js';
import { examine } from '../src/install/doctor/examine.js';
import {
  createTestDatabase,
  insertAudit,
  insertRequest,
  seedProject,
  type TestDatabase,
  withClient,
} from './database.js';
import { createUser, nextEvent, startTestServer, type TestServer } from './server.js';
import { type TestChannel, V1Client } from './v1-client.js';

const cleanUps: (() => unknown)[] = [];
let database: TestDatabase;
let channel: TestChannel;
let token: string;
let server: TestServer;

beforeEach(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  cleanUps.push(async () => await database.drop());
  ({ token } = await createUser(database.pool, 'root', { superuser: true }));
  const { projectId, environments } = await seedProject(database.pool);
  channel = { projectId, environmentId: environments.prod };
  server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
  cleanUps.push(async () => await server.close());
});

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function connect(): Promise<V1Client> {
  const client = await V1Client.connect(server.wsUrl, { token });
  cleanUps.push(async () => await client.close());
  return client;
}

/** The cursor of a client that is away from now on. */
async function leave(): Promise<string> {
  const client = await connect();
  const cursor = await client.caughtUp(channel);
  await client.close();
  return cursor;
}

describe('G5: a client that returns', () => {
  it('gets resync if steps of requests could not be logged while it was away, and the same triggers log now', async () => {
    const cursor = await leave();
    const owner = `log_owner_${process.pid}`;
    const { lifecycle } = server.flagcast;
    const isBlind = nextEvent(lifecycle, 'reader:triggers', ({ problem }) => problem !== null);
    await database.pool.query(`CREATE ROLE ${owner};
      GRANT USAGE, CREATE ON SCHEMA flagcast TO ${owner}; GRANT USAGE ON SCHEMA public TO ${owner};
      GRANT ALL ON ALL TABLES IN SCHEMA flagcast TO ${owner}; ALTER FUNCTION flagcast.log_request OWNER TO ${owner}`);
    cleanUps.push(async () => {
      await database.pool.query(
        `ALTER FUNCTION flagcast.log_request OWNER TO CURRENT_USER; DROP OWNED BY ${owner}; DROP ROLE ${owner}`,
      );
    });
    await isBlind;
    const stays = await connect();
    await stays.caughtUp(channel);
    await insertRequest(database.pool, channel);
    expect(await stays.control('resync')).toMatchObject({ reason: 'history_changed' });
    const sees = nextEvent(lifecycle, 'reader:triggers', ({ problem }) => problem === null);
    await database.pool.query(`GRANT SELECT ON pending_changes, pending_change_entities TO ${owner}`);
    await sees;
    await nextEvent(lifecycle, 'reader:read');
    const returns = await connect();
    const answer = await returns.subscribe(channel, cursor);
    expect(answer).toMatchObject({ type: 'resync', reason: 'cursor_expired' });
  });
});

it('OPERATIONS has a statement after which every cursor is refused, for a restored copy of the data folder', async () => {
  const cursor = await leave();
  const guide = await readFile(new URL('../../../docs/OPERATIONS.md', import.meta.url), 'utf8');
  const [, statement = ''] = /`(ALTER TABLE audit_log [^`]*)`/.exec(guide) ?? [];
  const lost = nextEvent(server.flagcast.lifecycle, 'reader:history-lost');
  await database.pool.query(statement);
  expect((await lost).reason).toContain('triggers');
  await nextEvent(server.flagcast.lifecycle, 'reader:read');
  const returns = await connect();
  const answer = await returns.subscribe(channel, cursor);
  expect(answer).toMatchObject({ type: 'resync', reason: 'history_changed' });
  const { findings } = await examine(database.url);
  expect(findings.find(({ id }) => id === 'log')).toMatchObject({ severity: 'ok' });
});

describe('DROP SCHEMA flagcast CASCADE by mistake', () => {
  it('gives clients a new snapshot, and after install the server reads the event log again', async () => {
    const cursor = await leave();
    const stays = await connect();
    await stays.caughtUp(channel);
    const { lifecycle } = server.flagcast;
    const degraded = nextEvent(lifecycle, 'reader:started');
    await database.pool.query('DROP SCHEMA flagcast CASCADE');
    expect(await degraded).toMatchObject({ guarantee: 'overlap' });
    expect(await stays.control('resync')).toMatchObject({ reason: 'history_changed' });
    const { findings } = await examine(database.url);
    expect(findings.find(({ id }) => id === 'installation')).toMatchObject({ severity: 'warning' });
    const unlogged = await insertAudit(database.pool, channel);
    const later = await connect();
    await later.caughtUp(channel);

    const repaired = nextEvent(lifecycle, 'reader:started');
    await withClient(database.url, async (client) => await install(client));
    expect(await repaired).toMatchObject({ guarantee: 'exact' });
    expect(await later.control('resync')).toMatchObject({ reason: 'history_changed' });
    const returns = await connect();
    expect(await returns.subscribe(channel, cursor)).toMatchObject({ type: 'resync' });
    await returns.caughtUp(channel);
    const logged = await insertAudit(database.pool, channel);
    await returns.event(logged.entityId);
    expect(returns.events.map(({ entity_id: id }) => id)).toEqual([logged.entityId]);
    expect(unlogged.entityId).not.toBe(logged.entityId);
  });
});

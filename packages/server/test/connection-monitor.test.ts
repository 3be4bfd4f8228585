import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createTestCluster,
  insertAudit,
  seedProject,
  type SeededProject,
  type TestCluster,
  type TestDatabase,
  withClient,
} from './database.js';
import { PlainClient } from './plain-client.js';
import { FaultyProxy } from '../../../testing/testkit/faulty-proxy.ts';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  type TestServer,
  type TestUser,
} from './server.js';
import { V1Client } from './v1-client.js';

let cluster: TestCluster;
let database: TestDatabase;
let server: TestServer;
/** The server's way to the database. */
let relay: FaultyProxy;
let project: SeededProject;
let root: TestUser;

beforeAll(async () => {
  // Its own cluster: it counts the queries.
  cluster = await createTestCluster({ shared_preload_libraries: 'pg_stat_statements' });
  database = await cluster.createDatabase({ schema: 'tables' });
  await database.pool.query('CREATE EXTENSION pg_stat_statements');
  root = await createUser(database.pool, 'root', { superuser: true, ttlMs: 600_000 });
  project = await seedProject(database.pool);
  const url = new URL(database.url);
  relay = await FaultyProxy.open([Number(url.port)]);
  url.port = String(relay.port);
  server = await startTestServer(url.toString(), {
    database: { pollIntervalMs: 50 },
    timeouts: { checkIntervalMs: 50, pingIntervalMs: 1_000, recheckIntervalMs: 100 },
  });
});

afterAll(async () => {
  await server.close();
  await relay.close();
  await database.drop();
  await cluster.remove();
});

async function connect(
  { token }: TestUser,
  socketOptions: { autoPong?: boolean } = {},
): Promise<PlainClient> {
  const query = { project_id: project.projectId, env: 'prod' };
  return await PlainClient.connect(server.wsUrl, query, { token, socketOptions });
}

async function member(name: string, role = 'project_member'): Promise<TestUser> {
  const user = await createUser(database.pool, name, { ttlMs: 600_000 });
  await addMember(database.pool, project.projectId, user.id, role);
  return user;
}

/** Connected, and still served. */
async function expectLive(...clients: PlainClient[]): Promise<void> {
  const { entityId } = await insertAudit(database.pool, {
    projectId: project.projectId,
    environmentId: project.environments.prod,
  });
  for (const client of clients) await client.received(({ entity_id: id }) => id === entityId);
}

async function closeAll(...clients: PlainClient[]): Promise<void> {
  for (const client of clients) await client.close();
}

describe('an open connection', () => {
  it('is closed when its token expires, and the client reconnects with a new one', async () => {
    const bystander = await connect(root);
    const brief = await createUser(database.pool, 'brief', { superuser: true, ttlMs: 3_000 });
    const client = await connect(brief);
    expect(await client.closed).toStrictEqual({ code: 4001, reason: 'token_expired' });
    const claims = JSON.parse(Buffer.from(brief.token.split('.')[1] ?? '', 'base64url').toString()) as {
      exp: number;
    };
    expect(Date.now()).toBeGreaterThanOrEqual(claims.exp * 1_000);
    await expectLive(bystander);
    await closeAll(bystander);
  });

  it.each([
    ['leaves the project', 'DELETE FROM memberships WHERE user_id = $1'],
    ['gets a role without project.view', 'UPDATE memberships SET role_id = $2 WHERE user_id = $1'],
    ['is deactivated', 'UPDATE users SET is_active = false WHERE id = $1'],
    ['is deleted', 'DELETE FROM users WHERE id = $1'],
  ])('G9: is closed when its user %s, and those of other users stay', async (change, sql) => {
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO roles (key, name) VALUES ($1, $1) RETURNING id`,
      [`blind: ${change}`],
    );
    const user = await member(`user who ${change}`);
    const others = [await connect(root), await connect(await member(`other user, ${change}`))];
    const mine = [await connect(user), await connect(user)];
    await database.pool.query(sql, sql.includes('$2') ? [user.id, rows[0]?.id] : [user.id]);
    for (const client of mine) {
      expect(await client.closed).toStrictEqual({
        code: 4503,
        reason: 'forbidden',
      });
    }
    await expectLive(...others);
    await closeAll(...others);
  });

  it('is closed when its role loses project.view, and those of other roles stay', async () => {
    const others = [await connect(root), await connect(await member('of another role'))];
    const client = await connect(await member('viewer', 'project_viewer'));
    await database.pool.query(
      `DELETE FROM role_permissions WHERE role_id = (SELECT id FROM roles WHERE key = 'project_viewer')
       AND permission_id = (SELECT id FROM permissions WHERE key = 'project.view')`,
    );
    expect((await client.closed).code).toBe(4503);
    await expectLive(...others);
    await closeAll(...others);
  });

  it('is dropped when the client does not answer pings', async () => {
    const { lifecycle } = server.flagcast;
    const answering = await connect(root);
    let pings = 0;
    answering.socket.on('ping', () => (pings += 1));
    const closed = nextEvent(lifecycle, 'connection:closed');
    const silent = await connect(root, { autoPong: false });
    expect(await closed).toMatchObject({ code: 4004, reason: 'unresponsive' });
    await silent.closed;
    expect(pings).toBeGreaterThan(0);
    await expectLive(answering);
    await closeAll(answering);
  });
});

describe('an idle connection', () => {
  it('is sent an empty pong, so that no proxy closes it', async () => {
    const quiet = await startTestServer(database.url, {
      timeouts: { keepAliveIntervalMs: 100, heartbeatIntervalMs: 50 },
    });
    const query = { project_id: project.projectId, env: 'prod' };
    const plain = await PlainClient.connect(quiet.wsUrl, query, { token: root.token });
    await once(plain.socket, 'pong');
    const v1 = await V1Client.connect(quiet.wsUrl, { token: root.token, query });
    await v1.message(({ type }) => type === 'heartbeat');
    let pongs = 0;
    v1.socket.on('pong', () => (pongs += 1));
    for (let count = 0; count < 3; count += 1) await once(plain.socket, 'pong');
    // Its heartbeats keep it open.
    expect(pongs).toBe(0);
    await closeAll(plain);
    v1.socket.close();
    await v1.closed;
    await quiet.close();
  });
});

describe('the recheck of rights', () => {
  it('is one query for all connections', async () => {
    const { lifecycle } = server.flagcast;
    const clients: PlainClient[] = [];
    for (let count = 0; count < 20; count += 1) {
      const user = await member(`member ${count}`);
      clients.push(await connect(user), await connect(user));
    }
    const all = (rechecked: { connections: number }): boolean => rechecked.connections === clients.length;
    await withClient(database.url, async (observer) => {
      /** The queries of the server that check a permission. */
      const queries = async (): Promise<number> => {
        const { rows } = await observer.query<{ calls: string }>(
          `SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements
           WHERE query LIKE '%is_active%' AND query NOT LIKE '%pg_stat_statements%'
             AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        );
        return Number(rows[0]?.calls);
      };
      await nextEvent(lifecycle, 'access:rechecked', all);
      let rechecks = 0;
      const before = await queries();
      const count = (): void => void (rechecks += 1);
      lifecycle.on('access:rechecked', count);
      for (let times = 0; times < 5; times += 1) await nextEvent(lifecycle, 'access:rechecked', all);
      const during = (await queries()) - before;
      lifecycle.off('access:rechecked', count);
      expect(during).toBeGreaterThan(3);
      // One may be under way.
      expect(during).toBeLessThanOrEqual(rechecks + 1);
    });
    await closeAll(...clients);
  });

  it('closes no connection while the database is down', async () => {
    const { lifecycle } = server.flagcast;
    const clients = [await connect(root), await connect(await member('patient'))];
    const { port } = relay;
    await relay.close();
    for (let failures = 0; failures < 3; failures += 1) await nextEvent(lifecycle, 'access:failed');
    for (const { socket } of clients) expect(socket.readyState).toBe(socket.OPEN);
    const rechecked = nextEvent(lifecycle, 'access:rechecked');
    relay = await FaultyProxy.open([Number(new URL(database.url).port)], { port });
    expect(await rechecked).toMatchObject({ connections: clients.length, closed: 0 });
    await expectLive(...clients);
    await closeAll(...clients);
  });
});

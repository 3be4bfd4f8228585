import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestCluster, insertAudit, type TestCluster, withClient } from './database.js';
import { type Answer, type RestFixture, createRestFixture, send } from './rest-fixture.js';
import { createUser, nextEvent } from './server.js';
import { V1Client } from './v1-client.js';

const databaseConnections = 8;
/** Statements that need no lock must end sooner, also on a busy machine. */
const queryTimeoutMs = 3_000;
const rounds = 2;

const cleanUps: (() => void)[] = [];
let cluster: TestCluster;
let rest: RestFixture;

beforeAll(async () => {
  cluster = await createTestCluster({ max_connections: '20', superuser_reserved_connections: '0' });
  rest = await createRestFixture(
    {
      database: { connections: databaseConnections },
      timeouts: { queryTimeoutMs, readTimeoutMs: queryTimeoutMs },
    },
    await cluster.createDatabase({ schema: 'tables' }),
  );
});

afterAll(async () => {
  for (const cleanUp of cleanUps) cleanUp();
  await rest.close();
  await cluster.remove();
});

/** The sessions of the server, and whether the host could connect. */
async function countSessions(): Promise<number> {
  return await withClient(rest.database.url, async (host) => {
    const { rows } = await host.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND application_name LIKE 'flagcast%'`,
    );
    return rows[0]?.count ?? 0;
  });
}

it('the sessions of a server stay within its budget while audit_log is locked, and events flow again afterwards', async () => {
  const { pool, shop, users, server } = rest;
  const channel = { projectId: shop.projectId, environmentId: shop.environments.prod };
  const feature = await rest.addFeature();
  const version = await rest.version(feature.id, 'prod');
  const watching = await V1Client.connect(server.wsUrl, { token: users.alice.token });
  await watching.caughtUp(channel);
  const holder = await pool.connect();
  cleanUps.push(() => holder.release(true));
  const query = `project_id=${shop.projectId}&env=prod`;
  const statuses = { audit: new Set<number>(), me: new Set<number>(), write: new Set<number>() };
  const page = async (_page: unknown, number: number): Promise<void> => {
    // A user may have two expensive requests at once.
    const { token } = await createUser(pool, `viewer ${number}`, { superuser: true });
    const ask = async (method: string, path: string, body?: unknown): Promise<Answer> =>
      await send(server.httpUrl, method, path, body, { Authorization: `Bearer ${token}` });
    for (let round = 0; round < rounds; round += 1) {
      const [audit, me, write] = await Promise.all([
        ask('GET', `/api/audit?${query}`),
        ask('GET', '/api/auth/me'),
        ask('PATCH', `/api/features/${feature.id}`, { env: 'prod', version, enabled: true }),
        ask('GET', `/api/features?${query}`),
        V1Client.connect(server.wsUrl, { token }).then(async (client) => await client.close()),
      ]);
      statuses.audit.add(audit.status);
      statuses.me.add(me.status);
      statuses.write.add(write.status);
      expect(audit.headers.get('retry-after')).not.toBeNull();
    }
  };
  await holder.query('BEGIN; LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE');
  const failures: (string | undefined)[] = [];
  server.flagcast.lifecycle.on('access:failed', ({ request }) => failures.push(request));
  const late = rest.ask('alice', 'GET', `/api/audit?${query}`);
  const asked = new AbortController();
  let most = 0;
  const counting = (async () => {
    while (!asked.signal.aborted) most = Math.max(most, await countSessions());
  })();
  await Promise.all(Array.from({ length: 10 }, page));
  asked.abort();
  await counting;
  expect(statuses).toEqual({ audit: new Set([503]), me: new Set([200]), write: new Set([503]) });
  expect(most).toBeLessThanOrEqual(databaseConnections);

  expect(failures).toContain('GET /api/audit');
  expect((await late).body).toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/^The database did not answer in time/) as string,
  });

  const recovered = nextEvent(server.flagcast.lifecycle, 'reader:read');
  await holder.query('COMMIT');
  await recovered;
  const { entityId } = await insertAudit(pool, channel);
  await watching.event(entityId);
  expect((await rest.ask('alice', 'GET', `/api/audit?${query}`)).status).toBe(200);
  await watching.close();
});

import { randomUUID } from 'node:crypto';
import { afterAll, expect, inject, it } from 'vitest';
import { signToken } from '../../../server/src/auth/sign-token.js';
import { install } from '../../../server/src/install/install.js';
import { databaseUrl, withClient } from '../../../server/test/cluster-template.js';
import { createTestPool, insertAudit, type TestDatabase } from '../../../server/test/database.js';
import { createRestFixture, type RestFixture } from '../../../server/test/rest-fixture.js';
import { startTestServer, testSecret, type TestServer } from '../../../server/test/server.js';

const undo: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const each of undo.reverse()) await each();
});

async function createEncodedFixture(encoding: string): Promise<RestFixture> {
  const admin = inject('clusterUrl');
  const name = `test_${encoding.toLowerCase()}_${randomUUID().slice(0, 8)}`;
  await withClient(admin, async (client) => {
    await client.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING '${encoding}' LOCALE 'C'`);
  });
  const url = databaseUrl(admin, name);
  const pool = createTestPool(url);
  const drop = async (): Promise<void> => {
    await pool.end();
    await withClient(admin, async (client) => await client.query(`DROP DATABASE ${name} WITH (FORCE)`));
  };
  const database: TestDatabase = { name, url, pool, drop };
  await withClient(url, async (client) => await install(client, { tables: true }));
  const rest = await createRestFixture({}, database);
  undo.push(async () => await rest.close());
  return rest;
}

/** Asks for the newest entries of prod that match. */
async function search(rest: RestFixture, query: Record<string, string>) {
  const parameters = new URLSearchParams({ project_id: rest.shop.projectId, env: 'prod', ...query });
  const [page, counts] = await Promise.all(
    [
      `/api/audit?${parameters.toString()}`,
      `/api/audit/histogram?${parameters.toString()}&since=2026-01-01T00:00:00Z&until=2100-01-01T00:00:00Z&buckets=1`,
    ].map(async (path) => await rest.ask('carol', 'GET', path)),
  );
  expect([page?.status, counts?.status]).toStrictEqual([200, 200]);
  const entries = page?.body['entries'] as { audit_id: string; username: string }[];
  expect(counts?.body['counts']).toStrictEqual([entries.length]);
  return entries.map(({ audit_id: id, username }) => [id, username]);
}

it('the history of a SQL_ASCII database has texts that are not UTF-8, and filters find the others', async () => {
  const rest = await createEncodedFixture('SQL_ASCII');
  const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.prod };
  const muller = await insertAudit(rest.pool, { ...place, username: 'Müller' });
  const latin = await insertAudit(rest.pool, { ...place, username: 'x' });
  await rest.pool.query(String.raw`UPDATE audit_log SET username = E'M\xfcller' WHERE id = ${latin.id}`);
  expect(await search(rest, {})).toStrictEqual([
    [latin.id, 'M\uFFFDller'],
    [muller.id, 'Müller'],
  ]);
  expect(await search(rest, { username: 'Müller' })).toStrictEqual([[muller.id, 'Müller']]);
  expect(await search(rest, { username: 'M\uFFFDller' })).toStrictEqual([]);
  const response = await fetch(
    `${rest.server.httpUrl}/api/audit/export?project_id=${place.projectId}&env=prod&format=csv`,
    { headers: { Authorization: `Bearer ${rest.users.carol.token}` } },
  );
  const file = new TextDecoder('utf-8', { fatal: true }).decode(await response.arrayBuffer());
  expect(file.match(/M.ller/gu)).toStrictEqual(['M\uFFFDller', 'Müller']);
});

it('a filter that the encoding of the database cannot express finds nothing', async () => {
  const rest = await createEncodedFixture('LATIN1');
  const place = { projectId: rest.shop.projectId, environmentId: rest.shop.environments.prod };
  const { id } = await insertAudit(rest.pool, { ...place, username: 'Müller' });
  expect(await search(rest, { username: 'Müller' })).toStrictEqual([[id, 'Müller']]);
  expect(await search(rest, { username: 'Мюллер' })).toStrictEqual([]);
});

it('an environment or user that the encoding of the database cannot express does not exist, and others at the same time do', async () => {
  const rest = await createEncodedFixture('EUC_JP');
  const { projectId, environments } = rest.shop;
  const ask = async (server: TestServer, token: string, channel: Record<string, string>) => {
    const query = new URLSearchParams({ project_id: projectId, ...channel }).toString();
    const response = await fetch(`${server.httpUrl}/api/snapshot?${query}`, {
      headers: { Authorization: `Bearer ${token}` },
    });
    return [response.status, ((await response.json()) as { code?: string }).code];
  };
  const { token } = rest.users.carol;
  const named = async (username: string) =>
    await signToken({ secret: testSecret, userId: null, username, ttlMs: 60_000 });
  const asked = [
    ask(rest.server, token, { env: '\u{1F600}' }),
    ask(rest.server, token, { env: 'prod' }),
    ask(rest.server, token, { env: '本番' }),
    ask(rest.server, rest.users.dave.token, { env: '\u{1F600}' }),
    ask(rest.server, await named('\u{1F600}'), { env: 'prod' }),
    ask(rest.server, token, { env: 'dev' }),
  ];
  expect(await Promise.all(asked)).toStrictEqual([
    [404, 'unknown_environment'],
    [200, undefined],
    [404, 'unknown_environment'],
    [403, 'forbidden'],
    [401, 'unknown_user'],
    [200, undefined],
  ]);
  const server = await startTestServer(rest.database.url, {
    auth: {
      secret: testSecret,
      authorizeSql: `SELECT u.username AS user_id, p.id AS project_id, e.id AS environment_id, e.key AS environment_key
        FROM users u, projects p JOIN environments e ON e.project_id = p.id WHERE u.username = ANY ($1)`,
    },
  });
  undo.push(async () => await server.close());
  const carol = await named('carol');
  const alsoAsked = [
    ask(server, carol, { env: 'prod' }),
    ask(server, carol, { env: 'prod', project_id: '\u{1F600}' }),
    ask(server, await named('\u{1F600}'), { env_id: environments.prod }),
    ask(server, carol, { env: '\u{1F600}' }),
    ask(server, carol, { env: 'dev' }),
  ];
  expect(await Promise.all(alsoAsked)).toStrictEqual([
    [200, undefined],
    [403, 'forbidden'],
    [403, 'forbidden'],
    [404, 'unknown_environment'],
    [200, undefined],
  ]);
});

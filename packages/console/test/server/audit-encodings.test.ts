import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, expect, inject, it } from 'vitest';
import { install } from '../../../server/src/install/install.js';
import { databaseUrl, withClient } from '../../../server/test/cluster-template.js';
import { insertAudit, type TestDatabase } from '../../../server/test/database.js';
import { createRestFixture, type RestFixture } from '../../../server/test/rest-fixture.js';

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
  const pool = new pg.Pool({ connectionString: url, application_name: 'test' });
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

import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { install } from '../src/install/install.js';
import { databaseUrl, withClient } from './cluster-template.js';
import { createTestPool, insertAudit, seedProject } from './database.js';
import { startTestReader } from './reader.js';
import { createUser, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

const name = `test_ascii_${randomUUID().slice(0, 8)}`;
const admin = inject('clusterUrl');
const url = databaseUrl(admin, name);
let pool: pg.Pool;

/** SQL_ASCII: PostgreSQL stores any bytes, and refuses to send those that are not UTF-8. */
beforeAll(async () => {
  await withClient(admin, async (client) => {
    await client.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`);
  });
  await withClient(url, async (client) => await install(client, { tables: true }));
  pool = createTestPool(url);
});

afterAll(async () => {
  await pool.end();
  await withClient(admin, async (client) => await client.query(`DROP DATABASE ${name} WITH (FORCE)`));
});

it('G1: an event with a text that cannot be decoded arrives in its channel, whose ids are not ASCII', async () => {
  const { arrival } = await startTestReader({ url }, { pollIntervalMs: 20 });
  await pool.query(
    String.raw`SELECT flagcast.record_event('audit', 'строка', 'проект', 'среда', 'прод', 'flag', 'флаг', 'updated',
      actor => E'J\xfcrgen \\ x')`,
  );
  expect(await arrival('флаг')).toMatchObject({
    ...{ projectId: 'проект', environmentId: 'среда', environmentKey: 'прод', rowId: 'строка' },
    actor: String.raw`J\374rgen \\ x`,
  });
});

it('G5: a client that resumes over an event whose state cannot be decoded gets a resync, and is live again', async () => {
  const { projectId, environments } = await seedProject(pool);
  const channel = { projectId, environmentId: environments.prod };
  const featureId = randomUUID();
  const { token } = await createUser(pool, 'root', { superuser: true });
  const first = await startTestServer(url);
  const before = await V1Client.connect(first.wsUrl, { token });
  const cursor = await before.caughtUp(channel);
  await before.close();
  await first.close();
  await pool.query(
    String.raw`INSERT INTO features (id, project_id, key, name, kind) VALUES ('${featureId}', '${projectId}', 'f', E'caf\xe9', 'simple')`,
  );
  await insertAudit(pool, { ...channel, featureId });
  const second = await startTestServer(url);
  const client = await V1Client.connect(second.wsUrl, { token });
  expect(await client.subscribe(channel, cursor)).toMatchObject({ type: 'resync' });
  const response = await fetch(
    `${second.httpUrl}/api/snapshot?project_id=${projectId}&env_id=${channel.environmentId}`,
    { headers: { Authorization: `Bearer ${token}` } },
  );
  const snapshot = (await response.json()) as { cursor: string };
  expect(snapshot).toMatchObject({ features: [{ id: featureId, name: String.raw`caf\351` }] });
  await client.caughtUp(channel, snapshot.cursor);
  await client.close();
  await second.close();
});

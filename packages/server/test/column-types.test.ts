import { expect, it, onTestFinished } from 'vitest';
import { examine } from '../src/install/doctor/examine.js';
import { createTestDatabase, insertRequest, seedProject } from './database.js';
import { createUser, nextEvent, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

it('a server reads flags and requests whose columns get other types while it runs', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const { pool } = database;
  const { token } = await createUser(pool, 'root', { superuser: true });
  const { projectId, environments } = await seedProject(pool);
  const channel = { projectId, environmentId: environments.prod };
  const server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
  onTestFinished(async () => await server.close());
  await pool.query(`
    CREATE TYPE environment_key AS ENUM ('prod', 'stage', 'dev');
    ALTER TABLE environments ALTER COLUMN key TYPE environment_key USING key::text::environment_key;
    ALTER TABLE pending_changes ALTER COLUMN change TYPE json;
    ALTER TABLE pending_change_entities ALTER COLUMN entity_id TYPE text;
    ALTER TABLE audit_log ALTER COLUMN entity_id TYPE text;
    ALTER TABLE feature_params ALTER COLUMN default_value DROP DEFAULT, ALTER COLUMN default_value TYPE jsonb USING '{"a":1}',
      ALTER COLUMN enabled DROP DEFAULT, ALTER COLUMN enabled TYPE int USING 1,
      ALTER COLUMN default_value SET DEFAULT '{"a":1}', ALTER COLUMN enabled SET DEFAULT 1`);
  const client = await V1Client.connect(server.wsUrl, { token });
  onTestFinished(async () => await client.close());
  await client.caughtUp(channel);
  const { id, featureId } = await insertRequest(pool, channel);
  const state = { id: featureId, enabled: true, default_value: '{"a": 1}' };
  expect(await client.step(id, 'pending')).toMatchObject({
    feature: state,
    pending_change: { id, reason: 'because' },
  });
  const answer = await fetch(`${server.httpUrl}/api/snapshot?project_id=${projectId}&env=prod`, {
    headers: { authorization: `Bearer ${token}` },
  });
  expect(await answer.json()).toMatchObject({
    features: [state],
    pending_changes: [{ id, reason: 'because' }],
  });
});

it('doctor reports columns without which flags cannot be read, and clients of the server get new snapshots', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => await database.drop());
  const server = await startTestServer(database.url, { database: { pollIntervalMs: 50 } });
  onTestFinished(async () => await server.close());
  const lost = nextEvent(server.flagcast.lifecycle, 'reader:history-lost');
  await database.pool.query('ALTER TABLE features RENAME COLUMN kind TO sort');
  expect((await lost).reason).toContain("the host's tables");
  const { findings } = await examine(database.url);
  expect(findings.find(({ id }) => id === 'states')).toMatchObject({
    severity: 'warning',
    message: expect.stringContaining('column f.kind does not exist') as string,
  });
});

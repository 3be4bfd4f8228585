import { expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, insertAudit, installRole, seedProject } from './database.js';
import { createUser, nextEvent, startTestServer } from './server.js';
import { V1Client } from './v1-client.js';

const role = `resume_reader_${process.pid}`;

it('G5: a client gets every missed event from a server whose rights on the features changed while it was away', async () => {
  const database = await createTestDatabase({ schema: 'tables' });
  onTestFinished(async () => {
    await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`).catch(() => undefined);
    await database.drop();
  });
  const roleUrl = await installRole(database, role);
  const { token } = await createUser(database.pool, 'root', { superuser: true });
  const { projectId, environments } = await seedProject(database.pool);
  const channel = { projectId, environmentId: environments.prod };
  const options = { database: { pollIntervalMs: 50 } };

  const before = await startTestServer(roleUrl, options);
  const leaving = await V1Client.connect(before.wsUrl, { token });
  await leaving.caughtUp(channel);
  const cursor = await leaving.settled(database.pool);
  await leaving.close();
  await before.close();
  const first = await insertAudit(database.pool, channel);

  // Starts after the first event and without the states of features: snapshots lack them, so a cursor of before is refused.
  await database.pool.query(`REVOKE SELECT ON features FROM ${role}`);
  const server = await startTestServer(roleUrl, options);
  onTestFinished(async () => await server.close());
  const early = await V1Client.connect(server.wsUrl, { token });
  expect(await early.subscribe(channel, cursor)).toMatchObject({ type: 'resync', reason: 'history_changed' });
  await early.caughtUp(channel);
  const second = await insertAudit(database.pool, channel);
  await early.event(second.entityId);

  const lost = nextEvent(server.flagcast.lifecycle, 'reader:history-lost');
  await database.pool.query(`GRANT SELECT ON features TO ${role}`);
  await database.pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE usename = $1 AND application_name = 'flagcast reader'`,
    [role],
  );
  await lost;
  // The states can be read again: the cursor is of the same history.
  const late = await V1Client.connect(server.wsUrl, { token });
  await late.caughtUp(channel, cursor);
  expect(late.events.map(({ entity_id: id }) => id)).toEqual([first.entityId, second.entityId]);
});

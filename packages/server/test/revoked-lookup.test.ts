import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AuthorizedChannel } from '../src/auth/host-callbacks.js';
import { createTestDatabase, seedProject, type SeededProject, type TestDatabase } from './database.js';
import {
  addMember,
  createUser,
  nextEvent,
  startTestServer,
  testSecret,
  type TestServer,
  type TestUser,
} from './server.js';
import { V1Client } from './v1-client.js';

let database: TestDatabase;
let server: TestServer;
let project: SeededProject;
let ann: TestUser;
/** Called with the answer of the host before it is given. */
let onAnswer: () => Promise<void> = async () => await Promise.resolve();

beforeAll(async () => {
  database = await createTestDatabase({ schema: 'tables' });
  project = await seedProject(database.pool);
  ann = await createUser(database.pool, 'ann');
  server = await startTestServer(database.url, {
    auth: {
      secret: testSecret,
      authorize: async (userIds) => {
        const { rows } = await database.pool.query<AuthorizedChannel>(
          `SELECT m.user_id::text AS "userId", e.project_id AS "projectId", e.id::text AS "environmentId",
             e.key AS "environmentKey"
           FROM memberships m JOIN environments e USING (project_id) WHERE m.user_id::text = ANY ($1)`,
          [userIds],
        );
        await onAnswer();
        return rows;
      },
    },
    timeouts: { heartbeatIntervalMs: 50 },
  });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

it.each([
  ['a channel', 'error'],
  ['the approvals feed', 'caught_up'],
])('does not open %s with rights that were revoked during their look-up', async (what, type) => {
  await addMember(database.pool, project.projectId, ann.id, 'project_viewer');
  const client = await V1Client.connect(server.wsUrl, { token: ann.token });
  await client.settled(database.pool);
  onAnswer = async () => {
    onAnswer = async () => await Promise.resolve();
    const changed = nextEvent(server.flagcast.lifecycle, 'rights:changed');
    await database.pool.query('DELETE FROM memberships WHERE user_id = $1', [ann.id]);
    await changed;
  };
  const wanted =
    what === 'a channel' ? { project_id: project.projectId, env: 'prod' } : { feed: 'approvals' as const };
  const answer = await client.ask({ type: 'subscribe', ...wanted }, 'caught_up', 'error');
  expect(answer.type).toBe(type);
  await database.pool.query(
    `WITH c AS (
       INSERT INTO pending_changes (id, project_id, environment_id, requested_by, change)
       VALUES ('00000000-0000-4000-8000-000000000000', $1, $2, 'eve', '{}')
       ON CONFLICT DO NOTHING
     )
     INSERT INTO pending_change_entities (pending_change_id, entity, entity_id)
     VALUES ('00000000-0000-4000-8000-000000000000', 'feature', gen_random_uuid())`,
    [project.projectId, project.environments.prod],
  );
  await client.settled(database.pool);
  expect(client.events).toStrictEqual([]);
  await client.close();
});
